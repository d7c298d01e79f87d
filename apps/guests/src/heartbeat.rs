//! The heartbeat: a periodic task that measures how late it is woken.
//!
//! Deadlines lie on a fixed grid from the start on: a late beat does not move the ones after it,
//! and beats that were missed altogether follow at once. The count therefore keeps step with time.
//! Everything here counts in ticks of the machine's clock; the caller waits and prints.

use core::fmt::{self, Display, Formatter};

use crate::options::{BadOption, Options};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Time between two beats in microseconds, at least 1 (`period_us=`).
    pub period_us: u64,
    /// Beats between two reports, at least 1 (`report=`).
    pub report: u64,
    /// Beats until the end; 0 is for ever (`beats=`).
    pub beats: u64,
    /// Before all that, beats in which nothing is printed and the hypervisor's exits are counted
    /// (`steady=`).
    pub steady: u64,
    /// What it does between two beats.
    pub rest: Rest,
}

/// How a guest waits for its timer's interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The CPU sleeps.
    Asleep,
    /// It runs in a loop (`awake`).
    Awake,
}

impl Config {
    /// Reads the options; a report comes once a second unless they say otherwise.
    ///
    /// # Errors
    /// An option whose value is no number.
    pub fn new<'a>(options: &Options<'a>) -> Result<Self, BadOption<'a>> {
        let period_us = options.number("period_us")?.unwrap_or(10_000).max(1);
        Ok(Self {
            period_us,
            report: options
                .number("report")?
                .unwrap_or(1_000_000 / period_us)
                .max(1),
            beats: options.number("beats")?.unwrap_or(0),
            steady: options.number("steady")?.unwrap_or(0),
            rest: if options.has("awake") {
                Rest::Awake
            } else {
                Rest::Asleep
            },
        })
    }
}

/// What to do after a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for the next deadline.
    Wait,
    /// Print [`Heartbeat::tally`], then wait.
    Report,
    /// All beats are done.
    Stop,
}

/// The state of a running heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    config: Config,
    /// Of the clock, per second.
    ticks_per_second: u64,
    start: u64,
    beats: u64,
    worst: u64,
}

impl Heartbeat {
    /// A heartbeat whose first deadline is one period after `now`.
    pub fn new(config: Config, ticks_per_second: u64, now: u64) -> Self {
        Self {
            config,
            ticks_per_second,
            start: now,
            beats: 0,
            worst: 0,
        }
    }

    /// When the next beat is due.
    pub fn deadline(&self) -> u64 {
        // Computed from the start, so that a period of a fraction of a tick does not drift.
        let us = u128::from(self.beats + 1) * u128::from(self.config.period_us);
        let ticks = us * u128::from(self.ticks_per_second) / 1_000_000;
        self.start
            .saturating_add(ticks.try_into().unwrap_or(u64::MAX))
    }

    /// Counts the beat that was due at [`deadline`](Self::deadline) and handled at `now`.
    pub fn beat(&mut self, now: u64) -> Next {
        self.worst = self.worst.max(now.saturating_sub(self.deadline()));
        self.beats += 1;
        if self.beats == self.config.beats {
            Next::Stop
        } else if self.beats.is_multiple_of(self.config.report) {
            Next::Report
        } else {
            Next::Wait
        }
    }

    /// Beats and worst lateness since the start, for printing.
    pub fn tally(&self) -> Tally {
        let ns = u128::from(self.worst) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        Tally {
            beats: self.beats,
            worst_ns: ns.try_into().unwrap_or(u64::MAX),
        }
    }
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Beats so far.
    pub beats: u64,
    /// The longest time from a deadline to its handler, in nanoseconds.
    pub worst_ns: u64,
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} beats, worst lateness {} ns",
            self.beats, self.worst_ns
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Heartbeat, Next, Rest};
    use crate::options::Options;

    const MHZ10: u64 = 10_000_000;

    fn config(line: &str) -> Config {
        Config::new(&Options::new(line)).unwrap()
    }

    #[test]
    fn the_defaults_are_ten_milliseconds_and_a_report_a_second() {
        assert_eq!(
            config(""),
            Config {
                period_us: 10_000,
                report: 100,
                beats: 0,
                steady: 0,
                rest: Rest::Asleep
            }
        );
        assert_eq!(config("awake").rest, Rest::Awake);
        assert_eq!(config("period_us=0 report=0").period_us, 1);
        assert_eq!(config("report=0").report, 1);
        assert_eq!(
            config("period_us=3000000").report,
            1,
            "slower than a beat a second"
        );
        assert!(Config::new(&Options::new("beats=many")).is_err());
    }

    #[test]
    fn deadlines_keep_to_the_grid() {
        let mut heart = Heartbeat::new(config("period_us=1000"), MHZ10, 500);
        assert_eq!(heart.deadline(), 10_500);
        heart.beat(19_000); // late by most of a period
        assert_eq!(heart.deadline(), 20_500);
        // A period that is no whole number of ticks: 3 us at 32,768 Hz.
        let mut heart = Heartbeat::new(config("period_us=3"), 32_768, 0);
        for _ in 0..1_000_000 {
            heart.beat(0);
        }
        assert_eq!(heart.deadline(), 3 * 1_000_001 * 32_768 / 1_000_000);
    }

    #[test]
    fn the_worst_lateness_stays() {
        let mut heart = Heartbeat::new(config("period_us=1000 report=2 beats=4"), MHZ10, 0);
        assert_eq!(heart.beat(10_000), Next::Wait);
        assert_eq!(heart.beat(20_007), Next::Report);
        assert_eq!(heart.tally().to_string(), "2 beats, worst lateness 700 ns");
        assert_eq!(heart.beat(30_001), Next::Wait);
        assert_eq!(heart.beat(39_999), Next::Stop, "early is not late");
        assert_eq!(heart.tally().to_string(), "4 beats, worst lateness 700 ns");
    }

    #[test]
    fn extreme_numbers_saturate() {
        let line = format!("period_us={}", u64::MAX);
        let mut heart = Heartbeat::new(config(&line), u64::MAX, u64::MAX - 1);
        assert_eq!(heart.deadline(), u64::MAX);
        assert_eq!(heart.beat(u64::MAX), Next::Report);
    }
}
