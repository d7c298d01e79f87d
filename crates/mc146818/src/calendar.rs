//! Dates, times, and how the clock's registers show them.

/// How registers B's bits have numbers written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// As one number; else each digit has four bits.
    pub binary: bool,
    /// Hours count to 24; else to 12, twice.
    pub hours_24: bool,
}

/// The bit of an hour of twelve that says "afternoon".
const PM: u8 = 0x80;

impl Encoding {
    fn encode(self, value: u8) -> u8 {
        if self.binary {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    }

    /// The number that a register shows. A digit above nine counts as what it is.
    #[must_use]
    pub fn decode(self, value: u8) -> u8 {
        if self.binary {
            value
        } else {
            (value >> 4) * 10 + (value & 0xf)
        }
    }

    fn encode_hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        let of_twelve = match hour % 12 {
            0 => 12,
            hour => hour,
        };
        let half = if hour >= 12 { PM } else { 0 };
        self.encode(of_twelve) | half
    }

    /// The hour that a register shows, of 24.
    #[must_use]
    pub fn decode_hour(self, value: u8) -> u8 {
        if self.hours_24 {
            return self.decode(value);
        }
        let half = if value & PM != 0 { 12 } else { 0 };
        self.decode(value & !PM) % 12 + half
    }
}

/// A part of the time that has a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Of the minute.
    Second,
    /// Of the hour.
    Minute,
    /// Of the day.
    Hour,
    /// 1 is Sunday.
    Weekday,
    /// Of the month.
    Day,
    /// Of the year.
    Month,
    /// Of the century.
    Year,
    /// The hundreds of the year.
    Century,
}

/// A date and a time of day, as software sets them one by one: it need not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Of the minute.
    pub second: u8,
    /// Of the hour.
    pub minute: u8,
    /// Of the day.
    pub hour: u8,
    /// 1 is Sunday.
    pub weekday: u8,
    /// Of the month, from 1.
    pub day: u8,
    /// Of the year, from 1.
    pub month: u8,
    /// Of the century.
    pub year: u8,
    /// The hundreds of the year.
    pub century: u8,
}

const DAY: i64 = 86_400;
/// From 1 March of year 0 to 1 January 1970. Years that start in March have their leap day last.
const DAYS_TO_1970: i64 = 719_468;
/// In 400 years, after which the calendar repeats.
const DAYS_OF_ERA: i64 = 146_097;
/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

impl DateTime {
    /// The time at `epoch` seconds since 1970, within the years 1970 to 9999.
    #[must_use]
    pub fn of_epoch(epoch: i64) -> Self {
        let epoch = epoch.clamp(0, LAST);
        let days = epoch / DAY;
        let time = epoch % DAY;
        let (year, month, day) = civil_of_days(days);
        Self {
            second: (time % 60) as u8,
            minute: (time / 60 % 60) as u8,
            hour: (time / 3600) as u8,
            // 1970 began with a Thursday.
            weekday: ((days + 4) % 7 + 1) as u8,
            day: day as u8,
            month: month as u8,
            year: (year % 100) as u8,
            century: (year / 100) as u8,
        }
    }

    /// The seconds since 1970. What does not exist is taken for the nearest that does.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        let year = (i64::from(self.century) * 100 + i64::from(self.year.min(99))).clamp(1970, 9999);
        let month = i64::from(self.month.clamp(1, 12));
        let days = days_of_civil(year, month, 1);
        let (next_year, next_month) = if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        };
        let length = days_of_civil(next_year, next_month, 1) - days;
        let days = days + i64::from(self.day).clamp(1, length) - 1;
        let time = i64::from(self.hour.min(23)) * 3600
            + i64::from(self.minute.min(59)) * 60
            + i64::from(self.second.min(59));
        days * DAY + time
    }

    /// The same, if date and time exist. The day of the week may be any.
    pub(crate) fn as_epoch(&self) -> Option<u64> {
        let epoch = self.epoch();
        let nearest = Self {
            weekday: self.weekday,
            ..Self::of_epoch(epoch)
        };
        (nearest == *self).then(|| epoch.unsigned_abs())
    }

    /// What the register of `field` shows.
    #[must_use]
    pub fn get(&self, field: Field, encoding: Encoding) -> u8 {
        match field {
            Field::Second => encoding.encode(self.second),
            Field::Minute => encoding.encode(self.minute),
            Field::Hour => encoding.encode_hour(self.hour),
            Field::Weekday => encoding.encode(self.weekday),
            Field::Day => encoding.encode(self.day),
            Field::Month => encoding.encode(self.month),
            Field::Year => encoding.encode(self.year),
            Field::Century => encoding.encode(self.century),
        }
    }

    /// The register of `field` is set to `value`.
    pub fn set(&mut self, field: Field, value: u8, encoding: Encoding) {
        match field {
            Field::Second => self.second = encoding.decode(value),
            Field::Minute => self.minute = encoding.decode(value),
            Field::Hour => self.hour = encoding.decode_hour(value),
            Field::Weekday => self.weekday = encoding.decode(value),
            Field::Day => self.day = encoding.decode(value),
            Field::Month => self.month = encoding.decode(value),
            Field::Year => self.year = encoding.decode(value),
            Field::Century => self.century = encoding.decode(value),
        }
    }
}

/// The days from the start of a year that starts in March to the start of its month `index`, 0 being March: 31, 30, 31, 30, 31 days,
/// over and over.
fn days_before_month(index: i64) -> i64 {
    (153 * index + 2) / 5
}

/// The days from 1 January 1970 to a date.
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, index) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + days_before_month(index) + day - 1 - DAYS_TO_1970
}

/// Year, month and day so many days after 1 January 1970.
fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    // At most one year too far, since a year has 365.2425 days.
    let mut year = days * 400 / DAYS_OF_ERA;
    let start = |year: i64| 365 * year + year / 4 - year / 100 + year / 400;
    if start(year) > days {
        year -= 1;
    } else if start(year + 1) <= days {
        year += 1;
    }
    let of_year = days - start(year);
    let index = (5 * of_year + 2) / 153;
    let day = of_year - days_before_month(index) + 1;
    if index < 10 {
        (year, index + 3, day)
    } else {
        (year + 1, index - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_dates() {
        for (epoch, expected) in [
            (0, (1970, 1, 1, 5)),
            (951_782_400, (2000, 2, 29, 3)),
            (951_868_800, (2000, 3, 1, 4)),
            (946_684_800, (2000, 1, 1, 7)),
            (4_107_542_400, (2100, 3, 1, 2)),
            (4_107_456_000, (2100, 2, 28, 1)),
            (253_402_300_799, (9999, 12, 31, 6)),
            (i64::MAX, (9999, 12, 31, 6)),
            (-1, (1970, 1, 1, 5)),
        ] {
            let date = DateTime::of_epoch(epoch);
            let year = u32::from(date.century) * 100 + u32::from(date.year);
            assert_eq!((year, date.month, date.day, date.weekday), expected);
        }
    }

    #[test]
    fn every_day_has_a_date_and_comes_after_the_one_before() {
        let mut before = DateTime::of_epoch(0);
        for day in 1..=2_932_896 {
            let date = DateTime::of_epoch(day * 86_400);
            assert_eq!(date.epoch(), day * 86_400);
            let next_day = (date.month, date.day) == (before.month, before.day + 1);
            assert!(next_day || date.day == 1, "{date:?}");
            before = date;
        }
    }

    proptest! {
        #[test]
        fn times_convert_both_ways(epoch in 0i64..253_402_300_800) {
            prop_assert_eq!(DateTime::of_epoch(epoch).epoch(), epoch);
        }
    }
}
