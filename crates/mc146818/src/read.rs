//! What time a clock shows.

use crate::{
    A_UPDATING, B_24_HOURS, B_BINARY, DateTime, Encoding, Field,
    register::{A, B, DAY, HOURS, MINUTES, MONTH, SECONDS, WEEKDAY, YEAR},
};

/// A clock's registers.
pub trait Registers {
    /// Reads register `index`.
    fn read(&mut self, index: usize) -> u8;
}

/// How often register A is asked at most until no update is in progress: one takes less than 3 ms, a read about 1 µs.
const PATIENCE: usize = 20_000;
/// How many readings are compared at most, until two are the same.
const READINGS: usize = 10;

/// The time that a clock shows, in seconds since 1970; `None` if there is no clock, or what it shows does not exist.
///
/// `century` is the register that has the century. A clock without one is in 1970 to 2069.
///
/// No update is in progress when the first register is read, but it can begin before the last; so two readings must agree.
pub fn time(clock: &mut impl Registers, century: Option<usize>) -> Option<u64> {
    let mut last = None;
    for _ in 0..READINGS {
        let reading = read(clock, century)?;
        if last == Some(reading) {
            return reading.as_epoch();
        }
        last = Some(reading);
    }
    None
}

fn read(clock: &mut impl Registers, century: Option<usize>) -> Option<DateTime> {
    // Where there is no clock, all ones are read, and time changes for ever.
    (0..PATIENCE).find(|_| clock.read(A) & A_UPDATING == 0)?;
    let b = clock.read(B);
    let encoding = Encoding {
        binary: b & B_BINARY != 0,
        hours_24: b & B_24_HOURS != 0,
    };
    let mut time = DateTime::of_epoch(0);
    for (field, index) in [
        (Field::Second, SECONDS),
        (Field::Minute, MINUTES),
        (Field::Hour, HOURS),
        (Field::Weekday, WEEKDAY),
        (Field::Day, DAY),
        (Field::Month, MONTH),
        (Field::Year, YEAR),
    ] {
        time.set(field, clock.read(index), encoding);
    }
    match century {
        Some(index) => time.set(Field::Century, clock.read(index), encoding),
        None => time.century = if time.year < 70 { 20 } else { 19 },
    }
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::CENTURY;

    /// A clock that shows one thing after the other, each for so many reads of register A.
    struct Showing {
        shown: std::vec::Vec<([u8; 128], usize)>,
    }

    impl Registers for Showing {
        fn read(&mut self, index: usize) -> u8 {
            if index == A && self.shown.len() > 1 {
                match self.shown[0].1 {
                    0 => drop(self.shown.remove(0)),
                    _ => self.shown[0].1 -= 1,
                }
            }
            self.shown[0].0[index]
        }
    }

    fn registers(b: u8, shown: [(usize, u8); 8]) -> [u8; 128] {
        let mut registers = [0; 128];
        registers[A] = 0x26;
        registers[B] = b;
        for (index, value) in shown {
            registers[index] = value;
        }
        registers
    }

    fn showing(registers: [u8; 128]) -> Showing {
        Showing {
            shown: std::vec![(registers, 0)],
        }
    }

    /// 2026-01-02, 15:04:05, a Friday.
    const EPOCH: u64 = 1_767_366_245;

    fn in_every_format() -> [[u8; 128]; 4] {
        let registers = |b, [year, hour, century]: [u8; 3]| {
            registers(
                b,
                [
                    (SECONDS, 5),
                    (MINUTES, 4),
                    (HOURS, hour),
                    (WEEKDAY, 6),
                    (DAY, 2),
                    (MONTH, 1),
                    (YEAR, year),
                    (CENTURY, century),
                ],
            )
        };
        [
            registers(B_24_HOURS, [0x26, 0x15, 0x20]),
            registers(0, [0x26, 0x83, 0x20]),
            registers(B_24_HOURS | B_BINARY, [26, 15, 20]),
            registers(B_BINARY, [26, 0x83, 20]),
        ]
    }

    #[test]
    fn every_format_is_read() {
        for registers in in_every_format() {
            for century in [Some(CENTURY), None] {
                assert_eq!(time(&mut showing(registers), century), Some(EPOCH));
            }
        }
    }

    #[test]
    fn a_clock_without_a_century_is_near_ours() {
        let mut old = in_every_format()[0];
        old[YEAR] = 0x70;
        // 1970-01-02 15:04:05.
        assert_eq!(time(&mut showing(old), None), Some(140_645));
        old[YEAR] = 0x69;
        assert_eq!(time(&mut showing(old), None), Some(3_124_364_645));
    }

    #[test]
    fn a_change_between_two_reads_is_noticed() {
        let before = in_every_format()[0];
        let (mut after, mut changing) = (before, before);
        after[SECONDS] = 6;
        changing[A] |= A_UPDATING;
        let mut clock = Showing {
            shown: std::vec![(changing, 100), (before, 0), (after, 0)],
        };
        assert_eq!(time(&mut clock, None), Some(EPOCH + 1));
    }

    #[test]
    fn what_is_no_time_is_none() {
        assert_eq!(time(&mut showing([0xff; 128]), None), None, "no clock");
        assert_eq!(time(&mut showing([0; 128]), None), None, "an empty one");
        let good = in_every_format()[0];
        for (index, wrong) in [
            (MONTH, 0),
            (MONTH, 0x13),
            (DAY, 0x32),
            (DAY, 0),
            (HOURS, 0x24),
            (MINUTES, 0x60),
            (SECONDS, 0x5f),
            (YEAR, 0xa0),
            (CENTURY, 0x10),
        ] {
            let mut registers = good;
            registers[index] = wrong;
            let time = time(&mut showing(registers), Some(CENTURY));
            assert_eq!(time, None, "{index:#x}: {wrong:#x}");
        }
        let mut in_february = good;
        (in_february[MONTH], in_february[DAY]) = (2, 0x29);
        assert_eq!(time(&mut showing(in_february), None), None);
    }

    #[test]
    fn a_clock_that_never_comes_to_rest_is_given_up() {
        struct Racing(u8);
        impl Registers for Racing {
            fn read(&mut self, index: usize) -> u8 {
                match index {
                    A => 0,
                    B => B_24_HOURS | B_BINARY,
                    SECONDS => {
                        self.0 = (self.0 + 1) % 60;
                        self.0
                    }
                    _ => 1,
                }
            }
        }
        assert_eq!(time(&mut Racing(0), None), None);
    }
}
