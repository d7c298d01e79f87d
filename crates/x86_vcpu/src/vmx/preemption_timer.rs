//! The VMX-preemption timer (SDM vol. 3, 26.5.1): the guest's own timers end its turn by it, without an interrupt of the host's.
//!
//! It counts while the guest runs or halts, from what the VMCS says at the entry, so the entry says how long there is left.

use super::{
    controls::pin,
    fields::{VmcsControl32, VmcsTimer32},
};
use crate::backend::Exit;

/// Never.
const NEVER: u64 = u64::MAX;

/// The timer, and the pin-based controls, which switch it.
#[derive(Debug)]
pub(super) struct PreemptionTimer {
    /// The controls without it.
    pin: u32,
    /// How much slower it counts than the time stamp counter, as a shift.
    shift: u32,
    /// No turn is longer.
    longest_turn: u64,
    deadline: u64,
    /// The controls as the VMCS holds them.
    written: u32,
}

impl PreemptionTimer {
    /// For a VMCS that holds the controls `pin`.
    pub(super) const fn new(pin: u32, shift: u32, longest_turn: u64) -> Self {
        Self {
            pin,
            shift,
            longest_turn,
            deadline: NEVER,
            written: pin,
        }
    }

    /// The guest is to exit when the time stamp counter shows `deadline`.
    pub(super) fn set(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    /// What its exit is. Where turns have an end, something of the host's may wait that the processor held back: it is let in.
    pub(super) fn exit(&mut self) -> Exit {
        if self.longest_turn == NEVER {
            self.deadline = NEVER;
            Exit::Deadline
        } else {
            Exit::HostInterrupt
        }
    }

    /// Brings the VMCS up to date, right before an entry.
    #[inline(always)]
    pub(super) fn update(&mut self, now: impl FnOnce() -> u64) {
        if self.deadline & self.longest_turn == NEVER {
            if self.written != self.pin {
                self.switch(self.pin);
            }
        } else {
            self.count(now());
        }
    }

    fn count(&mut self, now: u64) {
        let on = self.pin | pin::PREEMPTION_TIMER;
        if self.written != on {
            self.switch(on);
        }
        let end = self.deadline.min(now.saturating_add(self.longest_turn));
        // It counts changes of one bit of the time stamp counter: to the first at the end or after it.
        let last = end.saturating_add((1 << self.shift) - 1) >> self.shift;
        let counts = last.saturating_sub(now >> self.shift);
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

    const PIN: u32 = 0x1f;
    const ON: u32 = PIN | pin::PREEMPTION_TIMER;

    /// The controls and the count that an entry writes.
    fn enter(timer: &mut PreemptionTimer, deadline: u64, now: u64) -> (u32, u32) {
        timer.set(deadline);
        timer.update(|| now);
        let counts = VmcsTimer32::Preemption.read();
        (VmcsControl32::PinBased.read(), counts)
    }

    #[test]
    fn counts_what_is_left() {
        machine::with(|m| m.load(0x1000)).unwrap();
        let timer = &mut PreemptionTimer::new(PIN, 5, NEVER);
        assert_eq!(enter(timer, 1000, 63), (ON, 31));
        assert_eq!(enter(timer, 1000, 64), (ON, 30));
        assert_eq!(enter(timer, 1024, 64), (ON, 30));
        assert_eq!(enter(timer, 1000, 1000), (ON, 1));
        assert_eq!(enter(timer, 1024, 1024), (ON, 0));
        assert_eq!(enter(timer, 1000, 2000), (ON, 0));
        assert_eq!(enter(timer, u64::MAX - 1, 0), (ON, u32::MAX));
        assert_eq!(enter(timer, NEVER, 0).0, PIN);
    }

    #[test]
    fn no_turn_is_longer_than_the_longest() {
        machine::with(|m| m.load(0x1000)).unwrap();
        let timer = &mut PreemptionTimer::new(PIN, 5, 3200);
        assert_eq!(enter(timer, NEVER, 320), (ON, 100));
        assert_eq!(enter(timer, 640, 320), (ON, 10));
        assert_eq!(enter(timer, 6400, 320), (ON, 100));
        assert_eq!(timer.exit(), Exit::HostInterrupt);
    }
}
