//! An entry of an I/O APIC's redirection table: one input, from its line to a vector of a CPU (Intel 82093AA data sheet, 3.2.4).
//!
//! An entry keeps its trigger mode in all that is written to it: a level that rises while the entry says edge, and is masked, is forgotten.

use crate::acpi::madt::{Polarity, Signal, Trigger};

/// Whether an interrupt comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Closed,
}

/// The two halves of an entry.
pub(crate) trait Entry {
    fn low(&self) -> u32;
    fn set_low(&self, value: u32);
    fn set_high(&self, value: u32);
}

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
/// The interrupt of a level was taken, and has not ended.
const REMOTE_IRR: u32 = 1 << 14;
const ACTIVE_LOW: u32 = 1 << 13;

fn low(vector: u8, signal: Signal, gate: Gate) -> u32 {
    let polarity = match signal.polarity {
        Polarity::ActiveHigh => 0,
        Polarity::ActiveLow => ACTIVE_LOW,
    };
    let trigger = match signal.trigger {
        Trigger::Edge => 0,
        Trigger::Level => LEVEL,
    };
    u32::from(vector) | polarity | trigger | mask(gate)
}

const fn mask(gate: Gate) -> u32 {
    match gate {
        Gate::Open => 0,
        Gate::Closed => MASKED,
    }
}

/// Closes an entry, whatever was left in it.
pub(crate) fn reset(entry: &impl Entry, signal: Signal) {
    if entry.low() & REMOTE_IRR != 0 {
        // Nobody will end what somebody took: only as an edge the entry forgets it.
        entry.set_low(MASKED);
    }
    entry.set_low(low(0, signal, Gate::Closed));
}

/// Leads an entry to `vector` of the CPU with that APIC id. While that changes nothing comes.
pub(crate) fn route(entry: &impl Entry, apic_id: u32, vector: u8, signal: Signal, gate: Gate) {
    entry.set_low(low(vector, signal, Gate::Closed));
    entry.set_high(apic_id << 24);
    if gate == Gate::Open {
        entry.set_low(low(vector, signal, gate));
    }
}

/// Opens or closes an entry, and changes nothing else.
pub(crate) fn set_gate(entry: &impl Entry, gate: Gate) {
    entry.set_low(entry.low() & !MASKED | mask(gate));
}

#[cfg(test)]
mod tests;
