//! The host below: what AxHV asks of ArceOS, in one place.
//!
//! [`Host`] implements the HAL traits of the crates that import no operating system. The rest are the few services that the tasks of this component
//! need: where they run, how they sleep, what the machine is.

use alloc::string::String;

use axaddrspace::{AxMmHal, FrameSize, GuestPhysAddr, HostPhysAddr, HostVirtAddr, PcpuMask};
use axalloc::{UsageKind, global_allocator};
use axhal::{mem, percpu::this_cpu_id};
use axtask::{AxCpuMask, AxTaskExt, TaskExt, TaskInner};
use axvcpu::AxVCpuHal;
use axvm::AxVMHal;

use crate::{
    arch::{
        self,
        platform::{Timer, console, irq, machine, power},
    },
    park,
};

pub(crate) use axplat_timer::NEVER;

/// A timer of one pCPU, beside the scheduler's tick.
pub(crate) type VmTimer = axplat_timer::VmTimer<Timer>;

/// ArceOS, as the host of AxHV's VMs.
#[derive(Debug)]
pub(crate) enum Host {}

const PAGE: usize = 4096;

impl AxMmHal for Host {
    fn alloc_frame(size: FrameSize) -> Option<HostPhysAddr> {
        let bytes = size.bytes() as usize;
        let frame = global_allocator()
            .alloc_pages(bytes / PAGE, bytes, UsageKind::VirtMem)
            .ok()?;
        Some(Self::virt_to_phys(HostVirtAddr::new(frame as u64)))
    }

    fn dealloc_frame(frame: HostPhysAddr, size: FrameSize) {
        let pages = size.bytes() as usize / PAGE;
        let frame = Self::phys_to_virt(frame).as_usize();
        global_allocator().dealloc_pages(frame, pages, UsageKind::VirtMem);
    }

    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(mem::phys_to_virt(addr.as_usize().into()).as_usize() as u64)
    }

    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(mem::virt_to_phys(addr.as_usize().into()).as_usize() as u64)
    }

    fn flush_nested(pcpus: PcpuMask, _start: GuestPhysAddr, _len: u64) {
        arch::flush_nested(pcpus);
    }
}

impl AxVCpuHal for Host {
    type MmHal = Self;

    fn irq_fetch() -> usize {
        // On RISC-V the exit has said which it is. On x86 it stays pending: the local APIC gives it to its vector, and to nobody before.
        0
    }

    fn irq_handler(vector: usize) {
        arch::serve_interrupt(vector);
    }

    fn this_pcpu() -> usize {
        this_cpu_id()
    }

    fn now() -> u64 {
        axhal::time::current_ticks()
    }

    fn set_guest_timer(deadline: u64) {
        axplat_timer::arm_current::<Timer>(deadline);
    }
}

impl AxVMHal for Host {
    fn kick(pcpu: usize) {
        // The caller's own pCPU has nothing to be taken out of, unless another task sleeps there.
        if pcpu != this_cpu_id() || park::is_shared() {
            irq::kick(pcpu);
        }
    }

    fn forget_nested_here() {
        arch::forget_nested_here();
    }

    fn needs_reschedule() -> bool {
        park::is_shared()
    }

    fn is_turn_over() -> bool {
        park::is_turn_over()
    }

    fn reschedule() {
        park::give_way();
    }
}

/// How many pCPUs there are.
pub(crate) fn pcpu_count() -> usize {
    axhal::cpu_num()
}

/// How many bytes of RAM the machine has left for VMs and for the hypervisor's own heap.
pub(crate) fn free_ram_bytes() -> u64 {
    let free = |region: &mem::PhysMemRegion| region.flags.contains(mem::MemRegionFlags::FREE);
    mem::memory_regions()
        .filter(free)
        .map(|region| region.size as u64)
        .sum()
}

/// The memory that is in use.
pub(crate) struct OwnMemory {
    /// By the image, its boot stacks and its static variables.
    pub(crate) image_bytes: u64,
    /// From the heap, tasks' stacks included.
    pub(crate) heap_bytes: u64,
    /// Frames that VMs hold: their RAM and their tables.
    pub(crate) frame_bytes: u64,
}

/// What memory is in use now. Frames are those that [`Host`] gave.
pub(crate) fn own_memory() -> OwnMemory {
    const RESERVED: mem::MemRegionFlags = mem::MemRegionFlags::RESERVED;
    // The image's parts are the reserved regions that are named for them.
    let of_image = |region: &mem::PhysMemRegion| {
        region.flags.contains(RESERVED)
            && (region.name.starts_with('.') || region.name == "boot stack")
    };
    let usages = global_allocator().usages();
    OwnMemory {
        image_bytes: mem::memory_regions()
            .filter(of_image)
            .map(|region| region.size as u64)
            .sum(),
        heap_bytes: usages.get(UsageKind::RustHeap) as u64,
        frame_bytes: usages.get(UsageKind::VirtMem) as u64,
    }
}

