//! The interval timer of a PC: Intel's 8254 (82C54 data sheet), and the port that switches its third channel.
//!
//! Channel 0 drives interrupt 0, and channel 2 the loudspeaker, which is silent. A count is loaded at once, and so takes effect at once even
//! where it would have to wait for the end of a period.
//!
//! Counting happens while nobody looks: what a counter shows, and the level of its output, follow from the time since it was loaded. Of
//! interrupts that nobody came by for, one remains.

mod channel;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use crate::timed::{Alarm, DerivedClock};
use crate::{AccessFault, AxVmDevicesBuilder, Clock, CpuEvents, Device, IrqLine, Timed};
use channel::Channel;

/// The frequency of the 8254's clock.
const HZ: u64 = 1_193_182;

/// The least ticks between two interrupts that need no write: 100 µs.
const MIN_PERIOD: u64 = HZ / 10_000;

/// The ticks between two refreshes of memory, which software takes for a clock.
const REFRESH: u64 = 18;

const CHANNELS: u64 = 0x40;
const CONTROL: u64 = 0x43;
const SYSTEM: u64 = 0x61;

/// Port 0x61: lets channel 2 count.
const SYSTEM_GATE: u8 = 1 << 0;
/// The bits that can be written.
const SYSTEM_WRITABLE: u8 = 0x0f;
const SYSTEM_REFRESH: u8 = 1 << 4;
const SYSTEM_OUTPUT: u8 = 1 << 5;

/// An 8254 with port 0x61.
pub struct Pit8254 {
    name: String,
    irq: IrqLine,
    clock: DerivedClock,
    alarm: Alarm,
    state: Mutex<State>,
}

impl Pit8254 {
    /// An 8254 that nobody programmed yet. vCPU 0 keeps its deadline.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        irq: IrqLine,
        clock: Arc<dyn Clock>,
        events: Arc<dyn CpuEvents>,
    ) -> Self {
        let clock = DerivedClock::new(clock, HZ);
        let now = clock.now();
        Self {
            name: name.into(),
            irq,
            clock,
            alarm: Alarm::new(0, events),
            state: Mutex::new(State::new(now)),
        }
    }

    /// Puts it at its ports.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        bus.port_by_number(CHANNELS as u16, 4, self.clone())
            .port_by_number(SYSTEM as u16, 1, self.clone())
    }

    /// Runs `f` on the state as of tick `now`, then lets the interrupt line and the deadline follow it.
    fn with<T>(&self, now: u64, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        // Another vCPU may have been quicker.
        let now = now.max(state.seen);
        self.catch_up(&mut state, now);
        let result = f(&mut state);
        self.follow(&mut state, now);
        let [timer, _, _] = &state.channels;
        let next = timer.next_rise(now);
        let earliest = if timer.is_periodic() {
            now.saturating_add(MIN_PERIOD)
        } else {
            now
        };
        let next = next.map(|tick| tick.max(earliest));
        self.alarm
            .set(next.map_or(u64::MAX, |tick| self.clock.host_ticks(tick)));
        result
    }

    /// Shows the interrupt line what the output did since somebody looked.
    fn catch_up(&self, state: &mut State, now: u64) {
        let [timer, _, _] = &state.channels;
        let rose = timer.next_rise(state.seen).is_some_and(|tick| tick <= now);
        if rose {
            self.set_line(state, LineLevel::Low);
            self.set_line(state, LineLevel::High);
        }
        state.seen = now;
        self.follow(state, now);
    }

    fn follow(&self, state: &mut State, now: u64) {
        let [timer, _, _] = &state.channels;
        let level = timer.output(now);
        self.set_line(state, level);
    }

    fn set_line(&self, state: &mut State, level: LineLevel) {
        if state.line != level {
            state.line = level;
            self.irq.set(level);
        }
    }
}

impl Device for Pit8254 {
    fn name(&self) -> &str {
        &self.name
    }

    /// What it reads moves neither the interrupt line nor the deadline: whoever keeps that comes by for them.
    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let port = Port::at(offset, width)?;
        let now = self.clock.now();
        let mut state = self.state.lock();
        // Another vCPU may have been quicker.
        let now = now.max(state.seen);
        Ok(state.read(port, now).into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let port = Port::at(offset, width)?;
        let now = self.clock.now();
        self.with(now, |state| state.write(port, data as u8));
        Ok(())
    }

    fn reset(&self) {
        self.with(self.clock.now(), |state| {
            *state = State {
                line: state.line,
                ..State::new(state.seen)
            };
        });
    }
}

impl Timed for Pit8254 {
    fn advance(&self, now: u64) -> u64 {
        if now >= self.deadline() {
            self.with(self.clock.at(now), |_| ());
        }
        self.deadline()
    }

    fn deadline(&self) -> u64 {
        self.alarm.deadline()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Channel(usize),
    Control,
    System,
}

impl Port {
    fn at(port: u64, width: AccessWidth) -> Result<Self, AccessFault> {
        match (port, width) {
            (CHANNELS..CONTROL, AccessWidth::Byte) => Ok(Self::Channel((port - CHANNELS) as usize)),
            (CONTROL, AccessWidth::Byte) => Ok(Self::Control),
            (SYSTEM, AccessWidth::Byte) => Ok(Self::System),
            _ => Err(AccessFault),
        }
    }
}

struct State {
    channels: [Channel; 3],
    /// What was written to port 0x61.
    system: u8,
    /// The tick up to which the interrupt line knows of channel 0.
    seen: u64,
    line: LineLevel,
}

impl State {
    fn new(seen: u64) -> Self {
        Self {
            // The gates of the first two are wired to high.
            channels: [
                Channel::new(LineLevel::High),
                Channel::new(LineLevel::High),
                Channel::new(LineLevel::Low),
            ],
            system: 0,
            seen,
            line: LineLevel::Low,
        }
    }

    fn read(&mut self, port: Port, now: u64) -> u8 {
        match port {
            Port::Channel(index) => self
                .channels
                .get_mut(index)
                .map_or(0, |channel| channel.read(now)),
            // Write-only.
            Port::Control => 0,
            Port::System => {
                let [_, _, speaker] = &self.channels;
                let output = match speaker.output(now) {
                    LineLevel::High => SYSTEM_OUTPUT,
                    LineLevel::Low => 0,
                };
                let refresh = match now / REFRESH % 2 {
                    0 => 0,
                    _ => SYSTEM_REFRESH,
                };
                self.system | output | refresh
            }
        }
    }

    fn write(&mut self, port: Port, value: u8) {
        let now = self.seen;
        match port {
            Port::Channel(index) => {
                if let Some(channel) = self.channels.get_mut(index) {
                    channel.write(value, now);
                }
            }
            Port::Control => self.control(value),
            Port::System => {
                self.system = value & SYSTEM_WRITABLE;
                let gate = match value & SYSTEM_GATE {
                    0 => LineLevel::Low,
                    _ => LineLevel::High,
                };
                let [_, _, speaker] = &mut self.channels;
                speaker.set_gate(gate, now);
            }
        }
    }

    /// The control word: for one channel, or a read-back command for some.
    fn control(&mut self, word: u8) {
        let now = self.seen;
        for (index, channel) in (0..).zip(&mut self.channels) {
            if word >> 6 == 3 {
                if word >> (index + 1) & 1 != 0 {
                    channel.read_back(word, now);
                }
            } else if word >> 6 == index {
                channel.control(word, now);
            }
        }
    }
}
