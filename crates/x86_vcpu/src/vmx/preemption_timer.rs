//! The VMX-preemption timer (SDM vol. 3, 26.5.1): the guest's own timers end its turn by it, without an interrupt of the host's.
//!
//! It counts while the guest runs or halts, from what the VMCS says at the entry, so the entry says how long there is left.

use super::{
    controls::pin,
    fields::{VmcsControl32, VmcsTimer32},
};
use crate::{
    backend::{Alarm, Exit},
    deliver::NEVER,
};

/// Whether the guest is to be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No, and the VMCS says so.
    Idle,
    /// No, which the VMCS does not say yet.
    Stopped,
    /// Yes, at another time than before, or a turn begins.
    Started,
    /// Yes: each entry says how long there is left.
    Counting,
}

/// The timer, and the pin-based controls, which switch it.
#[derive(Debug)]
pub(super) struct PreemptionTimer {
    /// The controls without it.
    pin: u32,
    /// Who ends turns: the host, if there is no timer.
    alarm: Alarm,
    /// How much slower it counts than the time stamp counter.
    shift: u32,
    /// No turn is longer, however often the guest exits in it: only its end lets in what the processor held back.
    longest_turn: u64,
    /// When this turn ends; [`NEVER`]: it begins with the next entry.
    turn_end: u64,
    deadline: u64,
    state: State,
    /// While it counts: when the guest is to be taken out, in what it counts.
    end: u64,
    /// The controls as the VMCS holds them.
    written: u32,
}

impl PreemptionTimer {
    /// For a VMCS that holds the controls `pin`. `shift`: how much slower it counts than the time stamp counter; `None`: there is no timer.
    pub(super) const fn new(pin: u32, shift: Option<u32>, longest_turn: u64) -> Self {
        let (alarm, shift) = match shift {
            Some(shift) => (Alarm::Hardware, shift),
            None => (Alarm::Host, 0),
        };
        Self {
            pin,
            alarm,
            shift,
            longest_turn,
            turn_end: NEVER,
            deadline: NEVER,
            state: match (alarm, longest_turn) {
                (Alarm::Host, _) | (Alarm::Hardware, NEVER) => State::Idle,
                (Alarm::Hardware, _) => State::Started,
            },
            end: NEVER,
            written: pin,
        }
    }

    /// The guest is to exit when the time stamp counter shows `deadline`, if there is a timer.
    pub(super) fn set(&mut self, deadline: u64) -> Alarm {
        match self.alarm {
            Alarm::Host => {}
            Alarm::Hardware => {
                self.deadline = deadline;
                self.state = if deadline & self.longest_turn == NEVER {
                    State::Stopped
                } else {
                    State::Started
                };
            }
        }
        self.alarm
    }

    /// No deadline is set, and a turn begins with the next entry, whatever ended the last.
    pub(super) fn begin_turn(&mut self) {
        self.turn_end = NEVER;
        self.set(NEVER);
    }

    /// What its exit is. Where turns have an end, something of the host's may wait that the processor held back: it is let in.
    pub(super) fn exit(&mut self) -> Exit {
        if self.longest_turn == NEVER {
            self.set(NEVER);
            Exit::Deadline
        } else {
            // The deadline stays.
            self.turn_end = NEVER;
            self.state = State::Started;
            Exit::HostInterrupt
        }
    }

    /// Brings the VMCS up to date, right before an entry.
    #[inline(always)]
    pub(super) fn update(&mut self, now: u64) {
        match self.state {
            State::Idle => {}
            State::Counting => self.count(now),
            State::Stopped | State::Started => self.switch(now),
        }
    }

    #[inline(always)]
    fn count(&self, now: u64) {
        let counts = self.end.saturating_sub(now >> self.shift);
        VmcsTimer32::Preemption.write(u32::try_from(counts).unwrap_or(u32::MAX));
    }

    #[cold]
    #[inline(never)]
    fn switch(&mut self, now: u64) {
        match self.state {
            State::Idle | State::Counting => {}
            State::Stopped => {
                self.control(self.pin);
                self.state = State::Idle;
            }
            State::Started => self.start(now),
        }
    }

    fn start(&mut self, now: u64) {
        self.control(self.pin | pin::PREEMPTION_TIMER);
        if self.turn_end == NEVER {
            self.turn_end = now.saturating_add(self.longest_turn);
        }
        // It counts changes of one bit of the time stamp counter: to the first at the end or after it.
        let end = self.deadline.min(self.turn_end);
        self.end = end.saturating_add((1 << self.shift) - 1) >> self.shift;
        self.state = State::Counting;
        self.count(now);
    }

    fn control(&mut self, controls: u32) {
        if self.written != controls {
            VmcsControl32::PinBased.write(controls);
            self.written = controls;
        }
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
        assert_eq!(timer.set(deadline), Alarm::Hardware);
        again(timer, now)
    }

    /// The same, where the deadline stays.
    fn again(timer: &mut PreemptionTimer, now: u64) -> (u32, u32) {
        timer.update(now);
        let counts = VmcsTimer32::Preemption.read();
        (VmcsControl32::PinBased.read(), counts)
    }

    #[test]
    fn counts_what_is_left() {
        machine::with(|m| m.load(0x1000)).unwrap();
        let timer = &mut PreemptionTimer::new(PIN, Some(5), NEVER);
        assert_eq!(enter(timer, 1000, 63), (ON, 31));
        assert_eq!(enter(timer, 1000, 64), (ON, 30));
        assert_eq!(again(timer, 100), (ON, 29));
        assert_eq!(again(timer, 1001), (ON, 1));
        assert_eq!(again(timer, 1024), (ON, 0));
        assert_eq!(again(timer, 5000), (ON, 0));
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
        let timer = &mut PreemptionTimer::new(PIN, Some(5), 3200);
        assert_eq!(enter(timer, NEVER, 320), (ON, 100));
        assert_eq!(enter(timer, 640, 320), (ON, 10));
        assert_eq!(enter(timer, 6400, 320), (ON, 100));
        assert_eq!(
            enter(timer, 6400, 1920),
            (ON, 50),
            "an exit in between begins no other turn"
        );
        assert_eq!(enter(timer, NEVER, 4000), (ON, 0), "at once");
        assert_eq!(timer.exit(), Exit::HostInterrupt);
        assert_eq!(again(timer, 4000), (ON, 100), "another turn");
        assert_eq!(again(timer, 5600), (ON, 50));
        // The host ends this turn, and others have theirs.
        timer.begin_turn();
        assert_eq!(again(timer, 51_200), (ON, 100));
    }

    #[test]
    fn there_may_be_no_timer() {
        machine::with(|m| m.load(0x1000)).unwrap();
        let mut timer = PreemptionTimer::new(PIN, None, 3200);
        assert_eq!(timer.set(1000), Alarm::Host);
        timer.update(0);
        assert_eq!(VmcsControl32::PinBased.read(), 0, "nothing was written");
    }
}
