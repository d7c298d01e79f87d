//! A world for the tests: a host made of counters, RAM made of leaked boxes, and a vCPU that plays a script of exits.
//!
//! Tests run at the same time, so each has a world of its own, by number: `TestHal<7>`, `ScriptedCpu<7>` and `world::<7>()` belong together.

use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc, vec, vec::Vec};
use core::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use std::sync::Mutex;

use axaddrspace::{AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, NestedMode};
use axdevice::{AccessFault, AxVmDevices, CharBackend, CpuInterrupts, Device};
use axerrno::AxResult;
use axvcpu::{
    AccessWidth, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, HypercallError, LineLevel, Mailbox,
};
use axvmconfig::{ConfigError, Isa, VmConfig, keys};

use crate::{
    AxVCpuConfig, AxVM, AxVMConfig, AxVMHal, AxVMRef, BootState, GuestArch, GuestDevices, GuestRam,
    GuestRange, ImageSource, IsaInfo, Machine, VmError,
};

pub(crate) const RAM: u64 = 0x8000_0000;
pub(crate) const DEVICE: u64 = 0x1000;
/// The offset at which the device answers nothing.
pub(crate) const DEVICE_HOLE: u64 = 0x80;
/// What a read of the device's first byte answers.
pub(crate) const DEVICE_VALUE: u64 = 0xab;
/// The number of the vCPUs' external line.
pub(crate) const EXTERNAL: usize = 10;

const WORLDS: usize = 64;
const PCPUS: usize = 8;

/// One test's host and guest.
pub(crate) struct World {
    pub(crate) kicks: [AtomicU64; PCPUS],
    pub(crate) now: AtomicU64,
    pub(crate) wants_reschedule: AtomicBool,
    pub(crate) events: Mutex<Vec<(usize, Event)>>,
    pub(crate) fail: Mutex<Vec<Failure>>,
    /// The waits that end the vCPU's halt by themselves.
    pub(crate) deadline: AtomicU64,
    pub(crate) pending: AtomicBool,
    /// Frames that the host can still give, and those that it gave.
    pub(crate) frames_left: AtomicUsize,
    pub(crate) frames_out: AtomicUsize,
    scripts: Mutex<Vec<VecDeque<Step>>>,
    pool: Mutex<Vec<(u64, FrameSize)>>,
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
    HostIrq(usize),
    Reschedule,
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
pub(crate) type Step = Box<dyn FnOnce(&Mailbox) -> AxVCpuExitReason + Send>;

static ALL: [World; WORLDS] = [const { World::new() }; WORLDS];

pub(crate) fn world<const W: usize>() -> &'static World {
    &ALL[W]
}

