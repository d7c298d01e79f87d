//! One channel of the 8254.
//!
//! Times are in ticks of its clock.

use axvcpu::LineLevel;

/// Read-back command: these bits are low for what is to be latched.
const READ_BACK_NO_COUNT: u8 = 1 << 5;
const READ_BACK_NO_STATUS: u8 = 1 << 4;
/// Status: the output.
const STATUS_OUTPUT: u8 = 1 << 7;
/// Status: no count was loaded.
const STATUS_NULL_COUNT: u8 = 1 << 6;
/// Control word: counts in decimal digits.
const DECIMAL: u8 = 1 << 0;

/// What a channel does with its count (82C54 data sheet, "Mode Definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    TerminalCount,
    OneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe,
}

/// Which bytes of the count are accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    Both,
}

/// How far the count went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing was loaded, or no gate started it.
    Idle,
    Since(u64),
    /// The gate holds it, after so many ticks.
    Held(u64),
}

#[derive(Debug)]
pub(super) struct Channel {
    /// The low six bits of the last control word, as the status shows them.
    control: u8,
    mode: Mode,
    access: Access,
    gate: LineLevel,
    /// The count that was loaded: 1 to 65536.
    count: Option<u32>,
    progress: Progress,
    /// The low byte of a count whose high byte is to come.
    low_written: Option<u8>,
    /// The low byte was read, and the high one is next.
    low_read: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    /// A channel that was not programmed. Its output is low.
    pub(super) fn new(gate: LineLevel) -> Self {
        Self {
            control: 0x30,
            mode: Mode::TerminalCount,
            access: Access::Both,
            gate,
            count: None,
            progress: Progress::Idle,
            low_written: None,
            low_read: false,
            latched_count: None,
            latched_status: None,
        }
    }

