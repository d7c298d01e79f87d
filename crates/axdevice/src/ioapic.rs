//! The I/O APIC (Intel 82093AA data sheet, with the EOI register of version 0x20).
//!
//! Each pin has a redirection entry, which makes a message of it. An edge is sent when it comes, or lost if the pin is masked. A level is
//! sent when it is seen and not on its way already ("remote IRR"), which it is until a local APIC says that the vector was served.
//!
//! A line that is high asks for attention: the entry's polarity says how a board is wired, and is only kept.

mod entry;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use axaddrspace::GuestPhysAddr;
use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use crate::lapic::{Acceptance, ApicBus, EndOfInterrupt, TriggerMode};
use crate::{AccessFault, Device, InterruptController, ServedInterrupt};
use entry::Entry;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const EOI: u64 = 0x40;

const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const FIRST_ENTRY: u8 = 0x10;

/// The part of the ID register that exists.
const ID_BITS: u32 = 0x0f00_0000;

/// An I/O APIC of 24 pins.
pub struct IoApic {
    name: String,
    apics: Arc<ApicBus>,
    state: Mutex<State>,
}

impl IoApic {
    /// Where the first I/O APIC of a PC is.
    pub const PAGE: GuestPhysAddr = GuestPhysAddr::new(0xfec0_0000);

    /// The size of the registers in bytes.
    pub const PAGE_SIZE: u64 = 0x1000;

    /// The number of pins.
    pub const PINS: u32 = 24;

    /// An I/O APIC as at power-on, which becomes the one of `apics`.
    #[must_use]
    pub fn new(name: impl Into<String>, apics: Arc<ApicBus>) -> Arc<Self> {
        let io_apic = Arc::new(Self {
            name: name.into(),
            apics: Arc::clone(&apics),
            state: Mutex::new(State::new()),
        });
        let weak: Weak<Self> = Arc::downgrade(&io_apic);
        apics.connect_io_apic(weak);
        io_apic
    }

    /// From now on `whom` hears when the level of pin `pin` has been served; then the line is low.
    pub fn on_served(&self, pin: u32, whom: Weak<dyn ServedInterrupt>) {
        self.state.lock().passed.push((pin, whom));
    }
}

impl Device for IoApic {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let state = self.state.lock();
        Ok(match (offset, width) {
            (SELECT, AccessWidth::Dword | AccessWidth::Byte) => state.select.into(),
            (WINDOW, AccessWidth::Dword) => state.read().into(),
            (EOI, AccessWidth::Dword) => 0,
            _ => return Err(AccessFault),
        })
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let mut state = self.state.lock();
        match (offset, width) {
            (SELECT, AccessWidth::Dword | AccessWidth::Byte) => state.select = data as u8,
            (WINDOW, AccessWidth::Dword) => state.write(data as u32, &self.apics),
            (EOI, AccessWidth::Dword) => state.end_of_interrupt(data as u8, &self.apics),
            _ => return Err(AccessFault),
        }
        Ok(())
    }

    /// The lines that lead here are low, too: whatever drives one is reset as well.
    fn reset(&self) {
        let mut state = self.state.lock();
        let passed = core::mem::take(&mut state.passed);
        *state = State {
            passed,
            ..State::new()
        };
    }
}

impl InterruptController for IoApic {
    fn set_line(&self, source: u32, level: LineLevel) {
        self.state.lock().set_line(source, level, &self.apics);
    }
}

impl EndOfInterrupt for IoApic {
    fn end_of_interrupt(&self, vector: u8) {
        self.state.lock().end_of_interrupt(vector, &self.apics);
    }
}

struct State {
    select: u8,
    id: u32,
    pins: [Pin; IoApic::PINS as usize],
    /// Who hears of the service of a pin.
    passed: Vec<(u32, Weak<dyn ServedInterrupt>)>,
}

#[derive(Clone, Copy)]
struct Pin {
    entry: Entry,
    line: LineLevel,
}