/// Ticks of the host's counter in `millis` milliseconds.
pub(crate) fn ticks_of_millis(millis: u64) -> u64 {
    axhal::time::nanos_to_ticks(millis * axhal::time::NANOS_PER_MILLIS)
}

/// Ticks of the host's counter in `micros` microseconds.
pub(crate) fn ticks_of_micros(micros: u64) -> u64 {
    axhal::time::nanos_to_ticks(micros * axhal::time::NANOS_PER_MICROS)
}

/// What the bootloader handed over beside the image, if anything.
pub(crate) fn initrd() -> Option<&'static [u8]> {
    let range = machine().initrd.as_ref()?;
    let start = mem::phys_to_virt(range.start.into()).as_ptr();
    // SAFETY: the platform reserved these bytes before there was an allocator, they are mapped, and nobody writes them.
    Some(unsafe { core::slice::from_raw_parts(start, range.len()) })
}

/// Runs `task` on `pcpu` and nowhere else.
pub(crate) fn spawn_pinned(
    pcpu: usize,
    name: String,
    hook: impl TaskExt + 'static,
    task: impl FnOnce() + Send + 'static,
) {
    /// Ample for the exit path, which does not recurse.
    const STACK: usize = 64 << 10;
    let mut inner = TaskInner::new(task, name, STACK);
    inner.set_cpumask(AxCpuMask::one_shot(pcpu));
    *inner.task_ext_mut() = Some(AxTaskExt::from_impl(hook));
    axtask::spawn_task(inner);
    if pcpu == this_cpu_id() {
        // It takes its place here by running for the first time.
        yield_now();
    } else {
        // A spawn tells the other pCPU nothing.
        irq::kick(pcpu);
    }
}

/// While this lives, the calling task gives its pCPU to another only where it says so ([`yield_now`]).
pub(crate) fn hold_pcpu() -> kernel_guard::NoPreempt {
    kernel_guard::NoPreempt::new()
}

/// Keeps the calling task on `pcpu`.
pub(crate) fn pin_current(pcpu: usize) {
    axtask::set_current_affinity(AxCpuMask::one_shot(pcpu));
}

/// Lets another ready task of this pCPU run first.
pub(crate) fn yield_now() {
    axtask::yield_now();
}

/// Sleeps until an interrupt, unless `awake`, which is asked with interrupts off: whatever makes it true afterwards must interrupt this pCPU, and
/// then the sleep ends at once. The interrupt is served before this returns.
pub(crate) fn wait_for_interrupt_unless(awake: impl FnOnce() -> bool) {
    axhal::asm::disable_irqs();
    if awake() {
        axhal::asm::enable_irqs();
    } else {
        irq::sleep_with_interrupts_on();
    }
}

/// Calls `hook` on a pCPU whenever the host has served an interrupt there. One hook only.
pub(crate) fn on_every_interrupt(hook: fn(usize)) {
    axhal::irq::register_irq_hook(hook);
}

/// Writes to the machine's console as it is.
pub(crate) fn console_write(bytes: &[u8]) {
    console::write_raw(bytes);
}

/// Reads what has arrived at the machine's console.
pub(crate) fn console_read(buf: &mut [u8]) -> usize {
    axhal::console::read_bytes(buf)
}

/// Calls `handler` on this pCPU whenever the machine's console has input. The handler must read it.
pub(crate) fn on_console_input(handler: fn()) -> bool {
    axhal::console::irq_num().is_some_and(|irq| axhal::irq::register(irq, handler))
}

/// The timer that [`AxVCpuHal::set_guest_timer`] arms on this pCPU from now on.
pub(crate) fn set_current_timer(timer: Option<&'static VmTimer>) {
    axplat_timer::set_current(timer);
}

/// Stops this pCPU's scheduler tick, until [`resume_tick`]: one vCPU owns the pCPU, so there is nothing to schedule.
pub(crate) fn suspend_tick() {
    axplat_timer::suspend_tick::<Timer>();
}

/// Lets this pCPU tick again, at once if a tick is due.
pub(crate) fn resume_tick() {
    axplat_timer::resume_tick::<Timer>();
}

/// How a whole run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunResult {
    /// Every VM started, and ended by its own will.
    AllWell,
    /// Something did not.
    Failed,
}

/// Powers the machine off.
pub(crate) fn power_off(result: RunResult) -> ! {
    match result {
        RunResult::AllWell => power::report_success(),
        RunResult::Failed => {}
    }
    axhal::power::system_off()
}
