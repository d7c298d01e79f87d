//! What a benchmark tells: one line for each row, to be read by programs.

use core::fmt::{self, Display, Formatter};

/// What a number of rounds cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Instructions, all rounds together.
    pub instructions: u64,
    /// How many rounds that were.
    pub rounds: u64,
}

impl Count {
    /// Of rounds between two readings of a clock, one tick of which lasts as long as `per_tick`
    /// instructions.
    pub const fn between(start: u64, end: u64, per_tick: u64, rounds: u64) -> Self {
        Self {
            instructions: end.wrapping_sub(start).saturating_mul(per_tick),
            rounds,
        }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rounds = u128::from(self.rounds.max(1));
        // Rounded to the nearest hundredth.
        let hundredths = (u128::from(self.instructions) * 200 + rounds) / (2 * rounds);
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        write!(f, "{whole}.{rest:02} instructions, {rounds} rounds")
    }
}

/// The least of three counts; none if any of them is none.
pub fn least(mut count: impl FnMut() -> Option<Count>) -> Option<Count> {
    let counts = [count()?, count()?, count()?];
    counts.into_iter().min_by_key(|count| count.instructions)
}

/// A row of the table, measured on the machine `M`.
pub struct Row<M: 'static> {
    key: &'static str,
    measure: fn(&M) -> Option<Count>,
}

impl<M> Row<M> {
    /// A row by its name; a machine that lacks what it measures gives no count.
    pub const fn new(key: &'static str, measure: fn(&M) -> Option<Count>) -> Self {
        Self { key, measure }
    }

    /// Its name.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// Measures it, and returns its line.
    pub fn run(&self, machine: &M) -> Line {
        Line {
            key: self.key,
            count: (self.measure)(machine),
        }
    }
}

/// A row's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    key: &'static str,
    count: Option<Count>,
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(f, "bench: {} {count}", self.key),
            None => write!(f, "bench: {} absent", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Row, least};

    #[test]
    fn a_count_is_per_round_and_rounded() {
        let line = |instructions, rounds| {
            let count = Count {
                instructions,
                rounds,
            };
            count.to_string()
        };
        assert_eq!(line(2_030_200, 10_000), "203.02 instructions, 10000 rounds");
        assert_eq!(line(20_001, 10_000), "2.00 instructions, 10000 rounds");
        assert_eq!(line(5, 3), "1.67 instructions, 3 rounds");
        assert_eq!(line(7, 0), "7.00 instructions, 1 rounds");
        assert!(line(u64::MAX, 1).starts_with("18446744073709551615.00 "));
    }

    #[test]
    fn a_count_goes_by_the_clocks_tick() {
        let count = Count::between(u64::MAX, 4, 100, 2);
        assert_eq!(count.instructions, 500);
        assert_eq!(count.to_string(), "250.00 instructions, 2 rounds");
    }

    #[test]
    fn the_least_of_some_counts() {
        let of = |instructions: [Option<u64>; 3]| {
            let mut runs = instructions.into_iter().flatten();
            let count = || {
                let rounds = 10;
                let instructions = runs.next()?;
                Some(Count {
                    instructions,
                    rounds,
                })
            };
            least(count).map(|count| count.instructions)
        };
        assert_eq!(of([Some(30), Some(20), Some(25)]), Some(20));
        assert_eq!(of([Some(30), Some(20), None]), None);
    }

    #[test]
    fn a_row_tells_its_name_and_count_or_that_it_is_absent() {
        let there = Row::new("loop", |&rounds: &u64| {
            Some(Count {
                instructions: 2 * rounds,
                rounds,
            })
        });
        assert_eq!(
            there.run(&10).to_string(),
            "bench: loop 2.00 instructions, 10 rounds"
        );
        let absent = Row::new("cpuid", |_: &u64| None);
        assert_eq!(absent.run(&10).to_string(), "bench: cpuid absent");
    }
}
