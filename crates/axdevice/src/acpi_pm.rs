//! ACPI's fixed power management hardware (ACPI 6.5, 4.8): the PM1a event and control registers, and the power management timer.
//!
//! The system is always in ACPI mode. The one sleep state is S5, which powers it off, and the one event the power button. The timer
//! raises none when it overflows: a guest that wants its carry reads it in time.

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use crate::timed::DerivedClock;
use crate::{AccessFault, Clock, Device, IrqLine, SystemPower};

/// The frequency of the timer.
const TIMER_HZ: u64 = 3_579_545;

const STATUS: u64 = AcpiPm::PM1_EVENT;
const ENABLE: u64 = AcpiPm::PM1_EVENT + 2;
const CONTROL: u64 = AcpiPm::PM1_CONTROL;
const TIMER: u64 = AcpiPm::TIMER;

/// Status and enable: the power button.
const POWER_BUTTON: u16 = 1 << 8;
/// Enable: the bits that are kept, timer, global lock, buttons and clock.
const ENABLE_BITS: u16 = 0x0721;
/// Control: ACPI mode.
const SCI_ENABLE: u16 = 1 << 0;
/// Control: the type of the sleep, and the command to sleep, which reads as zero.
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_TYPE: u16 = 7 << SLEEP_TYPE_SHIFT;
const SLEEP_ENABLE: u16 = 1 << 13;
/// Control: the bits that are kept.
const CONTROL_BITS: u16 = SLEEP_TYPE | 1 << 1;

/// How wide the timer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerWidth {
    /// 24 bits, which wrap after 4.7 s.
    Bits24,
    /// 32 bits (FADT: `TMR_VAL_EXT`), which wrap after 20 minutes.
    Bits32,
}

impl TimerWidth {
    const fn mask(self) -> u64 {
        match self {
            Self::Bits24 => 0x00ff_ffff,
            Self::Bits32 => 0xffff_ffff,
        }
    }
}

/// The registers, one block of ports.
pub struct AcpiPm {
    name: String,
    sci: IrqLine,
    clock: DerivedClock,
    timer: TimerWidth,
    power: Arc<dyn SystemPower>,
    state: Mutex<State>,
}

impl AcpiPm {
    /// The number of ports.
    pub const PORTS: u32 = 12;

    /// Where the PM1a event block, of 4 bytes, is in the block of ports.
    pub const PM1_EVENT: u64 = 0;

    /// Where the PM1a control block, of 2 bytes, is.
    pub const PM1_CONTROL: u64 = 4;

    /// Where the timer, of 4 bytes, is.
    pub const TIMER: u64 = 8;

    /// The sleep type of S5, for the DSDT's `\_S5`.
    pub const S5_SLEEP_TYPE: u8 = 5;

    /// The registers as at power-on. `sci` is the system control interrupt, a level.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        sci: IrqLine,
        timer: TimerWidth,
        clock: Arc<dyn Clock>,
        power: Arc<dyn SystemPower>,
    ) -> Self {
        Self {
            name: name.into(),
            sci,
            clock: DerivedClock::new(clock, TIMER_HZ),
            timer,
            power,
            state: Mutex::new(State::new()),
        }
    }

    /// Presses the power button: a guest that listens shuts down.
    pub fn press_power_button(&self) {
        self.with(|state| state.status |= POWER_BUTTON);
    }

    /// Runs `f` on the state, then lets the interrupt line follow it.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let level = match state.status & state.enable {
            0 => LineLevel::Low,
            _ => LineLevel::High,
        };
        if state.line != level {
            state.line = level;
            self.sci.set(level);
        }
        result
    }

    /// The 32 bits of registers at a multiple of four.
    fn read_block(&self, offset: u64) -> u32 {
        match offset {
            STATUS => self.with(|state| u32::from(state.enable) << 16 | u32::from(state.status)),
            CONTROL => self.with(|state| (state.control | SCI_ENABLE).into()),
            TIMER => (self.clock.now() & self.timer.mask()) as u32,
            _ => 0,
        }
    }
}

/// Lets ports be read and written in any way that stays within four.
fn check(offset: u64, width: AccessWidth) -> Result<(), AccessFault> {
    if offset % 4 + width.bytes() as u64 <= 4 {
        Ok(())
    } else {
        Err(AccessFault)
    }
}

impl Device for AcpiPm {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        check(offset, width)?;
        let block = self.read_block(offset & !3) >> (8 * (offset % 4));
        Ok(u64::from(block) & width.mask())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        check(offset, width)?;
        let mut sleep = Sleep::No;
        self.with(|state| {
            for (port, byte) in (offset..).zip(data.to_le_bytes()).take(width.bytes()) {
                if state.write(port, byte) == Sleep::PowerOff {
                    sleep = Sleep::PowerOff;
                }
            }
        });
        match sleep {
            Sleep::No => {}
            Sleep::PowerOff => self.power.power_off(),
        }
        Ok(())
    }

    fn reset(&self) {
        self.with(|state| {
            *state = State {
                line: state.line,
                ..State::new()
            };
        });
    }
}

/// Whether a write puts the system to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    No,
    PowerOff,
}

struct State {
    status: u16,
    enable: u16,
    control: u16,
    line: LineLevel,
}

impl State {
    fn new() -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            line: LineLevel::Low,
        }
    }

    /// Writes one byte.
    fn write(&mut self, port: u64, byte: u8) -> Sleep {
        let shift = 8 * (port % 2);
        let bits = u16::from(byte) << shift;
        let lane = 0xff << shift;
        match port & !1 {
            // Ones clear.
            STATUS => self.status &= !bits,
            ENABLE => self.enable = self.enable & !lane | bits & ENABLE_BITS,
            CONTROL => {
                self.control = self.control & !lane | bits & CONTROL_BITS;
                let kind = (self.control & SLEEP_TYPE) >> SLEEP_TYPE_SHIFT;
                if bits & SLEEP_ENABLE != 0 && kind == AcpiPm::S5_SLEEP_TYPE.into() {
                    return Sleep::PowerOff;
                }
            }
            _ => {}
        }
        Sleep::No
    }
}
