//! Time, for the devices that have any: where they read it, and how they are woken.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::CpuEvents;

/// The clock of the machine.
pub trait Clock: Send + Sync {
    /// Now, in ticks of the host's counter. It never goes back.
    fn now(&self) -> u64;

    /// Ticks a second, at least one.
    fn frequency_hz(&self) -> u64;
}

/// A clock that several devices read.
pub(crate) type SharedClock = Arc<dyn Clock>;

/// A device that has something to do at some time.
///
/// Somebody, a vCPU before it enters its guest, looks at [`deadline`](Self::deadline) and calls [`advance`](Self::advance) once it is due.
/// All times are in ticks of the host's counter.
pub trait Timed: Send + Sync {
    /// Does what is due at `now`, and says when to come again, as [`deadline`](Self::deadline) does. Too early is harmless.
    fn advance(&self, now: u64) -> u64;

    /// When there is something to do; [`u64::MAX`] for never. This is a single load.
    fn deadline(&self) -> u64;
}

/// A clock of another frequency that is derived from the machine's.
pub(crate) struct DerivedClock {
    clock: Arc<dyn Clock>,
    hz: u64,
}

impl DerivedClock {
    pub(crate) fn new(clock: Arc<dyn Clock>, hz: u64) -> Self {
        Self { clock, hz }
    }

    /// Now, in ticks of this clock.
    pub(crate) fn now(&self) -> u64 {
        self.at(self.clock.now())
    }

    /// What this clock shows at `host` ticks of the host's counter.
    pub(crate) fn at(&self, host: u64) -> u64 {
        scale(host, self.hz, self.clock.frequency_hz(), Round::Down)
    }

    /// The first tick of the host's counter at which this clock shows `tick`.
    pub(crate) fn host_ticks(&self, tick: u64) -> u64 {
        scale(tick, self.clock.frequency_hz(), self.hz, Round::Up)
    }
}

#[derive(Clone, Copy)]
enum Round {
    Down,
    Up,
}

/// `value * numerator / denominator`; [`u64::MAX`] where that is more. Zero divides like one.
fn scale(value: u64, numerator: u64, denominator: u64, round: Round) -> u64 {
    let product = u128::from(value) * u128::from(numerator);
    let denominator = u128::from(denominator.max(1));
    let quotient = match round {
        Round::Down => product / denominator,
        Round::Up => product.div_ceil(denominator),
    };
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

/// The deadline of a device that any vCPU may program and one keeps.
pub(crate) struct Alarm {
    deadline: AtomicU64,
    keeper: usize,
    events: Arc<dyn CpuEvents>,
}

impl Alarm {
    /// One that never comes, and is kept by vCPU `keeper`.
    pub(crate) fn new(keeper: usize, events: Arc<dyn CpuEvents>) -> Self {
        Self {
            deadline: AtomicU64::new(u64::MAX),
            keeper,
            events,
        }
    }

    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Acquire)
    }

    /// Sets the deadline. Its keeper hears of one that comes earlier than the last.
    pub(crate) fn set(&self, deadline: u64) {
        if deadline < self.deadline.swap(deadline, Ordering::AcqRel) {
            self.events.notify(self.keeper);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Event, Events, TestClock};

    #[test]
    fn an_alarm_tells_of_what_comes_earlier() {
        let events = Events::new();
        let alarm = Alarm::new(3, events.clone());
        for (deadline, told) in [
            (u64::MAX, [].as_slice()),
            (100, &[Event::Notify(3)]),
            (100, &[]),
            (200, &[]),
            (150, &[Event::Notify(3)]),
        ] {
            alarm.set(deadline);
            assert_eq!(
                (alarm.deadline(), events.take().as_slice()),
                (deadline, told)
            );
        }
    }

    #[test]
    fn a_clock_without_a_frequency_divides_by_none() {
        let clock = DerivedClock::new(TestClock::new(0), 1000);
        assert_eq!((clock.at(5), clock.host_ticks(5)), (5000, 0));
    }

    proptest! {
        /// A tick is there from its first host tick on, and not before.
        #[test]
        fn ticks_convert_both_ways(hz in 1u64..10_000_000, host_hz in 1u64..10_000_000_000, tick in 1u64..1 << 40) {
            let clock = DerivedClock::new(TestClock::new(host_hz), hz);
            let host = clock.host_ticks(tick);
            prop_assume!(host < u64::MAX);
            prop_assert!(clock.at(host) >= tick);
            prop_assert!(clock.at(host - 1) < tick);
        }
    }
}