std::thread_local! {
    static PCPU: Cell<usize> = const { Cell::new(0) };
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
            events: Mutex::new(Vec::new()),
            fail: Mutex::new(Vec::new()),
            deadline: AtomicU64::new(u64::MAX),
            pending: AtomicBool::new(false),
            frames_left: AtomicUsize::new(usize::MAX),
            frames_out: AtomicUsize::new(0),
            scripts: Mutex::new(Vec::new()),
            pool: Mutex::new(Vec::new()),
        }
    }

    /// vCPU `id` will do `step` after all that it is to do.
    pub(crate) fn then(
        &self,
        id: usize,
        step: impl FnOnce(&Mailbox) -> AxVCpuExitReason + Send + 'static,
    ) {
        self.with_script(id, |script| script.push_back(Box::new(step)));
    }

    /// vCPU `id` will do `step` before all that it is to do.
    pub(crate) fn first(
        &self,
        id: usize,
        step: impl FnOnce(&Mailbox) -> AxVCpuExitReason + Send + 'static,
    ) {
        self.with_script(id, |script| script.push_front(Box::new(step)));
    }

    fn with_script<T>(&self, id: usize, f: impl FnOnce(&mut VecDeque<Step>) -> T) -> T {
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

    fn note(&self, id: usize, event: Event) {
        self.events.lock().unwrap().push((id, event));
    }

    fn fails(&self, failure: Failure) -> AxResult {
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

    fn flush_nested(_start: GuestPhysAddr, _len: u64) {}
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

    fn needs_reschedule() -> bool {
        world::<W>().wants_reschedule.load(Ordering::SeqCst)
    }

    fn reschedule() {
        world::<W>().wants_reschedule.store(false, Ordering::SeqCst);
        world::<W>().note(0, Event::Reschedule);
        std::thread::yield_now();
    }
}

/// A vCPU that plays a script of exits and checks that it is treated in order.
pub(crate) struct ScriptedCpu<const W: usize> {
    id: usize,
    bound_to: Option<usize>,
}

impl<const W: usize> ScriptedCpu<W> {
    fn note(&self, event: Event) {
        world::<W>().note(self.id, event);
    }
}

impl<const W: usize> Drop for ScriptedCpu<W> {
    fn drop(&mut self) {
        let fails = world::<W>().fail.lock().unwrap().len();
        assert!(
            self.bound_to.is_none() || fails > 0,
            "vCPU {} is still bound",
            self.id
        );
    }
}

impl<const W: usize> AxArchVCpu for ScriptedCpu<W> {
    type CreateConfig = ();
    type SetupConfig = ();

    fn new(_vm_id: usize, vcpu_id: usize, (): ()) -> AxResult<Self> {
        world::<W>().fails(Failure::NewVCpu(vcpu_id))?;
        Ok(Self {
            id: vcpu_id,
            bound_to: None,
        })
    }

    fn set_entry(&mut self, _entry: GuestPhysAddr) -> AxResult {
        Ok(())
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) -> AxResult {
        assert!(root.is_aligned(FrameSize::Size16K.bytes()));
        Ok(())
    }

    fn setup(&mut self, (): ()) -> AxResult {
        self.note(Event::Setup);
        Ok(())
    }

    fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) -> AxResult {
        self.note(Event::Start(entry.as_u64(), arg));
        Ok(())
    }

    fn run(&mut self, mailbox: &Mailbox) -> AxResult<AxVCpuExitReason> {
        assert_eq!(self.bound_to, Some(PCPU.get()), "it runs where it is bound");
        world::<W>().fails(Failure::Run)?;
        self.note(Event::Run);
        let step = world::<W>().with_script(self.id, VecDeque::pop_front);
        match step {
            Some(step) => Ok(step(mailbox)),
            None => panic!("vCPU {} has no more script", self.id),
        }
    }

    fn bind(&mut self) -> AxResult {
        world::<W>().fails(Failure::Bind)?;
        assert_eq!(self.bound_to.replace(PCPU.get()), None);
        self.note(Event::Bind);
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        world::<W>().fails(Failure::Unbind)?;
        assert_eq!(self.bound_to.take(), Some(PCPU.get()));
        self.note(Event::Unbind);
        Ok(())
    }

    fn inject_interrupt(&mut self, _vector: usize) -> AxResult {
        Ok(())
    }

    fn set_interrupt_line(&mut self, _vector: usize, _level: LineLevel) -> AxResult {
        Ok(())
    }

    fn set_return_value(&mut self, answer: Result<u64, HypercallError>) {
        self.note(Event::Answer(answer));
    }

    fn finish_read(&mut self, value: u64) -> AxResult {
        world::<W>().fails(Failure::FinishRead)?;
        self.note(Event::Read(value));
        Ok(())
    }

    fn fault_access(&mut self) -> AxResult {
        self.note(Event::Fault);
        Ok(())
    }

    fn has_pending_interrupt(&self) -> bool {
        world::<W>().pending.swap(false, Ordering::SeqCst)
    }

    fn timer_deadline(&self) -> Option<u64> {
        Some(world::<W>().deadline.load(Ordering::SeqCst)).filter(|&deadline| deadline != u64::MAX)
    }

    fn pc(&self) -> u64 {
        0x1234
    }

    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "registers of vCPU {}", self.id)
    }
}

impl<const W: usize> GuestArch for ScriptedCpu<W> {
    const EXTERNAL_INTERRUPT: usize = EXTERNAL;

    fn create_config(_: &AxVMConfig, _: &[GuestRange], _: usize) -> Result<(), ConfigError> {
        Ok(())
    }

    fn setup_config(_: &AxVMConfig, _: usize) {}

    fn devices(
        config: &AxVMConfig,
        _: Arc<dyn CpuInterrupts>,
    ) -> Result<GuestDevices, ConfigError> {
        let wrong = |why| config.vm.error(keys::VIRTUAL, why);
        world::<W>().fails(Failure::Devices).map_err(wrong)?;
        let device = Arc::new(TestDevice::<W>);
        let bus = AxVmDevices::builder()
            .mmio(GuestPhysAddr::new(DEVICE), 0x100, device.clone())
            .port(0x60, 8, device.clone())
            .sys_reg(0x800, 8, device);
        Ok(GuestDevices {
            bus: bus.build().unwrap(),
            console: None,
        })
    }

    /// Puts the kernel's file at the start of RAM, and starts there.
    fn load(
        config: &AxVMConfig,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState, ConfigError> {
        let path = &config.vm.kernel.path;
        let start = ram[0].start();
        memory
            .write(start, config.images.open(path).unwrap())
            .unwrap();
        let wrong = |why| config.vm.error(keys::KERNEL_PATH, why);
        world::<W>().fails(Failure::Load).map_err(wrong)?;
        let ap_entry = start.checked_add(0x100).unwrap();
        Ok(BootState {
            entries: AxVCpuConfig {
                bsp_entry: start,
                ap_entry,
            },
            arg: 42,
        })
    }

    fn write_counters(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "  counters of vCPU {}", self.id)
    }
}

struct TestDevice<const W: usize>;

impl<const W: usize> Device for TestDevice<W> {
    fn name(&self) -> &str {
        "device"
    }

