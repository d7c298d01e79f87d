//! When an alarm is due.

use mc146818::Encoding;

const HOURS: u32 = 24;
const MINUTES: u32 = 60;
const SECONDS: u32 = 60;
const DAY: i64 = 86_400;

/// What an alarm register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// Any value.
    Any,
    /// This one, which need not exist.
    Value(u8),
}

/// Alarm registers from here on fit any value.
const ANY: u8 = 0xc0;

impl Match {
    /// What the register of the alarm's seconds or minutes asks for.
    pub(super) fn of_register(value: u8, encoding: Encoding) -> Self {
        if value >= ANY {
            Self::Any
        } else {
            Self::Value(encoding.decode(value))
        }
    }

    /// What the register of the alarm's hour asks for.
    pub(super) fn of_hour_register(value: u8, encoding: Encoding) -> Self {
        if value >= ANY {
            Self::Any
        } else {
            Self::Value(encoding.decode_hour(value))
        }
    }

    /// The first value of `from .. end` that fits.
    fn first(self, from: u32, end: u32) -> Option<u32> {
        let first = match self {
            Self::Any => from,
            Self::Value(value) => value.into(),
        };
        (from..end).contains(&first).then_some(first)
    }
}

/// The time of day of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AlarmTime {
    pub(super) hour: Match,
    pub(super) minute: Match,
    pub(super) second: Match,
}

impl AlarmTime {
    /// The seconds (at least one) from `epoch`, a time in seconds since 1970, to the next time that fits.
    pub(super) fn seconds_after(self, epoch: i64) -> Option<u32> {
        let now = epoch.rem_euclid(DAY) as u32;
        // Later today, tomorrow, or not at all.
        match self.first_from(now + 1) {
            Some(time) => Some(time - now),
            None => Some(self.first_from(0)? + DAY as u32 - now),
        }
    }

    /// The first time that fits, at `start` or later in the same day; in seconds of the day.
    fn first_from(self, start: u32) -> Option<u32> {
        let (hour, minute, second) = (start / 3600, start / 60 % 60, start % 60);
        let at = |hour, minute_from, second_from| {
            let minute = self.minute.first(minute_from, MINUTES)?;
            // A later minute starts from its first second.
            let second_from = if minute > minute_from { 0 } else { second_from };
            match self.second.first(second_from, SECONDS) {
                Some(second) => Some((hour * MINUTES + minute) * SECONDS + second),
                None => {
                    let minute = self.minute.first(minute + 1, MINUTES)?;
                    let second = self.second.first(0, SECONDS)?;
                    Some((hour * MINUTES + minute) * SECONDS + second)
                }
            }
        };
        let this_hour = self.hour.first(hour, HOURS).filter(|first| *first == hour);
        this_hour
            .and_then(|hour| at(hour, minute, second))
            .or_else(|| at(self.hour.first(hour + 1, HOURS)?, 0, 0))
    }
}
