//! A counter's frequency, and what its ticks are in nanoseconds.

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// How fast a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    hz: u64,
    /// Nanoseconds per tick, with [`FRACTION`](Self::FRACTION) bits after the point.
    nanos_per_tick: u64,
}

impl Frequency {
    const FRACTION: u32 = 32;

    /// A counter of `hz` ticks a second. A counter that stands still is taken for one of 1 Hz.
    #[must_use]
    pub const fn new(hz: u64) -> Self {
        let hz = if hz == 0 { 1 } else { hz };
        Self {
            hz,
            nanos_per_tick: match (NANOS_PER_SEC << Self::FRACTION) / hz {
                0 => 1,
                nanos => nanos,
            },
        }
    }

    /// Ticks a second.
    #[must_use]
    pub const fn hz(self) -> u64 {
        self.hz
    }

    /// What `ticks` are in nanoseconds, rounded down.
    #[must_use]
    pub const fn ticks_to_nanos(self, ticks: u64) -> u64 {
        ((ticks as u128 * self.nanos_per_tick as u128) >> Self::FRACTION) as u64
    }

    /// The first tick that [`ticks_to_nanos`](Self::ticks_to_nanos) says is not before `nanos`, so that a deadline is never early.
    #[must_use]
    pub const fn nanos_to_ticks(self, nanos: u64) -> u64 {
        let ticks = ((nanos as u128) << Self::FRACTION).div_ceil(self.nanos_per_tick as u128);
        if ticks > u64::MAX as u128 {
            u64::MAX
        } else {
            ticks as u64
        }
    }
}
