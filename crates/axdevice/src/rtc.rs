//! The real-time clock of a PC, with its battery-backed memory: Motorola's MC146818A (data sheet), as IBM put it at ports 0x70 and 0x71.
//!
//! The clock starts with the time of day that the machine was given. The time never is "being updated": it changes at once. The flags of
//! register C are set when somebody looks, and when an interrupt that is enabled is due.

mod alarm;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};
use mc146818::{A_UPDATING, B_24_HOURS, B_BINARY, DateTime, Encoding, Field, register};
use spin::Mutex;

use crate::timed::Alarm;
use crate::{AccessFault, AxVmDevicesBuilder, Clock, CpuEvents, Device, IrqLine, Timed};
use alarm::{AlarmTime, Match};

const INDEX: u64 = 0x70;
const DATA: u64 = 0x71;

const MEMORY: usize = 128;

/// A: the divider chain runs, from a crystal of 32768 Hz.
const A_DIVIDER: u8 = 0x70;
const A_DIVIDER_RUNS: u8 = 0x20;
const A_RATE: u8 = 0x0f;
/// B: time stands still, to be set.
const B_SET: u8 = 1 << 7;
/// C: an interrupt is requested.
const C_REQUEST: u8 = 1 << 7;
/// D: the battery is good.
const D_VALID: u8 = 1 << 7;

/// The interrupts, where B enables them and C flags them.
const PERIODIC: u8 = 1 << 6;
const ALARM: u8 = 1 << 5;
const UPDATE: u8 = 1 << 4;
const INTERRUPTS: u8 = PERIODIC | ALARM | UPDATE;

/// A CMOS real-time clock.
pub struct CmosRtc {
    name: String,
    irq: IrqLine,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    /// The time of day when the clock showed zero, in seconds since 1970.
    epoch: u64,
    state: Mutex<State>,
}

impl CmosRtc {
    /// A clock that shows UTC, and which starts with `now_epoch`, the time in seconds since 1970. vCPU 0 keeps its deadline.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        irq: IrqLine,
        now_epoch: u64,
        clock: Arc<dyn Clock>,
        events: Arc<dyn CpuEvents>,
    ) -> Self {
        let frequency = clock.frequency_hz().max(1);
        let uptime = clock.now() / frequency;
        let epoch = now_epoch.saturating_sub(uptime);
        let now = clock.now();
        Self {
            name: name.into(),
            irq,
            clock,
            alarm: Alarm::new(0, events),
            epoch,
            state: Mutex::new(State::new(frequency, epoch, now)),
        }
    }

    /// Puts it at its ports.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        bus.port_by_number(INDEX as u16, 2, self.clone())
    }

    /// Runs `f` on the state as of `now`, then lets the interrupt line and the deadline follow it.
    fn with<T>(&self, now: u64, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.catch_up(now);
        let result = f(&mut state);
        let level = if state.requests() {
            LineLevel::High
        } else {
            LineLevel::Low
        };
        if state.line != level {
            state.line = level;
            self.irq.set(level);
        }
        self.alarm.set(state.next_event());
        result
    }
}

impl Device for CmosRtc {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        match (offset, width) {
            // Write-only.
            (INDEX, AccessWidth::Byte) => Ok(0xff),
            (DATA, AccessWidth::Byte) => Ok(self.with(self.clock.now(), State::read).into()),
            _ => Err(AccessFault),
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let value = data as u8;
        match (offset, width) {
            // The eighth bit holds back NMIs, of which there are none.
            (INDEX, AccessWidth::Byte) => {
                self.state.lock().index = usize::from(value) % MEMORY;
            }
            (DATA, AccessWidth::Byte) => self.with(self.clock.now(), |state| state.write(value)),
            _ => return Err(AccessFault),
        }
        Ok(())
    }

    /// The battery is taken out, too: memory is empty, and the time is the machine's again.
    fn reset(&self) {
        self.with(self.clock.now(), |state| {
            *state = State {
                line: state.line,
                ..State::new(state.frequency, self.epoch, state.seen)
            };
        });
    }
}

impl Timed for CmosRtc {
    fn advance(&self, now: u64) -> u64 {
        if now >= self.deadline() {
            self.with(now, |_| ());
        }
        self.deadline()
    }

