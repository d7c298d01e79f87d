//! The host, one for each test: counters, a clock, and RAM made of leaked boxes.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    string::String,
    sync::{Arc, Weak},
    vec,
    vec::Vec,
};
use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use std::sync::{Mutex, OnceLock};

use axaddrspace::{AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, PcpuMask};
use axerrno::AxResult;
use axvcpu::{AxVCpuExitReason, AxVCpuHal, DeviceAccess, HypercallError, LineLevel, Mailbox, Wait};

use crate::{AxVMHal, VmLink};

const WORLDS: usize = 74;
pub(super) const PCPUS: usize = 8;

/// One test's host and guest.
pub(crate) struct World {
    pub(crate) kicks: [AtomicU64; PCPUS],
    pub(crate) now: AtomicU64,
    pub(crate) wants_reschedule: AtomicBool,
    pub(crate) turn_is_over: AtomicBool,
    pub(crate) events: Mutex<Vec<(usize, Event)>>,
    pub(crate) fail: Mutex<Vec<Failure>>,
    /// The waits that end the vCPU's halt by themselves.
    pub(crate) deadline: AtomicU64,
    pub(crate) pending: AtomicBool,
    /// How the vCPUs wait.
    pub(crate) wait: Mutex<Wait>,
    /// Frames that the host can still give, and those that it gave.
    pub(crate) frames_left: AtomicUsize,
    pub(crate) frames_out: AtomicUsize,
    /// Whom each flush of nested translations concerned.
    pub(crate) flushes: Mutex<Vec<PcpuMask>>,
    pub(super) link: Mutex<Option<Weak<dyn VmLink>>>,
    scripts: Mutex<Vec<VecDeque<Step>>>,
    pool: Mutex<Vec<(u64, FrameSize)>>,
    /// The test whose world it is, by its thread's name.
    owner: OnceLock<String>,
}

/// What happened to a vCPU, or on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Setup,
    Start(u64, u64),
    Bind,
    Unbind,
    Run,
    Read(u64),
    Fault,
    Answer(Result<u64, HypercallError>),
    DeviceWrite(u64, u64),
    DeviceReset,
    HostIrq(usize),
    Reschedule,
    ForgetNested,
    Line(u32, LineLevel),
}

/// What the world does not manage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NewVCpu(usize),
    Devices,
    Load,
    FinishRead,
    Run,
    Bind,
    Unbind,
}

/// What the guest does until it exits.
pub(crate) type Step = Box<dyn FnOnce(&Mailbox, &dyn DeviceAccess) -> AxVCpuExitReason + Send>;

static ALL: [World; WORLDS] = [const { World::new() }; WORLDS];

pub(crate) fn world<const W: usize>() -> &'static World {
    let world = &ALL[W];
    assert!(world.is_of_one_test(), "another test has world {W}");
    world
}

std::thread_local! {
    pub(super) static PCPU: Cell<usize> = const { Cell::new(0) };
}

/// This thread is `pcpu` from now on.
pub(crate) fn run_on(pcpu: usize) {
    PCPU.set(pcpu);
}

impl World {
    const fn new() -> Self {
        Self {
            kicks: [const { AtomicU64::new(0) }; PCPUS],
            now: AtomicU64::new(0),
            wants_reschedule: AtomicBool::new(false),
            turn_is_over: AtomicBool::new(false),
            events: Mutex::new(Vec::new()),
            fail: Mutex::new(Vec::new()),
            deadline: AtomicU64::new(u64::MAX),
            pending: AtomicBool::new(false),
            wait: Mutex::new(Wait::FOR_ANY),
            frames_left: AtomicUsize::new(usize::MAX),
            frames_out: AtomicUsize::new(0),
            flushes: Mutex::new(Vec::new()),
            link: Mutex::new(None),
            scripts: Mutex::new(Vec::new()),
            pool: Mutex::new(Vec::new()),
            owner: OnceLock::new(),
        }
    }

    /// No two tests have one world: they would run at the same time.
    fn is_of_one_test(&self) -> bool {
        let thread = std::thread::current();
        // Threads that tests start have no name.
        thread
            .name()
            .is_none_or(|test| self.owner.get_or_init(|| test.into()) == test)
    }

    /// vCPU `id` will do `step` after all that it is to do.
    pub(crate) fn then(
        &self,
        id: usize,
        step: impl FnOnce(&Mailbox) -> AxVCpuExitReason + Send + 'static,
    ) {
        self.with_script(id, |script| {
            script.push_back(Box::new(|mailbox, _| step(mailbox)));
        });
    }

    /// vCPU `id` will reach for its devices by `step` after all that it is to do.
    pub(crate) fn accesses(
        &self,
        id: usize,
        step: impl FnOnce(&dyn DeviceAccess) -> AxVCpuExitReason + Send + 'static,
    ) {
        self.with_script(id, |script| {
            script.push_back(Box::new(|_, devices| step(devices)));
        });
    }

