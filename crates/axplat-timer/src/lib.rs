//! A pCPU's timer, shared by the scheduler's tick and any number of VM timers; the same on every architecture.
//!
//! Each pCPU keeps the deadline of its tick and a list of [`VmTimer`]s; the hardware always holds the earliest. Whoever sets a
//! deadline does so on the pCPU that the timer belongs to, with interrupts off, so nothing here is locked. The scheduler would
//! otherwise have the timer to itself and a VM's deadline would wait for the next tick.
//!
//! What the timer is made of, and where a pCPU's timers are kept, is the platform's: it implements [`Hardware`]. All the rest it leaves to what
//! is here: what the scheduler does at a tick is kept in a [`TickHandler`].

#![no_std]

#[cfg(test)]
extern crate std;

mod frequency;
#[cfg(test)]
mod tests;

use core::{
    cell::Cell,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

pub use frequency::Frequency;
use spin::Once;

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// What happens when a [`VmTimer`]'s deadline has come, given the timer's argument; runs in the timer interrupt, on the timer's pCPU.
pub type OnExpiry = fn(usize);

/// A platform's timer.
pub trait Hardware: Sized + 'static {
    /// The counter that deadlines are in.
    fn now() -> u64;

    /// Has the current pCPU's timer interrupt come at `deadline`: at once if that has passed, not at all if it is [`NEVER`]. It may come
    /// earlier, where the hardware cannot count so far.
    fn program(deadline: u64);

    /// Calls `f` with the current pCPU's timers, with neither preemption nor interrupts.
    fn with_current<T>(f: impl FnOnce(&CpuTimers<Self>) -> T) -> T;
}

/// A timer of one pCPU. When it expires, the interrupt alone takes a vCPU out of its guest or its sleep; `on_expiry` may do more.
#[derive(Debug)]
pub struct VmTimer<H> {
    /// In ticks of the counter.
    deadline: AtomicU64,
    on_expiry: OnExpiry,
    argument: usize,
    next: AtomicPtr<VmTimer<H>>,
}

impl<H: Hardware> VmTimer<H> {
    /// A timer that is not armed and belongs to no pCPU yet. `on_expiry` is given `argument`.
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
        H::with_current(|timers| {
            let head = timers.first.replace(Some(self));
            let head = head.map_or(core::ptr::null_mut(), |timer| {
                core::ptr::from_ref(timer).cast_mut()
            });
            self.next.store(head, Ordering::Relaxed);
        });
    }

    /// Sets the deadline, in ticks of the counter; [`NEVER`] disarms. On the timer's own pCPU.
    pub fn arm(&'static self, deadline: u64) {
        H::with_current(|timers| timers.arm(self, deadline));
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or from a `&'static VmTimer` in `register`.
        unsafe { self.next.load(Ordering::Relaxed).as_ref() }
    }
}

/// One pCPU's timers. Only that pCPU touches them, with interrupts off.
pub struct CpuTimers<H: 'static> {
    /// The scheduler's next tick.
    tick: Cell<u64>,
    /// Whether the tick waits until it is [resumed](resume_tick).
    suspended: Cell<bool>,
    first: Cell<Option<&'static VmTimer<H>>>,
    /// The one that [`arm_current`] is about.
    current: Cell<Option<&'static VmTimer<H>>>,
    /// What the hardware holds.
    programmed: Cell<u64>,
}

impl<H: Hardware> Default for CpuTimers<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Hardware> CpuTimers<H> {
    /// No timers yet, and no tick.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tick: Cell::new(NEVER),
            suspended: Cell::new(false),
            first: Cell::new(None),
            current: Cell::new(None),
            programmed: Cell::new(NEVER),
        }
    }

    fn all(&self) -> impl Iterator<Item = &'static VmTimer<H>> {
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

    fn arm(&self, timer: &VmTimer<H>, deadline: u64) {
        timer.deadline.store(deadline, Ordering::Relaxed);
        if deadline < self.programmed.get() {
            self.program(deadline);
        }
    }

    fn program(&self, deadline: u64) {
        self.programmed.set(deadline);
        H::program(deadline);
    }
}

/// Sets the deadline of the current pCPU's next tick, in ticks of the counter; [`NEVER`]: there is none.
pub fn set_tick<H: Hardware>(deadline: u64) {
    H::with_current(|timers| {
        timers.tick.set(deadline);
        if !timers.suspended.get() && deadline < timers.programmed.get() {
            timers.program(deadline);
        }
    });
}

/// Chooses the timer of the current pCPU that [`arm_current`] is about: whoever switches tasks does so for each.
pub fn set_current<H: Hardware>(timer: Option<&'static VmTimer<H>>) {
    H::with_current(|timers| timers.current.set(timer));
}

/// [Arms](VmTimer::arm) the [current](set_current) timer of the current pCPU, if it has one.
pub fn arm_current<H: Hardware>(deadline: u64) {
    H::with_current(|timers| {
        if let Some(timer) = timers.current.get() {
            timers.arm(timer, deadline);
        }
    });
}

/// Stops the current pCPU's tick, until [`resume_tick`]: one task owns the pCPU, so there is nothing to schedule.
pub fn suspend_tick<H: Hardware>() {
    H::with_current(|timers| timers.suspended.set(true));
}

/// Lets the current pCPU tick again, at once if a tick is due.
pub fn resume_tick<H: Hardware>() {
    H::with_current(|timers| {
        timers.suspended.set(false);
        timers.program(timers.earliest());
    });
}

/// What the scheduler does at a tick, once it has said so.
#[derive(Debug)]
pub struct TickHandler(Once<fn()>);

impl Default for TickHandler {
    fn default() -> Self {
        Self::new()
    }
}

impl TickHandler {
    /// It has not said so.
    #[must_use]
    pub const fn new() -> Self {
        Self(Once::new())
    }

    /// The scheduler says. The first handler stays; says whether it is this one.
    pub fn set(&self, handler: fn()) -> bool {
        let mut first = false;
        self.0.call_once(|| {
            first = true;
            handler
        });
        first
    }

    /// What a tick means, where `ticks_a_second` ticks are due of a counter of frequency `hz`.
    #[must_use]
    pub fn tick(&self, hz: u64, ticks_a_second: usize) -> Tick {
        match self.0.get() {
            Some(&handler) => Tick::Handled(handler),
            None => Tick::Unclaimed {
                period: hz / (ticks_a_second as u64).max(1),
            },
        }
    }
}

/// What the scheduler does at a tick.
#[derive(Clone, Copy, Debug)]
pub enum Tick {
    /// It has said what, and sets its next tick in there.
    Handled(fn()),
    /// It has not yet: ticks go on at this distance until it has.
    Unclaimed {
        /// In ticks of the counter.
        period: u64,
    },
}

/// The timer interrupt: calls whatever is due, then programs the earliest of what is left.
pub fn serve<H: Hardware>(tick: Tick) {
    let now = H::now();
    H::with_current(|timers| {
        for timer in timers.all() {
            if timer.deadline.load(Ordering::Relaxed) <= now {
                timer.deadline.store(NEVER, Ordering::Relaxed);
                (timer.on_expiry)(timer.argument);
            }
        }
        if timers.tick_due() <= now {
            timers.tick.set(NEVER);
            match tick {
                Tick::Handled(handler) => handler(),
                Tick::Unclaimed { period } => timers.tick.set(now.saturating_add(period)),
            }
        }
        timers.program(timers.earliest());
    });
}
