//! The timer (Intel SDM volume 3, 12.5.4).
//!
//! All times are in ticks of the host's counter. The timer counts one down in [`BUS_RATIO`] times the divisor of them.

use super::lvt::TimerMode;

/// Ticks of the counter in one of the bus clock, which the timer counts.
pub(super) const BUS_RATIO: u64 = 16;

#[derive(Clone, Debug)]
pub(super) struct Timer {
    initial: u32,
    divide: u32,
    /// When it expires, [`u64::MAX`] if it is stopped. In TSC-deadline mode, the deadline.
    due: u64,
    /// The period of an expired timer that goes on.
    min_period: u64,
}

impl Timer {
    /// A stopped timer, whose periodic mode comes every `min_period` ticks at most.
    pub(super) fn new(min_period: u64) -> Self {
        Self {
            initial: 0,
            divide: 0,
            due: u64::MAX,
            min_period: min_period.max(1),
        }
    }

    pub(super) fn min_period(&self) -> u64 {
        self.min_period
    }

    pub(super) fn due(&self) -> u64 {
        self.due
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes the initial count, which starts the timer, or stops it if zero. It does neither in TSC-deadline mode.
    pub(super) fn set_initial(&mut self, initial: u32, mode: TimerMode, now: u64) {
        match mode {
            TimerMode::OneShot | TimerMode::Periodic => {
                self.initial = initial;
                self.start(initial, mode, now);
            }
            TimerMode::TscDeadline => {}
        }
    }

    /// Writes the divide configuration. The count goes on from where it is.
    pub(super) fn set_divide(&mut self, divide: u32, mode: TimerMode, now: u64) {
        let current = self.current(mode, now);
        self.divide = divide;
        match mode {
            TimerMode::OneShot | TimerMode::Periodic => {
                if self.due != u64::MAX {
                    self.start(current.max(1), TimerMode::OneShot, now);
                }
            }
            TimerMode::TscDeadline => {}
        }
    }

    /// The timer was switched over. TSC-deadline mode shares nothing with the others.
    pub(super) fn switch_mode(&mut self, from: TimerMode, to: TimerMode) {
        if from != to && (from == TimerMode::TscDeadline || to == TimerMode::TscDeadline) {
            self.due = u64::MAX;
            self.initial = 0;
        }
    }

    /// The current count.
    pub(super) fn current(&self, mode: TimerMode, now: u64) -> u32 {
        let left = match mode {
            _ if self.due == u64::MAX => return 0,
            TimerMode::TscDeadline => return 0,
            TimerMode::OneShot => self.due.saturating_sub(now),
            TimerMode::Periodic if now < self.due => self.due - now,
            // Expired, and nobody came by yet.
            TimerMode::Periodic => {
                let period = self.period();
                period - (now - self.due) % period
            }
        };
        let count = left.div_ceil(self.unit()).min(self.initial.into());
        count as u32
    }

    /// Writes IA32_TSC_DEADLINE, which is ignored in the other modes; zero stops the timer.
    pub(super) fn set_deadline(&mut self, deadline: u64, mode: TimerMode) {
        match (mode, deadline) {
            (TimerMode::TscDeadline, 0) => self.due = u64::MAX,
            (TimerMode::TscDeadline, deadline) => self.due = deadline,
            (TimerMode::OneShot | TimerMode::Periodic, _) => {}
        }
    }

    /// IA32_TSC_DEADLINE: zero once it has expired, and in the other modes.
    pub(super) fn deadline(&self, mode: TimerMode) -> u64 {
        match mode {
            TimerMode::TscDeadline if self.due != u64::MAX => self.due,
            TimerMode::TscDeadline | TimerMode::OneShot | TimerMode::Periodic => 0,
        }
    }

    /// Goes on from an expiry, and says whether there was one. Periods that were missed are one.
    pub(super) fn expire(&mut self, mode: TimerMode, now: u64) -> bool {
        if now < self.due || self.due == u64::MAX {
            return false;
        }
        self.due = match mode {
            TimerMode::OneShot | TimerMode::TscDeadline => u64::MAX,
            TimerMode::Periodic if self.initial == 0 => u64::MAX,
            TimerMode::Periodic => {
                let period = self.period();
                let missed = (now - self.due) / period;
                self.due
                    .saturating_add(period.saturating_mul(missed.saturating_add(1)))
            }
        };
        true
    }

    fn start(&mut self, count: u32, mode: TimerMode, now: u64) {
        let ticks = self.unit() * u64::from(count);
        let ticks = match mode {
            TimerMode::Periodic => ticks.max(self.min_period),
            TimerMode::OneShot | TimerMode::TscDeadline => ticks,
        };
        self.due = match count {
            0 => u64::MAX,
            _ => now.saturating_add(ticks),
        };
    }

    /// The ticks of a whole count, at least one.
    fn period(&self) -> u64 {
        (self.unit() * u64::from(self.initial)).max(self.min_period)
    }

    /// The ticks in which the count goes down by one.
    fn unit(&self) -> u64 {
        // Bits 3, 1 and 0 are one number: 0 divides by 2, 6 by 128, and 7 by 1.
        let number = self.divide & 3 | self.divide >> 1 & 4;
        BUS_RATIO << ((number + 1) & 7)
    }
}