    pub(super) fn is_periodic(&self) -> bool {
        match self.mode {
            Mode::RateGenerator | Mode::SquareWave => true,
            Mode::TerminalCount | Mode::OneShot | Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                false
            }
        }
    }

    /// Takes a control word that is for this channel.
    pub(super) fn control(&mut self, word: u8, now: u64) {
        let access = match word >> 4 & 3 {
            0 => return self.latch_count(now),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        let mode = match word >> 1 & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::OneShot,
            2 | 6 => Mode::RateGenerator,
            3 | 7 => Mode::SquareWave,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        };
        *self = Self {
            control: word & 0x3f,
            mode,
            access,
            ..Self::new(self.gate)
        };
    }

    pub(super) fn read_back(&mut self, command: u8, now: u64) {
        if command & READ_BACK_NO_COUNT == 0 {
            self.latch_count(now);
        }
        if command & READ_BACK_NO_STATUS == 0 && self.latched_status.is_none() {
            let output = match self.output(now) {
                LineLevel::High => STATUS_OUTPUT,
                LineLevel::Low => 0,
            };
            let null_count = match self.count {
                Some(_) => 0,
                None => STATUS_NULL_COUNT,
            };
            self.latched_status = Some(output | null_count | self.control);
        }
    }

    /// A count that is latched already stays.
    fn latch_count(&mut self, now: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.shown(now));
        }
    }

    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = match self.latched_count {
            Some(count) => count,
            None => self.shown(now),
        }
        .to_le_bytes();
        let (byte, is_last) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::Both if self.low_read => (high, true),
            Access::Both => (low, false),
        };
        self.low_read = !is_last;
        if is_last {
            self.latched_count = None;
        }
        byte
    }

    pub(super) fn write(&mut self, value: u8, now: u64) {
        let bytes = match (self.access, self.low_written.take()) {
            (Access::Low, _) => [value, 0],
            (Access::High, _) => [0, value],
            (Access::Both, Some(low)) => [low, value],
            (Access::Both, None) => {
                self.low_written = Some(value);
                if self.mode == Mode::TerminalCount {
                    self.progress = Progress::Idle;
                }
                return;
            }
        };
        self.load(u16::from_le_bytes(bytes), now);
    }

    fn load(&mut self, written: u16, now: u64) {
        let count = if self.counts_in_decimal() {
            from_decimal(written)
        } else {
            written.into()
        };
        // As many as there can be, then.
        let count = if count == 0 { self.modulus() } else { count };
        self.count = Some(count);
        match self.mode {
            // It takes the next gate for these to see the new count.
            Mode::OneShot | Mode::HardwareStrobe => {}
            Mode::TerminalCount | Mode::RateGenerator | Mode::SquareWave | Mode::SoftwareStrobe => {
                self.progress = match self.gate {
                    LineLevel::High => Progress::Since(now),
                    LineLevel::Low => Progress::Held(0),
                };
            }
        }
    }

    pub(super) fn set_gate(&mut self, gate: LineLevel, now: u64) {
        let before = core::mem::replace(&mut self.gate, gate);
        if before == gate || self.count.is_none() {
            return;
        }
        self.progress = match (self.mode, gate, self.progress) {
            (
                Mode::TerminalCount | Mode::SoftwareStrobe,
                LineLevel::High,
                Progress::Held(ticks),
            ) => Progress::Since(now.saturating_sub(ticks)),
            (
                Mode::TerminalCount | Mode::SoftwareStrobe,
                LineLevel::Low,
                Progress::Since(start),
            ) => Progress::Held(now.saturating_sub(start)),
            (Mode::TerminalCount | Mode::SoftwareStrobe, _, progress) => progress,
            (Mode::OneShot | Mode::HardwareStrobe, LineLevel::Low, progress) => progress,
            (Mode::OneShot | Mode::HardwareStrobe, LineLevel::High, _)
            | (Mode::RateGenerator | Mode::SquareWave, LineLevel::High, _) => Progress::Since(now),
            (Mode::RateGenerator | Mode::SquareWave, LineLevel::Low, _) => Progress::Held(0),
        };
    }

    /// The level of the output.
    pub(super) fn output(&self, now: u64) -> LineLevel {
        let is_high = match (self.mode, self.count, self.progress) {
            (Mode::TerminalCount, _, Progress::Idle) | (Mode::TerminalCount, None, _) => false,
            (_, None, _) | (_, _, Progress::Idle) => true,
            (Mode::TerminalCount, Some(count), _) => self.elapsed(now) >= count.into(),
            (Mode::OneShot, Some(count), _) => self.elapsed(now) >= count.into(),
            (Mode::RateGenerator | Mode::SquareWave, _, Progress::Held(_)) => true,
            (Mode::RateGenerator, Some(count), _) => {
                count == 1 || self.elapsed(now) % u64::from(count) != u64::from(count - 1)
            }
            (Mode::SquareWave, Some(count), _) => {
                self.elapsed(now) % u64::from(count) < u64::from(count.div_ceil(2))
            }
            (Mode::SoftwareStrobe | Mode::HardwareStrobe, Some(count), _) => {
                self.elapsed(now) != u64::from(count)
            }
        };
        if is_high {
            LineLevel::High
        } else {
            LineLevel::Low
        }
    }

    /// The first tick after `after` at which the output goes from low to high, if it will by itself.
    pub(super) fn next_rise(&self, after: u64) -> Option<u64> {
        let Progress::Since(start) = self.progress else {
            return None;
        };
        let count = u64::from(self.count?);
        let rise = match self.mode {
            Mode::TerminalCount | Mode::OneShot => start.checked_add(count)?,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => start.checked_add(count + 1)?,
            Mode::RateGenerator | Mode::SquareWave => {
                let periods = after.saturating_sub(start) / count + 1;
                start.checked_add(periods.checked_mul(count)?)?
            }
        };
        (rise > after).then_some(rise)
    }

    fn elapsed(&self, now: u64) -> u64 {
        match self.progress {
            Progress::Idle => 0,
            Progress::Since(start) => now.saturating_sub(start),
            Progress::Held(ticks) => ticks,
        }
    }

    fn counts_in_decimal(&self) -> bool {
        self.control & DECIMAL != 0
    }

    /// The number of values that the counter goes through when nothing reloads it.
    fn modulus(&self) -> u32 {
        if self.counts_in_decimal() {
            10_000
        } else {
            0x1_0000
        }
    }

    /// What the counter shows.
    fn shown(&self, now: u64) -> u16 {
        let Some(count) = self.count else {
            return 0;
        };
        let modulus = self.modulus();
        let elapsed = self.elapsed(now);
        let value = match self.mode {
            Mode::TerminalCount | Mode::OneShot | Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                count + modulus - (elapsed % u64::from(modulus)) as u32
            }
            Mode::RateGenerator => count - (elapsed % u64::from(count)) as u32,
            // Down by two at a time, twice a period.
            Mode::SquareWave => {
                let in_period = (elapsed % u64::from(count)) as u32;
                let half = count.div_ceil(2);
                (count & !1).saturating_sub(2 * (in_period % half))
            }
        } % modulus;
        if self.counts_in_decimal() {
            to_decimal(value)
        } else {
            value as u16
        }
    }
}

/// The number that four decimal digits stand for. A digit above nine counts as what it is.
fn from_decimal(digits: u16) -> u32 {
    [12, 8, 4, 0]
        .into_iter()
        .fold(0, |number, shift| {
            number * 10 + u32::from(digits >> shift & 0xf)
        })
        .min(9_999)
}

/// The decimal digits of a number below 10000.
fn to_decimal(number: u32) -> u16 {
    [1000, 100, 10, 1].into_iter().fold(0, |digits, power| {
        digits << 4 | (number / power % 10) as u16
    })
}
