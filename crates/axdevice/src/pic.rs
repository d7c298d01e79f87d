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
use spin::{Mutex, MutexGuard};

use crate::lapic::{ApicBus, ExternalInterrupts};
use crate::{AccessFault, AxVmDevicesBuilder, Device, InterruptController, IrqLine};
use chip::Chip;

const FIRST: u64 = 0x20;
const SECOND: u64 = 0xa0;
const FIRST_EDGE_LEVEL: u64 = 0x4d0;
const SECOND_EDGE_LEVEL: u64 = 0x4d1;

/// The lines of the address that tell a chip's two ports apart, and the chips; those, also where their edge/level control registers are.
const A0: u64 = 1 << 0;
const CHIP: u64 = FIRST ^ SECOND;
const EDGE_LEVEL_CHIP: u64 = FIRST_EDGE_LEVEL ^ SECOND_EDGE_LEVEL;
const _: () = assert!(CHIP.is_power_of_two() && EDGE_LEVEL_CHIP.is_power_of_two());

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

    /// The answer to a poll, which acknowledges an interrupt.
    #[cold]
    #[inline(never)]
    fn read_poll(&self, mut state: MutexGuard<'_, State>, port: Port) -> Result<u64, AccessFault> {
        let value = state.read_poll(port);
        self.follow(&mut state);
        Ok(value.into())
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
        let [first, _] = &state.chips;
        let level = first.output();
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
        let state = self.state.lock();
        match state.peek(port) {
            Some(value) => Ok(value.into()),
            None => self.read_poll(state, port),
        }
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
        let by = |line: u64| match port & line {
            0 => Which::First,
            _ => Which::Second,
        };
        if port & !(A0 | CHIP) == FIRST {
            Ok(match port & A0 {
                0 => Self::Command(by(CHIP)),
                _ => Self::Data(by(CHIP)),
            })
        } else if port & !EDGE_LEVEL_CHIP == FIRST_EDGE_LEVEL {
            Ok(Self::EdgeLevel(by(EDGE_LEVEL_CHIP)))
        } else {
            Err(AccessFault)
        }
    }
}

struct State {
    chips: [Chip; 2],
    /// The level of the output.
    line: LineLevel,
}

impl State {
    fn new() -> Self {
        Self {
            // The timer, the keyboard and the cascade are edges for ever, and so are the clock and the coprocessor. The vectors are those
            // of the BIOS.
            chips: [
                Chip::new(0x08, 0xf8, 1 << CASCADE),
                Chip::new(0x70, 0xde, 0),
            ],
            line: LineLevel::Low,
        }
    }

    fn chip(&mut self, which: Which) -> &mut Chip {
        &mut self.chips[which as usize]
    }

    /// Lets the first see the second's output.
    fn cascade(&mut self) {
        let [first, second] = &mut self.chips;
        first.set_line(CASCADE, second.output());
    }

    fn set_line(&mut self, source: u32, level: LineLevel) {
        let [first, second] = &mut self.chips;
        match u8::try_from(source) {
            // Nothing but the second one is here.
            Ok(CASCADE) => {}
            Ok(input @ 0..8) => first.set_line(input, level),
            Ok(input @ 8..16) => second.set_line(input - 8, level),
            Ok(_) | Err(_) => {}
        }
    }

    fn acknowledge(&mut self) -> u8 {
        let [first, second] = &mut self.chips;
        match first.acknowledge() {
            Some(CASCADE) => {
                let input = second.acknowledge();
                second.vector(input)
            }
            input => first.vector(input),
        }
    }

    /// What a read of `port` answers, if it changes nothing: it acknowledges no interrupt.
    #[inline(always)]
    fn peek(&self, port: Port) -> Option<u8> {
        let chip = |which: Which| &self.chips[which as usize];
        match port {
            Port::Command(which) => chip(which).peek_status(),
            Port::Data(which) => chip(which).peek_data(),
            Port::EdgeLevel(which) => Some(chip(which).edge_level()),
        }
    }

    /// What it answers after a poll was asked for.
    fn read_poll(&mut self, port: Port) -> u8 {
        match port {
            Port::Command(which) | Port::Data(which) => self.chip(which).read_poll(),
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