    fn deadline(&self) -> u64 {
        self.alarm.deadline()
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
enum Time {
    /// The time of day at host tick 0, in seconds since 1970.
    Runs { epoch: i64 },
    /// It is being set.
    Stands(DateTime),
}

struct State {
    /// Ticks of the host's counter a second.
    frequency: u64,
    index: usize,
    /// The registers, but for time and flags.
    memory: [u8; MEMORY],
    time: Time,
    flags: u8,
    /// The host tick up to which the flags are right.
    seen: u64,
    line: LineLevel,
}

impl State {
    fn new(frequency: u64, epoch: u64, now: u64) -> Self {
        let mut memory = [0; MEMORY];
        for (register, value) in [
            // 1024 Hz, as the BIOS sets it.
            (register::A, A_DIVIDER_RUNS | 6),
            (register::B, B_24_HOURS),
        ] {
            if let Some(place) = memory.get_mut(register) {
                *place = value;
            }
        }
        Self {
            frequency,
            index: 0,
            memory,
            time: Time::Runs {
                epoch: i64::try_from(epoch).unwrap_or(0),
            },
            flags: 0,
            seen: now,
            line: LineLevel::Low,
        }
    }

    fn register(&self, index: usize) -> u8 {
        self.memory.get(index).copied().unwrap_or(0)
    }

    fn requests(&self) -> bool {
        self.flags & self.register(register::B) & INTERRUPTS != 0
    }

    fn encoding(&self) -> Encoding {
        let b = self.register(register::B);
        Encoding {
            binary: b & B_BINARY != 0,
            hours_24: b & B_24_HOURS != 0,
        }
    }

    /// Whole seconds of the host's counter at a tick.
    fn second(&self, tick: u64) -> i64 {
        (tick / self.frequency) as i64
    }

    /// The time now.
    fn date_time(&self) -> DateTime {
        match self.time {
            Time::Runs { epoch } => {
                DateTime::of_epoch(epoch.saturating_add(self.second(self.seen)))
            }
            Time::Stands(date_time) => date_time,
        }
    }

    /// Lets time run from `date_time` on, or stand there, as A and B have it.
    fn set_date_time(&mut self, date_time: DateTime) {
        let runs = self.register(register::A) & A_DIVIDER == A_DIVIDER_RUNS
            && self.register(register::B) & B_SET == 0;
        self.time = if runs {
            Time::Runs {
                epoch: date_time.epoch().saturating_sub(self.second(self.seen)),
            }
        } else {
            Time::Stands(date_time)
        };
    }

    fn field(index: usize) -> Option<Field> {
        Some(match index {
            register::SECONDS => Field::Second,
            register::MINUTES => Field::Minute,
            register::HOURS => Field::Hour,
            register::WEEKDAY => Field::Weekday,
            register::DAY => Field::Day,
            register::MONTH => Field::Month,
            register::YEAR => Field::Year,
            register::CENTURY => Field::Century,
            _ => return None,
        })
    }

    fn read(&mut self) -> u8 {
        if let Some(field) = Self::field(self.index) {
            return self.date_time().get(field, self.encoding());
        }
        match self.index {
            register::C => {
                let request = if self.requests() { C_REQUEST } else { 0 };
                request | core::mem::take(&mut self.flags)
            }
            register::D => D_VALID,
            index => self.register(index),
        }
    }

    fn write(&mut self, value: u8) {
        if let Some(field) = Self::field(self.index) {
            let mut date_time = self.date_time();
            date_time.set(field, value, self.encoding());
            self.set_date_time(date_time);
            return;
        }
        // What time it is before it stands still, or in the way of writing that counted until now.
        let date_time = self.date_time();
        let value = match self.index {
            register::A => value & !A_UPDATING,
            // Setting the time ends an update's interrupt.
            register::B if value & B_SET != 0 => value & !UPDATE,
            register::C | register::D => return,
            _ => value,
        };
        if let Some(place) = self.memory.get_mut(self.index) {
            *place = value;
        }
        if matches!(self.index, register::A | register::B) {
            self.set_date_time(date_time);
        }
    }

    fn alarm_time(&self) -> AlarmTime {
        let encoding = self.encoding();
        AlarmTime {
            hour: Match::of_hour_register(self.register(register::HOURS_ALARM), encoding),
            minute: Match::of_register(self.register(register::MINUTES_ALARM), encoding),
            second: Match::of_register(self.register(register::SECONDS_ALARM), encoding),
        }
    }

    /// The frequency of periodic interrupts, if there are any.
    fn periodic_hz(&self) -> Option<u64> {
        match self.register(register::A) & A_RATE {
            0 => None,
            rate @ 1..=2 => Some(32_768 >> (rate + 6)),
            rate => Some(32_768 >> (rate - 1)),
        }
    }

    /// The first tick after `after` at which the periodic interrupt comes.
    fn next_periodic(&self, after: u64) -> Option<u64> {
        let hz = u128::from(self.periodic_hz()?);
        let frequency = u128::from(self.frequency);
        let periods = u128::from(after) * hz / frequency + 1;
        u64::try_from((periods * frequency).div_ceil(hz)).ok()
    }

    /// The first tick after `after` at which the time changes.
    fn next_update(&self, after: u64) -> Option<u64> {
        match self.time {
            Time::Runs { .. } => (after / self.frequency + 1).checked_mul(self.frequency),
            Time::Stands(_) => None,
        }
    }

    /// The first tick after `after` at which the time becomes that of the alarm.
    fn next_alarm(&self, after: u64) -> Option<u64> {
        let Time::Runs { epoch } = self.time else {
            return None;
        };
        let second = epoch.saturating_add(self.second(after));
        let wait = self.alarm_time().seconds_after(second)?;
        (after / self.frequency + u64::from(wait)).checked_mul(self.frequency)
    }

    /// Sets the flags of what happened until `now`.
    fn catch_up(&mut self, now: u64) {
        let now = now.max(self.seen);
        for (flag, next) in [
            (PERIODIC, self.next_periodic(self.seen)),
            (UPDATE, self.next_update(self.seen)),
            (ALARM, self.next_alarm(self.seen)),
        ] {
            if next.is_some_and(|next| next <= now) {
                self.flags |= flag;
            }
        }
        self.seen = now;
    }

    /// The next tick at which an interrupt that is enabled would be requested anew.
    fn next_event(&self) -> u64 {
        let waits = self.register(register::B) & INTERRUPTS & !self.flags;
        [
            (PERIODIC, self.next_periodic(self.seen)),
            (UPDATE, self.next_update(self.seen)),
            (ALARM, self.next_alarm(self.seen)),
        ]
        .into_iter()
        .filter(|(flag, _)| waits & flag != 0)
        .filter_map(|(_, next)| next)
        .min()
        .unwrap_or(u64::MAX)
    }
}
