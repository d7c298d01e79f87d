//! The hart's timer, shared by the scheduler's tick and any number of VM timers.
//!
//! Each pCPU keeps the deadline of its tick and a list of [`VmTimer`]s; the hardware always holds the earliest. Whoever sets a
//! deadline does so on the pCPU that the timer belongs to, with interrupts off, so nothing here is locked. The scheduler would
//! otherwise have the timer to itself and a VM's deadline would wait for the next tick.

use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use axplat::{
    irq::IrqHandler,
    time::{NANOS_PER_SEC, TimeIf},
};
use kernel_guard::NoPreemptIrqSave;
use spin::Once;

use crate::{config, machine};

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// What happens when a [`VmTimer`]'s deadline has come; runs in the timer interrupt, on the timer's pCPU.
pub type OnExpiry = fn(usize);

/// A timer of one pCPU. When it expires, the interrupt alone takes a vCPU out of its guest or its sleep; `on_expiry` may do more.
#[derive(Debug)]
pub struct VmTimer {
    /// In ticks of `time`.
    deadline: AtomicU64,
    on_expiry: OnExpiry,
    argument: usize,
    next: AtomicPtr<VmTimer>,
}

impl VmTimer {
    /// A timer that is not armed and belongs to no pCPU yet.
    #[must_use]
    pub const fn new(on_expiry: OnExpiry, argument: usize) -> Self {
        Self {
            deadline: AtomicU64::new(NEVER),
            on_expiry,
            argument,
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Gives the timer to the current pCPU, for good. Once for each timer.
    pub fn register(&'static self) {
        with_current(|timers| {
            let head = timers.first.replace(Some(self));
            let head = head.map_or(core::ptr::null_mut(), |timer| {
                core::ptr::from_ref(timer).cast_mut()
            });
            self.next.store(head, Ordering::Relaxed);
        });
    }

    /// Sets the deadline, in ticks of `time`; [`NEVER`] disarms. On the timer's own pCPU.
    pub fn arm(&'static self, deadline: u64) {
        with_current(|timers| timers.arm(self, deadline));
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or from a `&'static VmTimer` in `register`.
        unsafe { self.next.load(Ordering::Relaxed).as_ref() }
    }
}

/// One pCPU's timers. Only that pCPU touches them, with interrupts off.
struct CpuTimers {
    /// The scheduler's next tick.
    tick: Cell<u64>,
    /// Whether the tick waits until it is [resumed](resume_tick).
    suspended: Cell<bool>,
    first: Cell<Option<&'static VmTimer>>,
    /// Whom [`arm_current`] arms.
    current: Cell<Option<&'static VmTimer>>,
    /// What the hardware holds.
    programmed: Cell<u64>,
}

impl CpuTimers {
    const fn new() -> Self {
        Self {
            tick: Cell::new(NEVER),
            suspended: Cell::new(false),
            first: Cell::new(None),
            current: Cell::new(None),
            programmed: Cell::new(NEVER),
        }
    }

    fn all(&self) -> impl Iterator<Item = &'static VmTimer> {
        core::iter::successors(self.first.get(), |timer| timer.next())
    }

    /// The tick's deadline, if it counts.
    fn tick_due(&self) -> u64 {
        if self.suspended.get() {
            NEVER
        } else {
            self.tick.get()
        }
    }

    fn earliest(&self) -> u64 {
        self.all()
            .map(|timer| timer.deadline.load(Ordering::Relaxed))
            .fold(self.tick_due(), u64::min)
    }

    fn arm(&self, timer: &VmTimer, deadline: u64) {
        timer.deadline.store(deadline, Ordering::Relaxed);
        if deadline < self.programmed.get() {
            self.program(deadline);
        }
    }

    fn program(&self, deadline: u64) {
        self.programmed.set(deadline);
        set_hardware(deadline);
    }
}

#[percpu::def_percpu]
static TIMERS: CpuTimers = CpuTimers::new();

fn with_current<T>(f: impl FnOnce(&CpuTimers) -> T) -> T {
    let _guard = NoPreemptIrqSave::new();
    // SAFETY: neither preemption nor an interrupt can come between, so this pCPU's timers are this call's alone.
    f(unsafe { TIMERS.current_ref_raw() })
}

/// Chooses the timer of the current pCPU that [`arm_current`] is about: whoever switches tasks does so for each.
pub fn set_current(timer: Option<&'static VmTimer>) {
    with_current(|timers| timers.current.set(timer));
}

/// [Arms](VmTimer::arm) the [current](set_current) timer of the current pCPU, if it has one.
pub fn arm_current(deadline: u64) {
    with_current(|timers| {
        if let Some(timer) = timers.current.get() {
            timers.arm(timer, deadline);
        }
    });
}

static TICK_HANDLER: Once<IrqHandler> = Once::new();
static HAS_SSTC: AtomicBool = AtomicBool::new(false);

pub(crate) fn init() {
    HAS_SSTC.store(machine().has_extension("sstc"), Ordering::Relaxed);
}

/// Starts the tick of the boot hart; ArceOS does it for the others.
pub(crate) fn init_current() {
    TimeIfImpl::set_oneshot_timer(0);
}

pub(crate) fn set_tick_handler(handler: IrqHandler) -> bool {
    let first = TICK_HANDLER.get().is_none();
    TICK_HANDLER.call_once(|| handler);
    first
}

/// Stops the current pCPU's tick, until [`resume_tick`]: one task owns the pCPU, so there is nothing to schedule.
pub fn suspend_tick() {
    with_current(|timers| timers.suspended.set(true));
}

/// Lets the current pCPU tick again, at once if a tick is due.
pub fn resume_tick() {
    with_current(|timers| {
        timers.suspended.set(false);
        timers.program(timers.earliest());
    });
}

/// The timer interrupt: calls whatever is due, then programs the earliest of what is left.
pub(crate) fn serve() {
    let now = TimeIfImpl::current_ticks();
    with_current(|timers| {
        for timer in timers.all() {
            if timer.deadline.load(Ordering::Relaxed) <= now {
                timer.deadline.store(NEVER, Ordering::Relaxed);
                (timer.on_expiry)(timer.argument);
            }
        }
        if timers.tick_due() <= now {
            timers.tick.set(NEVER);
            // It sets the next tick.
            if let Some(handler) = TICK_HANDLER.get() {
                handler();
            } else {
                timers
                    .tick
                    .set(now + machine().timebase_hz / config::TICKS_PER_SEC as u64);
            }
        }
        timers.program(timers.earliest());
    });
}

/// Sets the hart's comparator.
fn set_hardware(deadline: u64) {
    if HAS_SSTC.load(Ordering::Relaxed) {
        // SAFETY: `stimecmp` (Sstc, 0x14d) decides only when the timer interrupt comes.
        unsafe { core::arch::asm!("csrw 0x14d, {}", in(reg) deadline, options(nomem, nostack)) };
    } else {
        // The call cannot fail (SBI, "Timer Extension").
        let _ = sbi_rt::set_timer(deadline);
    }
}

struct TimeIfImpl;

#[impl_plat_interface]
impl TimeIf for TimeIfImpl {
    /// The `time` counter.
    fn current_ticks() -> u64 {
        riscv::register::time::read64()
    }

    /// Rounded down.
    fn ticks_to_nanos(ticks: u64) -> u64 {
        let hz = machine().timebase_hz;
        match NANOS_PER_SEC.checked_rem(hz) {
            Some(0) => ticks.wrapping_mul(NANOS_PER_SEC / hz),
            _ => (u128::from(ticks) * u128::from(NANOS_PER_SEC) / u128::from(hz.max(1))) as u64,
        }
    }

    /// Rounded up, so that a deadline is never early.
    fn nanos_to_ticks(nanos: u64) -> u64 {
        let hz = machine().timebase_hz;
        match NANOS_PER_SEC.checked_rem(hz) {
            Some(0) => nanos.div_ceil(NANOS_PER_SEC / hz),
            _ => (u128::from(nanos) * u128::from(hz)).div_ceil(u128::from(NANOS_PER_SEC)) as u64,
        }
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
        let deadline = Self::nanos_to_ticks(deadline_ns);
        with_current(|timers| {
            timers.tick.set(deadline);
            if !timers.suspended.get() && deadline < timers.programmed.get() {
                timers.program(deadline);
            }
        });
    }
}
