//! How often a VM has started again, how soon it may, and who was told.
//!
//! A guest may reset its machine as often as it likes. So what is kept of that has one size, however long nobody asks; and as a restart is
//! much work for the host, which others feel (memory is zeroed, images are unpacked, translations are flushed), there is a shortest time between two of them.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The restarts of one VM. One party restarts it, one is told; any may ask. Times are in one unit of the caller's.
#[derive(Debug)]
pub struct Restarts {
    begun: AtomicUsize,
    told: AtomicUsize,
    lives: AtomicUsize,
    /// When the life that is began.
    since: AtomicU64,
    /// From the beginning of a life to that of the restart that ends it, at the least.
    spacing: u64,
    /// When somebody is told again at the earliest.
    quiet_until: AtomicU64,
    /// From one time that somebody is told to the next, at the least.
    pause: u64,
}

impl Restarts {
    /// Of a VM that starts for the first time at `now`, whose restarts are to lie `spacing` apart, and what is told of them `pause`.
    #[must_use]
    pub const fn new(now: u64, spacing: u64, pause: u64) -> Self {
        Self {
            begun: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            lives: AtomicUsize::new(0),
            since: AtomicU64::new(now),
            spacing,
            quiet_until: AtomicU64::new(0),
            pause,
        }
    }

    /// When the VM may start again at the earliest.
    #[must_use]
    pub fn earliest(&self) -> u64 {
        self.since
            .load(Ordering::SeqCst)
            .saturating_add(self.spacing)
    }

    /// The VM is about to start again.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// It has: a new life begins at `now`.
    pub fn done(&self, now: u64) {
        self.since.store(now, Ordering::SeqCst);
        self.lives.fetch_add(1, Ordering::SeqCst);
    }

    /// How many lives have ended in a restart.
    #[must_use]
    pub fn lives(&self) -> usize {
        self.lives.load(Ordering::SeqCst)
    }

    /// How many restarts have begun that nobody was told of; none while it is too [soon](Self::news_due) to tell of any.
    pub fn take_news(&self, now: u64) -> usize {
        if now < self.quiet_until.load(Ordering::SeqCst) {
            return 0;
        }
        let news = self.take_all_news();
        if news > 0 {
            let until = now.saturating_add(self.pause);
            self.quiet_until.store(until, Ordering::SeqCst);
        }
        news
    }

    /// How many restarts have begun that nobody was told of: the last chance to tell.
    pub fn take_all_news(&self) -> usize {
        let begun = self.begun.load(Ordering::SeqCst);
        begun.wrapping_sub(self.told.swap(begun, Ordering::SeqCst))
    }

    /// When to tell of restarts that nobody was told of; `None` if there are none.
    #[must_use]
    pub fn news_due(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::SeqCst);
        (begun != self.told.load(Ordering::SeqCst)).then(|| self.quiet_until.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::Restarts;

    #[test]
    fn however_many_there_are_they_are_told_at_once() {
        let restarts = Restarts::new(0, 100, 0);
        for _ in 0..1_000_000 {
            restarts.begin();
            restarts.done(1);
        }
        assert_eq!(restarts.lives(), 1_000_000);
        assert_eq!(restarts.take_news(1), 1_000_000);
        assert_eq!(restarts.take_news(1), 0);
    }

    #[test]
    fn what_follows_one_another_closely_is_told_together() {
        let restarts = Restarts::new(0, 100, 1000);
        assert_eq!(restarts.news_due(), None);
        restarts.begin();
        assert_eq!(restarts.news_due(), Some(0));
        assert_eq!(restarts.take_news(50), 1, "the first at once");
        assert_eq!(restarts.news_due(), None);
        restarts.begin();
        restarts.begin();
        assert_eq!(
            (restarts.take_news(1049), restarts.news_due()),
            (0, Some(1050))
        );
        assert_eq!(restarts.take_news(1050), 2);
        restarts.begin();
        assert_eq!((restarts.take_news(1051), restarts.take_all_news()), (0, 1));
        restarts.begin();
        assert_eq!(restarts.take_news(9000), 1);
    }

    #[test]
    fn a_restart_that_fails_is_told_and_begins_no_life() {
        let restarts = Restarts::new(0, 100, 0);
        restarts.begin();
        assert_eq!((restarts.take_news(1), restarts.lives()), (1, 0));
    }

    #[test]
    fn a_life_that_was_long_enough_is_followed_at_once() {
        let restarts = Restarts::new(1000, 100, 0);
        assert_eq!(restarts.earliest(), 1100);
        restarts.begin();
        assert_eq!(restarts.earliest(), 1100, "until the restart is done");
        restarts.done(5000);
        assert_eq!(restarts.earliest(), 5100);
        restarts.done(u64::MAX - 1);
        assert_eq!(restarts.earliest(), u64::MAX);
    }
}
