//! The hart's timer, shared by the scheduler's tick and any number of VM timers, and the `time` counter.

use core::sync::atomic::{AtomicBool, Ordering};

use axplat::time::TimeIf;
use axplat_timer::{CpuTimers, Frequency, Hardware, TickHandler};
use kernel_guard::NoPreemptIrqSave;

use crate::{config, machine};

/// The hart's comparator: `stimecmp`, or the firmware's.
#[derive(Debug)]
pub enum HartTimer {}

#[percpu::def_percpu]
static TIMERS: CpuTimers<HartTimer> = CpuTimers::new();

impl Hardware for HartTimer {
    fn now() -> u64 {
        riscv::register::time::read64()
    }

    fn program(deadline: u64) {
        if HAS_SSTC.load(Ordering::Relaxed) {
            // SAFETY: `stimecmp` (Sstc, 0x14d) decides only when the timer interrupt comes.
            unsafe {
                core::arch::asm!("csrw 0x14d, {}", in(reg) deadline, options(nomem, nostack));
            };
        } else {
            // The call cannot fail (SBI, "Timer Extension").
            let _ = sbi_rt::set_timer(deadline);
        }
    }

    fn with_current<T>(f: impl FnOnce(&CpuTimers<Self>) -> T) -> T {
        let _guard = NoPreemptIrqSave::new();
        // SAFETY: neither preemption nor an interrupt can come between, so this pCPU's timers are this call's alone.
        f(unsafe { TIMERS.current_ref_raw() })
    }
}

/// What the scheduler has said it does at a tick.
pub(crate) static TICK_HANDLER: TickHandler = TickHandler::new();
static HAS_SSTC: AtomicBool = AtomicBool::new(false);

pub(crate) fn init() {
    HAS_SSTC.store(machine().has_extension("sstc"), Ordering::Relaxed);
}

/// Starts the tick of the boot hart; ArceOS does it for the others.
pub(crate) fn init_current() {
    TimeIfImpl::set_oneshot_timer(0);
}

/// The timer interrupt.
pub(crate) fn serve() {
    let tick = TICK_HANDLER.tick(machine().timebase_hz, config::TICKS_PER_SEC);
    axplat_timer::serve::<HartTimer>(tick);
}

fn timebase() -> Frequency {
    Frequency::new(machine().timebase_hz)
}

struct TimeIfImpl;

#[impl_plat_interface]
impl TimeIf for TimeIfImpl {
    /// The `time` counter.
    fn current_ticks() -> u64 {
        HartTimer::now()
    }

    /// Rounded down.
    fn ticks_to_nanos(ticks: u64) -> u64 {
        timebase().ticks_to_nanos(ticks)
    }

    /// Rounded up, so that a deadline is never early.
    fn nanos_to_ticks(nanos: u64) -> u64 {
        timebase().nanos_to_ticks(nanos)
    }

    /// There is no clock of the day.
    fn epochoffset_nanos() -> u64 {
        0
    }

    /// The supervisor timer interrupt.
    fn irq_num() -> usize {
        config::devices::TIMER_IRQ
    }

    /// Sets the scheduler's next tick.
    fn set_oneshot_timer(deadline_ns: u64) {
        axplat_timer::set_tick::<HartTimer>(Self::nanos_to_ticks(deadline_ns));
    }
}
