//! What the tests of the vCPU share: a host, a guest's RAM and local APIC, and a vCPU on a scripted SVM machine.

extern crate std;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    sync::Mutex,
};

use axaddrspace::{
    AddrSpace, AxMmHal, Fill, FixedRam, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr,
    LargestLeaf, MappingFlags, NestedMode, PcpuMask, RamPage,
};
use axdevice::{InterruptFlag, LocalInterrupts, Timed};
use axvcpu::{AxArchPerCpu, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, MAX_CPUS, Mailbox, NoDevices};

use crate::{
    GuestBytes, HltPolicy, LocalApicHardware, Sharing, SvmVcpu, X86PerCpu, X86Start, X86VCpuConfig,
    hardware::CpuidResult, machine, percpu::Pcpus, vcpu::VCpu,
};

std::thread_local! {
    // Each test has a thread, and a machine of its own: what one does on its pCPUs, none that runs beside it sees.
    static PCPUS: &'static Pcpus = Box::leak(Box::new(Pcpus::new()));
    static PCPU: Cell<usize> = const { Cell::new(0) };
    static NOW: Cell<u64> = const { Cell::new(1000) };
    /// How far a look at the clock moves it.
    static TICKS: Cell<u64> = const { Cell::new(0) };
    static TIMER: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// What is known about all pCPUs of this thread's machine.
pub(crate) fn pcpus() -> &'static Pcpus {
    PCPUS.with(|&pcpus| pcpus)
}

/// A host whose physical memory is the developer's machine's.
pub(crate) struct TestHost;

impl AxMmHal for TestHost {
    fn alloc_frame(size: FrameSize) -> Option<HostPhysAddr> {
        // SAFETY: the layout is not empty.
        let frame = unsafe { alloc_zeroed(layout_of(size)) };
        Some(HostPhysAddr::new(frame.expose_provenance() as u64))
    }

    fn dealloc_frame(frame: HostPhysAddr, size: FrameSize) {
        let frame = core::ptr::with_exposed_provenance_mut(frame.as_u64() as usize);
        // SAFETY: who gives a frame back had it of `alloc_frame`, with this size, and does not use it any more.
        unsafe { dealloc(frame, layout_of(size)) };
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_u64())
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }

    fn flush_nested(_: PcpuMask, _: GuestPhysAddr, _: u64) {}
}

fn layout_of(size: FrameSize) -> Layout {
    let bytes = size.bytes() as usize;
    Layout::from_size_align(bytes, bytes).unwrap()
}

impl AxVCpuHal for TestHost {
    type MmHal = Self;

    fn irq_fetch() -> usize {
        0
    }

    fn irq_handler(_: usize) {}

    fn this_pcpu() -> usize {
        PCPU.get()
    }

    fn now() -> u64 {
        let now = NOW.get();
        NOW.set(now + TICKS.get());
        now
    }

    fn set_guest_timer(deadline: u64) {
        TIMER.with_borrow_mut(|timer| timer.push(deadline));
    }
}

/// Lets time pass.
pub(crate) fn set_now(now: u64) {
    NOW.set(now);
}

/// From now on each look at the clock moves it by so much.
pub(crate) fn set_ticks(ticks: u64) {
    TICKS.set(ticks);
}

/// What the host's timer was told since the last call.
pub(crate) fn timers_set() -> Vec<u64> {
    TIMER.take()
}

/// A guest's RAM, from address 0.
pub(crate) struct Ram {
    fixed: FixedRam,
    _space: AddrSpace<TestHost>,
}

pub(crate) const RAM_BYTES: usize = 1 << 20;
/// From here on it is only for reading.
pub(crate) const READ_ONLY: u64 = RAM_BYTES as u64 - 0x1000;

impl Ram {
    pub(crate) fn new() -> Self {
        let mut space = AddrSpace::new(NestedMode::Npt(LargestLeaf::Size2M)).unwrap();
        let all = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
        for (start, bytes, flags) in [
            (0, READ_ONLY, all),
            (READ_ONLY, RAM_BYTES as u64 - READ_ONLY, MappingFlags::READ),
        ] {
            let start = GuestPhysAddr::new(start);
            space.map_alloc(start, bytes, flags, Fill::Ahead).unwrap();
        }
        Self {
            fixed: space.fixed_ram(),
            _space: space,
        }
    }

    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        assert!(self.write(GuestPhysAddr::new(at), bytes));
    }

    pub(crate) fn put_u64(&self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        assert!(self.read(GuestPhysAddr::new(at), &mut bytes));
        bytes
    }
}

impl GuestBytes for Ram {
    fn read(&self, gpa: GuestPhysAddr, buf: &mut [u8]) -> bool {
        self.fixed.read(gpa, buf)
    }

    fn write(&self, gpa: GuestPhysAddr, bytes: &[u8]) -> bool {
        self.fixed.write(gpa, bytes)
    }

    fn page(&self, gpa: GuestPhysAddr) -> Option<RamPage> {
        self.fixed.page(gpa)
    }
}

/// A local APIC that gives interrupts in order, whatever their priority. 0 is none.
#[derive(Default)]
pub(crate) struct Local {
    vectors: Mutex<Vec<u8>>,
    flag: Arc<InterruptFlag>,
    pub(crate) priority: AtomicU64,
}

impl Local {
    pub(crate) fn raise(&self, vectors: &[u8]) {
        self.change(|waiting| waiting.extend(vectors));
    }

    pub(crate) fn withdraw(&self) {
        self.change(Vec::clear);
    }

    fn change<T>(&self, f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut vectors = self.vectors.lock().unwrap();
        let result = f(&mut vectors);
        self.flag.set(!vectors.is_empty());
        result
    }
}

