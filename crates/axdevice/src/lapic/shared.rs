//! One local APIC's state, behind its lock, and what of it is read without.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use super::state::{State, Waiting};

/// Nothing waits.
const NOTHING: u64 = 0;
/// An 8259 has something. Vectors, which are never 0, stand for themselves.
const EXT_INT: u64 = 1 << 8;

/// A local APIC.
pub(super) struct Shared {
    state: Mutex<State>,
    /// What waits.
    waiting: AtomicU64,
    /// When the timer expires.
    deadline: AtomicU64,
}

/// Whether something waits that did not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Something,
    Nothing,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        let shared = Self {
            state: Mutex::new(state),
            waiting: AtomicU64::new(NOTHING),
            deadline: AtomicU64::new(u64::MAX),
        };
        shared.with(|_| ());
        shared
    }

    /// Runs `f` on the state, then lets what is read without the lock follow it.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> (T, News) {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let waiting = match state.waiting() {
            Waiting::Nothing => NOTHING,
            Waiting::Vector(vector) => vector.into(),
            Waiting::ExtInt => EXT_INT,
        };
        // Only the holder of the lock writes, so that a load and a store do for a swap. The order is the lock's, and, for a reader without
        // it, that of the notification.
        let before = self.waiting.load(Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Release);
        self.deadline.store(state.deadline(), Ordering::Release);
        let news = match (before, waiting) {
            (NOTHING, NOTHING) => News::Nothing,
            (NOTHING, _) => News::Something,
            (_, _) => News::Nothing,
        };
        (result, news)
    }

    pub(super) fn pending(&self) -> Option<u8> {
        match self.waiting.load(Ordering::Acquire) {
            NOTHING => None,
            waiting => Some(u8::try_from(waiting).unwrap_or(u8::MAX)),
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Acquire)
    }
}
