//! How often a VM has started again, and who was told.
//!
//! A guest may reset its machine as often as it likes. So what is kept of that has one size, however long nobody asks.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The restarts of one VM. One party restarts it, one is told; any may ask.
#[derive(Debug, Default)]
pub struct Restarts {
    begun: AtomicUsize,
    told: AtomicUsize,
    lives: AtomicUsize,
}

impl Restarts {
    /// Of a VM that has not started again.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            begun: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            lives: AtomicUsize::new(0),
        }
    }

    /// The VM is about to start again.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// It has: a new life begins.
    pub fn done(&self) {
        self.lives.fetch_add(1, Ordering::SeqCst);
    }

    /// How many lives have ended in a restart.
    #[must_use]
    pub fn lives(&self) -> usize {
        self.lives.load(Ordering::SeqCst)
    }

    /// How many restarts have begun since this was asked last.
    pub fn take_news(&self) -> usize {
        let begun = self.begun.load(Ordering::SeqCst);
        begun.wrapping_sub(self.told.swap(begun, Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::Restarts;

    #[test]
    fn however_many_there_are_they_are_told_at_once() {
        let restarts = Restarts::new();
        for _ in 0..1_000_000 {
            restarts.begin();
            restarts.done();
        }
        assert_eq!(restarts.lives(), 1_000_000);
        assert_eq!(restarts.take_news(), 1_000_000);
        assert_eq!(restarts.take_news(), 0);
    }

    #[test]
    fn a_restart_that_fails_is_told_and_begins_no_life() {
        let restarts = Restarts::new();
        restarts.begin();
        assert_eq!((restarts.take_news(), restarts.lives()), (1, 0));
    }
}
