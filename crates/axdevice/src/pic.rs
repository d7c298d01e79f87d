//! The two 8259A interrupt controllers of a PC (Intel 8259A data sheet), with the edge/level control registers of EISA.
//!
//! The second sits at input 2 of the first, which sees its output as a level. An edge, once seen, stays until it is acknowledged,
//! even if the line falls. The pair starts as firmware leaves it: initialized, all masked.

mod chip;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::{Arc, Weak};

use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use crate::lapic::{ApicBus, ExternalInterrupts};
use crate::{AccessFault, AxVmDevicesBuilder, Device, InterruptController, IrqLine};
use chip::Chip;

const FIRST: u64 = 0x20;
const SECOND: u64 = 0xa0;
const FIRST_EDGE_LEVEL: u64 = 0x4d0;
const SECOND_EDGE_LEVEL: u64 = 0x4d1;

/// The input of the first where the second is.
const CASCADE: u8 = 2;

/// The pair of 8259As. Its inputs are numbered 0 to 15; input 2 is taken.
pub struct Pic8259 {
    name: String,
    output: IrqLine,
    state: Mutex<State>,
}

impl Pic8259 {
    /// The pair at the pin LINT0 of vCPU 0.
    #[must_use]
    pub fn new(name: impl Into<String>, apics: &Arc<ApicBus>) -> Arc<Self> {
        let controller: Arc<dyn InterruptController> = apics.clone();
        let pic = Arc::new(Self::with_output(name, IrqLine::new(controller, 0)));
        let weak: Weak<Self> = Arc::downgrade(&pic);
        apics.connect_ext_int(weak);
        pic
    }

    fn with_output(name: impl Into<String>, output: IrqLine) -> Self {
        Self {
            name: name.into(),
            output,
            state: Mutex::new(State::new()),
        }
    }

    /// Puts the pair at its ports.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        bus.port_by_number(FIRST as u16, 2, self.clone())
            .port_by_number(SECOND as u16, 2, self.clone())
            .port_by_number(FIRST_EDGE_LEVEL as u16, 2, self.clone())
    }

    /// Runs `f` on the state, then lets the output follow it.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = f(&mut state);
        self.follow(&mut state);
        result
    }

    /// Lets the output follow the state.
    fn follow(&self, state: &mut State) {
        state.cascade();
        let level = state.first.output();
        if state.line != level {
            state.line = level;
            self.output.set(level);
        }
    }
}

impl Device for Pic8259 {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let port = Port::at(offset, width)?;
        let mut state = self.state.lock();
        let polls = state.is_polled(port);
        let value = state.read(port);
        // All other reads change nothing.
        if polls {
            self.follow(&mut state);
        }
        Ok(value.into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let port = Port::at(offset, width)?;
        self.with(|state| state.write(port, data as u8));
        Ok(())
    }

    /// The lines that lead here are low, too: whatever drives one is reset as well.
    fn reset(&self) {
        self.with(|state| {
            *state = State {
                line: state.line,
                ..State::new()
            }
        });
    }
}

impl InterruptController for Pic8259 {
    fn set_line(&self, source: u32, level: LineLevel) {
        self.with(|state| state.set_line(source, level));
    }
}

impl ExternalInterrupts for Pic8259 {
    /// With nothing to acknowledge, the vector of input 7.
    fn acknowledge(&self) -> u8 {
        self.with(State::acknowledge)
    }
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// A0 is low.
    Command(Which),
    /// A0 is high.
    Data(Which),
    EdgeLevel(Which),
}

impl Port {
    fn at(port: u64, width: AccessWidth) -> Result<Self, AccessFault> {
        if width != AccessWidth::Byte {
            return Err(AccessFault);
        }
        const FIRST_DATA: u64 = FIRST + 1;
        const SECOND_DATA: u64 = SECOND + 1;
        Ok(match port {
            FIRST => Self::Command(Which::First),
            FIRST_DATA => Self::Data(Which::First),
            SECOND => Self::Command(Which::Second),
            SECOND_DATA => Self::Data(Which::Second),
            FIRST_EDGE_LEVEL => Self::EdgeLevel(Which::First),
            SECOND_EDGE_LEVEL => Self::EdgeLevel(Which::Second),
            _ => return Err(AccessFault),
        })
    }
}

struct State {
    first: Chip,
    second: Chip,
    /// The level of the output.
    line: LineLevel,
}

impl State {
    fn new() -> Self {
        Self {
            // The timer, the keyboard and the cascade are edges for ever, and so are the clock and the coprocessor. The vectors are those
            // of the BIOS.
            first: Chip::new(0x08, 0xf8, 1 << CASCADE),
            second: Chip::new(0x70, 0xde, 0),
            line: LineLevel::Low,
        }
    }

    fn chip(&mut self, which: Which) -> &mut Chip {
        match which {
            Which::First => &mut self.first,
            Which::Second => &mut self.second,
        }
    }

    /// Lets the first see the second's output.
    fn cascade(&mut self) {
        let level = self.second.output();
        self.first.set_line(CASCADE, level);
    }

    fn set_line(&mut self, source: u32, level: LineLevel) {
        match u8::try_from(source) {
            // Nothing but the second one is here.
            Ok(CASCADE) => {}
            Ok(input @ 0..8) => self.first.set_line(input, level),
            Ok(input @ 8..16) => self.second.set_line(input - 8, level),
            Ok(_) | Err(_) => {}
        }
    }

    fn acknowledge(&mut self) -> u8 {
        match self.first.acknowledge() {
            Some(CASCADE) => {
                let input = self.second.acknowledge();
                self.second.vector(input)
            }
            input => self.first.vector(input),
        }
    }

    /// Whether a read of `port` acknowledges an interrupt.
    fn is_polled(&mut self, port: Port) -> bool {
        match port {
            Port::Command(which) | Port::Data(which) => self.chip(which).is_polled(),
            Port::EdgeLevel(_) => false,
        }
    }

    fn read(&mut self, port: Port) -> u8 {
        match port {
            Port::Command(which) => self.chip(which).read_status(),
            Port::Data(which) => self.chip(which).read_data(),
            Port::EdgeLevel(which) => self.chip(which).edge_level(),
        }
    }

    fn write(&mut self, port: Port, value: u8) {
        match port {
            Port::Command(which) => self.chip(which).write_command(value),
            Port::Data(which) => self.chip(which).write_data(value),
            Port::EdgeLevel(which) => self.chip(which).set_edge_level(value),
        }
    }
}
