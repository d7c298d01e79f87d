//! What is written to an entry.

use core::cell::RefCell;
use std::{vec, vec::Vec};

use super::*;

const PCI: Signal = Signal {
    polarity: Polarity::ActiveLow,
    trigger: Trigger::Level,
};

/// What was written to the low half, the last at the end, and how often the high one was before.
#[derive(Default)]
struct Writes {
    low: RefCell<Vec<u32>>,
    high: RefCell<Vec<(u32, usize)>>,
}

impl Entry for Writes {
    fn low(&self) -> u32 {
        self.low.borrow().last().copied().unwrap_or(MASKED)
    }

    fn set_low(&self, value: u32) {
        self.low.borrow_mut().push(value);
    }

    fn set_high(&self, value: u32) {
        let before = self.low.borrow().len();
        self.high.borrow_mut().push((value, before));
    }
}

impl Writes {
    /// The writes to the low half since the last call, the last of before that first.
    fn take(&self) -> Vec<u32> {
        let last = self.low.borrow().last().copied();
        self.low.replace(last.into_iter().collect())
    }
}

/// It is what it will be before it is open, and stays that.
#[test]
fn an_entry_never_says_another_trigger() {
    for (signal, bits) in [(PCI, LEVEL | ACTIVE_LOW), (Signal::ISA, 0)] {
        let entry = Writes::default();
        reset(&entry, signal);
        assert_eq!(entry.take(), [bits | MASKED]);
        route(&entry, 3, 0x41, signal, Gate::Open);
        let led = bits | 0x41;
        assert_eq!(entry.take(), [bits | MASKED, led | MASKED, led]);
        assert_eq!(*entry.high.borrow(), [(3 << 24, 2)], "while it is masked");
        set_gate(&entry, Gate::Closed);
        set_gate(&entry, Gate::Closed);
        set_gate(&entry, Gate::Open);
        assert_eq!(entry.take(), [led, led | MASKED, led | MASKED, led]);
        route(&entry, 0, 0x42, signal, Gate::Closed);
        assert_eq!(entry.low(), bits | 0x42 | MASKED);
    }
}

#[test]
fn what_firmware_never_ended_is_forgotten() {
    let entry = Writes::default();
    entry.set_low(LEVEL | REMOTE_IRR | 0x20);
    reset(&entry, PCI);
    let after = vec![
        LEVEL | REMOTE_IRR | 0x20,
        MASKED,
        LEVEL | ACTIVE_LOW | MASKED,
    ];
    assert_eq!(entry.take(), after);
}