impl LocalInterrupts for Local {
    fn flag(&self) -> Arc<InterruptFlag> {
        self.flag.clone()
    }

    fn pending(&self) -> Option<u8> {
        self.vectors.lock().unwrap().first().copied()
    }

    fn acknowledge(&self) -> Option<u8> {
        self.change(|vectors| (!vectors.is_empty()).then(|| vectors.remove(0)))
    }

    fn task_priority(&self) -> u8 {
        self.priority.load(Ordering::SeqCst) as u8
    }

    fn set_task_priority(&self, class: u8) {
        self.priority.store(class.into(), Ordering::SeqCst);
    }
}

/// A timer that raises vector 0xec on a local APIC, once.
pub(crate) struct Timer {
    pub(crate) deadline: AtomicU64,
    local: Arc<Local>,
}

impl Timed for Timer {
    fn advance(&self, now: u64) -> u64 {
        if self.deadline() <= now {
            self.deadline.store(u64::MAX, Ordering::SeqCst);
            self.local.raise(&[0xec]);
        }
        self.deadline()
    }

    fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::SeqCst)
    }
}

/// A vCPU with all that is around it.
pub(crate) struct World {
    pub(crate) vcpu: VCpu<TestHost, SvmVcpu<TestHost>>,
    pub(crate) ram: Arc<Ram>,
    pub(crate) local: Arc<Local>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) mailbox: Mailbox,
}

/// Where the guest's code starts.
pub(crate) const ENTRY: u64 = 0x8000;
/// Its page tables: the first GiB maps to itself.
pub(crate) const CR3: u64 = 0x1000;

impl World {
    /// In 64-bit mode at [`ENTRY`], bound to a pCPU of its own.
    pub(crate) fn new() -> Self {
        Self::with(HltPolicy::Exit, Sharing::Dedicated)
    }

    pub(crate) fn with(hlt: HltPolicy, sharing: Sharing) -> Self {
        power_on();
        let (ram, local) = (Arc::new(Ram::new()), Arc::new(Local::default()));
        let timer = Arc::new(Timer {
            deadline: AtomicU64::new(u64::MAX),
            local: local.clone(),
        });
        let config = X86VCpuConfig {
            vcpu_count: 2,
            tsc_hz: 2_000_000_000,
            nested_mode: NestedMode::Npt(LargestLeaf::Size1G),
            hlt,
            longest_turn: u64::MAX,
            sharing,
            ram: Arc::from([GuestPhysAddr::new(0)..GuestPhysAddr::new(RAM_BYTES as u64)]),
            local: local.clone(),
            local_hardware: LocalApicHardware::Nothing,
            timed: Arc::from([timer.clone() as Arc<dyn Timed>]),
            memory: ram.clone(),
        };
        ram.put_u64(CR3, 0x2007);
        ram.put_u64(0x2000, 0x87);
        let mut vcpu = VCpu::new(1, 1, config).unwrap();
        vcpu.set_nested_root(HostPhysAddr::new(0x5000)).unwrap();
        vcpu.setup(X86Start::Long64 {
            rip: ENTRY,
            rsi: 0x7000,
            cr3: CR3,
        })
        .unwrap();
        vcpu.bind().unwrap();
        Self {
            vcpu,
            ram,
            local,
            timer,
            mailbox: Mailbox::new(),
        }
    }

    pub(crate) fn run(&mut self) -> AxVCpuExitReason {
        self.vcpu.run(&self.mailbox, &NoDevices).unwrap()
    }
}

/// A processor as QEMU 10 shows it as `EPYC,+svm,+npt`, on the next pCPU.
pub(crate) fn power_on() {
    PCPU.set((PCPU.get() + 1) % MAX_CPUS);
    machine::with(|m| {
        *m = machine::Machine::default();
        m.cr0 = 0x8000_0011;
        m.cr4 = 0x20;
        m.cpuid = qemu_epyc();
    });
    let mut pcpu = X86PerCpu::<TestHost>::new(TestHost::this_pcpu()).unwrap();
    if !pcpu.is_enabled() {
        pcpu.hardware_enable().unwrap();
    }
}

pub(crate) fn qemu_epyc() -> alloc::collections::BTreeMap<(u32, u32), CpuidResult> {
    let leaf = |eax, ebx, ecx, edx| CpuidResult { eax, ebx, ecx, edx };
    [
        ((0, 0), leaf(0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65)),
        ((1, 0), leaf(0x0080_0f12, 0x0800, 0xfed8_3203, 0x078b_fbff)),
        ((7, 0), leaf(0, 0x219c_91a9, 0, 0)),
        ((0xd, 0), leaf(7, 0x340, 0x340, 0)),
        ((0xd, 1), leaf(5, 0, 0, 0)),
        ((0xd, 2), leaf(0x100, 0x240, 0, 0)),
        ((0x8000_0000, 0), leaf(0x8000_001f, 0, 0, 0)),
        (
            (0x8000_0001, 0),
            leaf(0x0080_0f12, 0, 0x0040_01f7, 0x2fd3_fbff),
        ),
        ((0x8000_0007, 0), leaf(0, 0, 0, 0x100)),
        ((0x8000_0008, 0), leaf(0x3028, 0x1001, 0, 0)),
        ((0x8000_000a, 0), leaf(1, 16, 0, 1)),
        ((0x8000_001d, 0), leaf(0x121, 0x01c0_003f, 0x3f, 1)),
        ((0x8000_001d, 3), leaf(0x163, 0x03c0_003f, 0x1fff, 6)),
    ]
    .into()
}
