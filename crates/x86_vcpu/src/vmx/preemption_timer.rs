//! The VMX-preemption timer (SDM vol. 3, 26.5.1): the guest's own timers end its turn by it, without an interrupt of the host's.
//!
//! It counts while the guest runs or halts, from what the VMCS says at the entry, so the entry says how long there is left.

use super::{
    controls::pin,
    fields::{VmcsControl32, VmcsTimer32},
};

/// Never.
const NEVER: u64 = u64::MAX;

/// The timer, and the pin-based controls, which switch it.
#[derive(Debug)]
pub(super) struct PreemptionTimer {
    /// The controls without it.
    pin: u32,
    /// How much slower it counts than the time stamp counter, as a shift.
    shift: u32,
    deadline: u64,
    /// The controls as the VMCS holds them.
    written: u32,
}

impl PreemptionTimer {
    /// For a VMCS that holds the controls `pin`.
    pub(super) const fn new(pin: u32, shift: u32) -> Self {
        Self {
            pin,
            shift,
            deadline: NEVER,
            written: pin,
        }
    }

    /// The guest is to exit when the time stamp counter shows `deadline`.
    pub(super) fn set(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    /// It has done what it was asked for.
    pub(super) fn stop(&mut self) {
        self.deadline = NEVER;
    }

    /// Brings the VMCS up to date, right before an entry.
    #[inline(always)]
    pub(super) fn update(&mut self, now: impl FnOnce() -> u64) {
        if self.deadline == NEVER {
            if self.written != self.pin {
                self.switch(self.pin);
            }
            return;
        }
        let on = self.pin | pin::PREEMPTION_TIMER;
        if self.written != on {
            self.switch(on);
        }
        // It counts changes of one bit of the time stamp counter: to the first at the deadline or after it.
        let last = self.deadline.saturating_add((1 << self.shift) - 1) >> self.shift;
        let counts = last.saturating_sub(now() >> self.shift);
        VmcsTimer32::Preemption.write(u32::try_from(counts).unwrap_or(u32::MAX));
    }

    fn switch(&mut self, controls: u32) {
        VmcsControl32::PinBased.write(controls);
        self.written = controls;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmx::machine;

    #[test]
    fn counts_what_is_left() {
        machine::with(|m| m.load(0x1000)).unwrap();
        let mut timer = PreemptionTimer::new(0x1f, 5);
        let mut enter = |deadline, now| {
            timer.set(deadline);
            timer.update(|| now);
            let counts = VmcsTimer32::Preemption.read();
            (VmcsControl32::PinBased.read(), counts)
        };
        let on = 0x1f | pin::PREEMPTION_TIMER;
        assert_eq!(enter(1000, 63), (on, 31));
        assert_eq!(enter(1000, 64), (on, 30));
        assert_eq!(enter(1024, 64), (on, 30));
        assert_eq!(enter(1000, 1000), (on, 1));
        assert_eq!(enter(1024, 1024), (on, 0));
        assert_eq!(enter(1000, 2000), (on, 0));
        assert_eq!(enter(u64::MAX - 1, 0), (on, u32::MAX));
        assert_eq!(enter(NEVER, 0).0, 0x1f);
    }
}