impl State {
    fn new() -> Self {
        Self {
            select: 0,
            id: 0,
            pins: [Pin {
                entry: Entry::new(),
                line: LineLevel::Low,
            }; IoApic::PINS as usize],
            passed: Vec::new(),
        }
    }

    /// The pin that the selected register belongs to, and which half of its entry it is.
    fn selected_pin(&mut self) -> Option<(&mut Pin, Half)> {
        let index = self.select.checked_sub(FIRST_ENTRY)?;
        let half = if index % 2 == 0 {
            Half::Low
        } else {
            Half::High
        };
        Some((self.pins.get_mut(usize::from(index / 2))?, half))
    }

    fn read(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => (IoApic::PINS - 1) << 16 | 0x20,
            select => {
                let index = select.checked_sub(FIRST_ENTRY).map(usize::from);
                let pin = index.and_then(|index| self.pins.get(index / 2));
                pin.map_or(0, |pin| match select % 2 {
                    0 => pin.entry.low(),
                    _ => pin.entry.high(),
                })
            }
        }
    }

    fn write(&mut self, value: u32, apics: &ApicBus) {
        match self.select {
            ID => self.id = value & ID_BITS,
            VERSION | ARBITRATION => {}
            _ => {
                if let Some((pin, half)) = self.selected_pin() {
                    match half {
                        Half::Low => pin.entry.set_low(value),
                        Half::High => pin.entry.set_high(value),
                    }
                    pin.look_at_level(apics);
                }
            }
        }
    }

    fn set_line(&mut self, source: u32, level: LineLevel, apics: &ApicBus) {
        if let Some(pin) = self.pins.get_mut(source as usize) {
            pin.set_line(level, apics);
        }
    }

    fn end_of_interrupt(&mut self, vector: u8, apics: &ApicBus) {
        let mut asks = false;
        for pin in &mut self.pins {
            if pin.entry.is_on_its_way() && pin.entry.vector() == vector {
                pin.entry.arrived();
                asks |= pin.line == LineLevel::High;
            }
        }
        if asks {
            self.ask_again(vector, apics);
        }
    }
}

impl State {
    /// A line is high after the service of `vector`. Most often that is one more request; but there are lines that nobody lowers but
    /// their service.
    #[cold]
    #[inline(never)]
    fn ask_again(&mut self, vector: u8, apics: &ApicBus) {
        let passed = &self.passed;
        for (number, pin) in (0..).zip(&mut self.pins) {
            if pin.entry.vector() != vector || pin.line == LineLevel::Low {
                continue;
            }
            let whom = passed.iter().find(|(passed, _)| *passed == number);
            match whom.and_then(|(_, whom)| whom.upgrade()) {
                None => pin.look_at_level(apics),
                Some(whom) => {
                    pin.line = LineLevel::Low;
                    whom.served();
                }
            }
        }
    }
}

/// Half of a redirection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

impl Pin {
    fn set_line(&mut self, level: LineLevel, apics: &ApicBus) {
        let before = core::mem::replace(&mut self.line, level);
        match self.entry.trigger() {
            TriggerMode::Level => self.look_at_level(apics),
            TriggerMode::Edge => {
                let rose = before == LineLevel::Low && level == LineLevel::High;
                if rose && !self.entry.is_masked() {
                    self.send(apics);
                }
            }
        }
    }

    /// Sends a level that nobody was told of. If nobody takes it, the next write of the entry or change of the line tries again.
    fn look_at_level(&mut self, apics: &ApicBus) {
        if self.line == LineLevel::High
            && self.entry.trigger() == TriggerMode::Level
            && !self.entry.is_masked()
            && !self.entry.is_on_its_way()
            && self.send(apics) == Acceptance::Accepted
        {
            self.entry.sent();
        }
    }

    fn send(&self, apics: &ApicBus) -> Acceptance {
        match self.entry.message() {
            Some(message) => apics.send(message),
            None => Acceptance::Refused,
        }
    }
}
