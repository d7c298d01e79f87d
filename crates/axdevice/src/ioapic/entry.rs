//! A redirection entry (82093AA data sheet, 3.2.4).

use crate::lapic::{Delivery, Destination, DestinationMode, Message, TriggerMode};

const LOGICAL: u32 = 1 << 11;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// All but the delivery status, which is never pending, and remote IRR.
const WRITABLE: u32 = 0x1_afff;
const HIGH_WRITABLE: u32 = 0xff00_0000;

/// What becomes of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    low: u32,
    high: u32,
}

impl Entry {
    /// As at power-on: masked.
    pub(super) fn new() -> Self {
        Self {
            low: MASKED,
            high: 0,
        }
    }

    pub(super) fn low(self) -> u32 {
        self.low
    }

    pub(super) fn high(self) -> u32 {
        self.high
    }

    /// Writes the lower half. An edge is never on its way: software that sets one, and a level again, takes back what no EOI did.
    pub(super) fn set_low(&mut self, value: u32) {
        self.low = self.low & !WRITABLE | value & WRITABLE;
        if self.trigger() == TriggerMode::Edge {
            self.low &= !REMOTE_IRR;
        }
    }

    pub(super) fn set_high(&mut self, value: u32) {
        self.high = value & HIGH_WRITABLE;
    }

    pub(super) fn is_masked(self) -> bool {
        self.low & MASKED != 0
    }

    pub(super) fn vector(self) -> u8 {
        self.low as u8
    }

    /// How the pin asks. Only vectors can do so by a level.
    pub(super) fn trigger(self) -> TriggerMode {
        match self.low >> 8 & 7 {
            0 | 1 if self.low & LEVEL != 0 => TriggerMode::Level,
            _ => TriggerMode::Edge,
        }
    }

    /// Whether a level was sent and not served yet.
    pub(super) fn is_on_its_way(self) -> bool {
        self.low & REMOTE_IRR != 0
    }

    pub(super) fn sent(&mut self) {
        self.low |= REMOTE_IRR;
    }

    pub(super) fn arrived(&mut self) {
        self.low &= !REMOTE_IRR;
    }

    /// What is sent; nothing for SMI and the reserved modes.
    pub(super) fn message(self) -> Option<Message> {
        let vector = self.vector();
        let trigger = self.trigger();
        let delivery = match self.low >> 8 & 7 {
            0 => Delivery::Fixed { vector, trigger },
            1 => Delivery::LowestPriority { vector, trigger },
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            7 => Delivery::ExtInt,
            _ => return None,
        };
        let mode = DestinationMode::of_bit(self.low & LOGICAL != 0);
        Some(Message {
            destination: Destination::of_eight_bits((self.high >> 24) as u8, mode),
            delivery,
        })
    }
}
