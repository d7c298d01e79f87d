//! The local APIC's timer, shared by the scheduler's tick and any number of VM timers, and the TSC as the clock.

use core::sync::atomic::{AtomicU64, Ordering};

use axplat::time::TimeIf;
use axplat_timer::{CpuTimers, Frequency, Hardware, NEVER, TickHandler};
use kernel_guard::NoPreemptIrqSave;
use raw_cpuid::CpuId;
use spin::Once;

use crate::{
    clock, config,
    lapic::{self, TimerMode},
    machine,
    msr::wrmsr,
};

/// The local APIC's timer: by the TSC's deadline where the CPU has that, else counting down.
#[derive(Debug)]
pub enum ApicTimer {}

#[percpu::def_percpu]
static TIMERS: CpuTimers<ApicTimer> = CpuTimers::new();

impl Hardware for ApicTimer {
    fn now() -> u64 {
        clock::tsc()
    }

    fn program(deadline: u64) {
        match COUNTS_PER_TICK.load(Ordering::Relaxed) {
            BY_DEADLINE => {
                const IA32_TSC_DEADLINE: u32 = 0x6e0;
                let value = match deadline {
                    // Zero disarms.
                    NEVER => 0,
                    deadline => deadline.max(1),
                };
                // SAFETY: the CPU has the MSR; it decides only when the timer interrupt comes.
                unsafe { wrmsr(IA32_TSC_DEADLINE, value) };
            }
            counts_per_tick => lapic::start_countdown(match deadline {
                NEVER => 0,
                deadline => countdown(deadline.saturating_sub(Self::now()), counts_per_tick),
            }),
        }
    }

    fn with_current<T>(f: impl FnOnce(&CpuTimers<Self>) -> T) -> T {
        let _guard = NoPreemptIrqSave::new();
        // SAFETY: neither preemption nor an interrupt can come between, so this pCPU's timers are this call's alone.
        f(unsafe { TIMERS.current_ref_raw() })
    }
}

/// Counts of the APIC's timer in a tick of the TSC, with [`FRACTION`] bits after the point; or [`BY_DEADLINE`].
static COUNTS_PER_TICK: AtomicU64 = AtomicU64::new(BY_DEADLINE);
/// The timer does not count: it compares with the TSC.
const BY_DEADLINE: u64 = 0;
const FRACTION: u32 = 32;

/// The counts for some ticks: at least one, since none would stop the timer; at most what it can count, and then it comes early.
fn countdown(ticks: u64, counts_per_tick: u64) -> u32 {
    let counts = (u128::from(ticks) * u128::from(counts_per_tick)) >> FRACTION;
    u32::try_from(counts + 1).unwrap_or(u32::MAX)
}

/// What the scheduler has said it does at a tick.
pub(crate) static TICK_HANDLER: TickHandler = TickHandler::new();
static CLOCK: Once<Frequency> = Once::new();

fn mode() -> TimerMode {
    match COUNTS_PER_TICK.load(Ordering::Relaxed) {
        BY_DEADLINE => TimerMode::TscDeadline,
        _ => TimerMode::OneShot,
    }
}

/// Chooses the timer's mode for all CPUs.
pub(crate) fn init() {
    let machine = machine();
    CLOCK.call_once(|| Frequency::new(machine.timebase_hz));
    let has_deadline = CpuId::new()
        .get_feature_info()
        .is_some_and(|features| features.has_tsc_deadline());
    if !has_deadline {
        let counts = (u128::from(machine.apic_timer_hz) << FRACTION)
            / u128::from(machine.timebase_hz.max(1));
        COUNTS_PER_TICK.store((counts as u64).max(1), Ordering::Relaxed);
    }
}

/// Lets the current CPU's timer interrupt.
pub(crate) fn enable_current() {
    lapic::set_timer_mode(config::devices::TIMER_IRQ as u8, mode());
}

/// Starts the tick of the boot CPU; ArceOS does it for the others.
pub(crate) fn start_tick() {
    TimeIfImpl::set_oneshot_timer(0);
}

/// The timer interrupt.
pub(crate) fn serve() {
    let tick = TICK_HANDLER.tick(machine().timebase_hz, config::TICKS_PER_SEC);
    axplat_timer::serve::<ApicTimer>(tick);
}

/// Waits, without sleeping.
pub(crate) fn spin_for_micros(micros: u64) {
    let until = clock::tsc() + frequency().nanos_to_ticks(micros * 1_000);
    while clock::tsc() < until {
        core::hint::spin_loop();
    }
}

/// Before the TSC has been measured, for which the log's time is all that asks, a tick is taken for a nanosecond.
fn frequency() -> Frequency {
    const UNMEASURED: Frequency = Frequency::new(1_000_000_000);
    CLOCK.get().copied().unwrap_or(UNMEASURED)
}

struct TimeIfImpl;

#[impl_plat_interface]
impl TimeIf for TimeIfImpl {
    /// The TSC.
    fn current_ticks() -> u64 {
        clock::tsc()
    }

    /// Rounded down.
    fn ticks_to_nanos(ticks: u64) -> u64 {
        frequency().ticks_to_nanos(ticks)
    }

    /// Rounded up, so that a deadline is never early.
    fn nanos_to_ticks(nanos: u64) -> u64 {
        frequency().nanos_to_ticks(nanos)
    }

    /// The time of day when the TSC showed zero.
    fn epochoffset_nanos() -> u64 {
        machine::found().map_or(0, |machine| machine.epoch_s.saturating_mul(1_000_000_000))
    }

    /// The vector of the local APIC's timer.
    fn irq_num() -> usize {
        config::devices::TIMER_IRQ
    }

    /// Sets the scheduler's next tick.
    fn set_oneshot_timer(deadline_ns: u64) {
        axplat_timer::set_tick::<ApicTimer>(Self::nanos_to_ticks(deadline_ns));
    }
}