    fn read(&self, offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        if offset == DEVICE_HOLE {
            Err(AccessFault)
        } else {
            Ok(DEVICE_VALUE + offset)
        }
    }

    fn write(&self, offset: u64, _width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        if offset == DEVICE_HOLE {
            return Err(AccessFault);
        }
        world::<W>().note(0, Event::DeviceWrite(offset, data));
        Ok(())
    }

    fn reset(&self) {}
}

/// A console that takes and gives a few bytes at a time.
pub(crate) struct TestConsole {
    pub(crate) written: Mutex<Vec<u8>>,
    pub(crate) input: Mutex<VecDeque<u8>>,
    pub(crate) room: AtomicUsize,
}

impl TestConsole {
    pub(crate) fn new() -> Self {
        Self {
            written: Mutex::default(),
            input: Mutex::default(),
            room: AtomicUsize::new(usize::MAX),
        }
    }
}

impl CharBackend for TestConsole {
    fn write(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.load(Ordering::SeqCst));
        self.room.fetch_sub(count, Ordering::SeqCst);
        self.written
            .lock()
            .unwrap()
            .extend_from_slice(&bytes[..count]);
        count
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        let mut input = self.input.lock().unwrap();
        let count = buf.len().min(input.len());
        buf.iter_mut()
            .zip(input.drain(..count))
            .for_each(|(to, from)| *to = from);
        count
    }
}

/// Files by path.
pub(crate) struct Files(pub(crate) Vec<(&'static str, Vec<u8>)>);

impl ImageSource for Files {
    fn open(&self, path: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, bytes)| &bytes[..])
    }
}

/// The config of a VM named `linux` whose kernel is `image`, with `text` for the rest of `[kernel]` and what follows.
pub(crate) fn vm_config(cpus: usize, text: &str) -> VmConfig {
    let pcpus: Vec<String> = (1..=cpus).map(|pcpu| alloc::format!("{pcpu}")).collect();
    let text = alloc::format!(
        "[base]\nid = 1\nname = \"linux\"\nphys_cpu_ids = [{}]\n[kernel]\nkernel_path = \"image\"\n{text}",
        pcpus.join(", ")
    );
    VmConfig::parse("vms/linux.toml", &text, Isa::Riscv64).unwrap()
}

pub(crate) fn machine(isa: &str) -> Machine {
    Machine {
        timebase_hz: 10_000_000,
        isa: IsaInfo {
            extensions: IsaInfo::extensions_of(isa).unwrap(),
            ..IsaInfo::default()
        },
        ids: Default::default(),
        nested_mode: NestedMode::Sv39x4,
        pcpus: 4,
    }
}

/// A VM of scripted vCPUs, vCPU `n` on pCPU `n + 1`, with its console.
pub(crate) type TestVm<const W: usize> = AxVM<TestHal<W>, ScriptedCpu<W>>;

pub(crate) fn try_vm<const W: usize>(
    cpus: usize,
    text: &str,
) -> Result<(AxVMRef<TestHal<W>, ScriptedCpu<W>>, Arc<TestConsole>), VmError> {
    let console = Arc::new(TestConsole::new());
    let config = AxVMConfig {
        vm: vm_config(cpus, text),
        machine: Arc::new(machine("rv64imac_sstc")),
        images: Arc::new(Files(vec![("image", b"kernel".to_vec())])),
        console: console.clone(),
    };
    AxVM::new(config).map(|vm| (vm, console))
}

/// 64 KiB of RAM, and 64 KiB that are filled on first touch.
pub(crate) const MEMORY: &str = "memory_regions = [{ gpa = 0x8000_0000, size = \"64KiB\" }, \
    { gpa = 0x8010_0000, size = \"64KiB\", map_type = \"lazy\" }]";
pub(crate) const LAZY: u64 = 0x8010_0000;

/// A booted VM whose vCPU 0 has started, and only that.
pub(crate) fn booted<const W: usize>(
    cpus: usize,
) -> (AxVMRef<TestHal<W>, ScriptedCpu<W>>, Arc<TestConsole>) {
    let (vm, console) = try_vm::<W>(cpus, MEMORY).unwrap();
    vm.boot().unwrap();
    for id in 0..cpus {
        let _ = world::<W>().take_events(id);
    }
    (0..PCPUS).for_each(|pcpu| world::<W>().kicks[pcpu].store(0, Ordering::SeqCst));
    (vm, console)
}

/// `len` bytes of the guest's memory at `addr`.
pub(crate) fn peek<const W: usize>(vm: &TestVm<W>, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    vm.memory
        .lock()
        .loader()
        .read(GuestPhysAddr::new(addr), &mut bytes)
        .unwrap();
    bytes
}

/// Writes `bytes` to the guest's memory.
pub(crate) fn poke<const W: usize>(vm: &TestVm<W>, addr: u64, bytes: &[u8]) {
    vm.memory
        .lock()
        .loader()
        .write(GuestPhysAddr::new(addr), bytes)
        .unwrap();
}