    /// vCPU `id` will do `step` before all that it is to do.
    pub(crate) fn first(
        &self,
        id: usize,
        step: impl FnOnce(&Mailbox) -> AxVCpuExitReason + Send + 'static,
    ) {
        self.with_script(id, |script| {
            script.push_front(Box::new(|mailbox, _| step(mailbox)));
        });
    }

    pub(super) fn with_script<T>(&self, id: usize, f: impl FnOnce(&mut VecDeque<Step>) -> T) -> T {
        let mut scripts = self.scripts.lock().unwrap();
        if scripts.len() <= id {
            scripts.resize_with(id + 1, VecDeque::new);
        }
        f(&mut scripts[id])
    }

    /// vCPU `id` will exit so next.
    pub(crate) fn exits(&self, id: usize, exits: &[AxVCpuExitReason]) {
        for &exit in exits {
            self.then(id, move |_| exit);
        }
    }

    /// What the devices of the VM that was made last have of it.
    pub(crate) fn link(&self) -> Arc<dyn VmLink> {
        let link = self.link.lock().unwrap();
        link.as_ref().and_then(Weak::upgrade).unwrap()
    }

    /// All vCPUs are to do nothing more.
    pub(crate) fn clear_scripts(&self) {
        self.scripts.lock().unwrap().clear();
    }

    /// What vCPU `id` saw since this was asked last, and the host did for it.
    pub(crate) fn take_events(&self, id: usize) -> Vec<Event> {
        let mut events = self.events.lock().unwrap();
        let (mine, others) = events.drain(..).partition(|&(of, _)| of == id);
        *events = others;
        let mine: Vec<(usize, Event)> = mine;
        mine.into_iter().map(|(_, event)| event).collect()
    }

    pub(crate) fn kicked(&self, pcpu: usize) -> u64 {
        self.kicks[pcpu].swap(0, Ordering::SeqCst)
    }

    pub(super) fn note(&self, id: usize, event: Event) {
        self.events.lock().unwrap().push((id, event));
    }

    pub(super) fn fails(&self, failure: Failure) -> AxResult {
        if self.fail.lock().unwrap().contains(&failure) {
            return axerrno::ax_err!(Io, "as the test wants it");
        }
        Ok(())
    }
}

pub(crate) struct TestHal<const W: usize>;

impl<const W: usize> AxMmHal for TestHal<W> {
    fn alloc_frame(size: FrameSize) -> Option<HostPhysAddr> {
        if size == FrameSize::Size1G {
            return None;
        }
        let world = world::<W>();
        let take = |left: usize| left.checked_sub(1);
        world
            .frames_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .ok()?;
        world.frames_out.fetch_add(1, Ordering::SeqCst);
        let mut pool = world.pool.lock().unwrap();
        if let Some(at) = pool.iter().position(|&(_, pooled)| pooled == size) {
            return Some(HostPhysAddr::new(pool.swap_remove(at).0));
        }
        let bytes = size.bytes() as usize;
        let leaked = Box::leak(vec![0xa5u8; 2 * bytes].into_boxed_slice());
        let addr = leaked.as_mut_ptr().expose_provenance();
        Some(HostPhysAddr::new(addr.next_multiple_of(bytes) as u64))
    }

    fn dealloc_frame(frame: HostPhysAddr, size: FrameSize) {
        let world = world::<W>();
        world.frames_left.fetch_add(1, Ordering::SeqCst);
        world.frames_out.fetch_sub(1, Ordering::SeqCst);
        world.pool.lock().unwrap().push((frame.as_u64(), size));
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_u64())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }

    fn flush_nested(pcpus: PcpuMask, _start: GuestPhysAddr, _len: u64) {
        world::<W>().flushes.lock().unwrap().push(pcpus);
    }
}

impl<const W: usize> AxVCpuHal for TestHal<W> {
    type MmHal = Self;

    fn irq_fetch() -> usize {
        0
    }

    fn irq_handler(vector: usize) {
        world::<W>().note(0, Event::HostIrq(vector));
    }

    fn this_pcpu() -> usize {
        PCPU.get()
    }

    fn now() -> u64 {
        world::<W>().now.load(Ordering::SeqCst)
    }

    fn set_guest_timer(_deadline: u64) {}
}

impl<const W: usize> AxVMHal for TestHal<W> {
    fn kick(pcpu: usize) {
        world::<W>().kicks[pcpu].fetch_add(1, Ordering::SeqCst);
    }

    fn forget_nested_here() {
        world::<W>().note(0, Event::ForgetNested);
    }

    fn needs_reschedule() -> bool {
        world::<W>().wants_reschedule.load(Ordering::SeqCst)
    }

    fn is_turn_over() -> bool {
        world::<W>().turn_is_over.load(Ordering::SeqCst)
    }

    fn reschedule() {
        world::<W>().turn_is_over.store(false, Ordering::SeqCst);
        world::<W>().wants_reschedule.store(false, Ordering::SeqCst);
        world::<W>().note(0, Event::Reschedule);
        std::thread::yield_now();
    }
}
