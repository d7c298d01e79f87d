//! Time, for the devices that have any: where they read it, and how they are woken.

/// The clock of the machine.
pub trait Clock: Send + Sync {
    /// Now, in ticks of the host's counter. It never goes back.
    fn now(&self) -> u64;

    /// Ticks a second, at least one.
    fn frequency_hz(&self) -> u64;
}

/// A device that has something to do at some time.
///
/// Somebody, a vCPU before it enters its guest, looks at [`deadline`](Self::deadline) and calls [`advance`](Self::advance) once it is due.
/// All times are in ticks of the host's counter.
pub trait Timed: Send + Sync {
    /// Does what is due at `now`, and says when to come again, as [`deadline`](Self::deadline) does. Too early is harmless.
    fn advance(&self, now: u64) -> u64;

    /// When there is something to do; [`u64::MAX`] for never. This is a single load.
    fn deadline(&self) -> u64;
}
