//! One local APIC's state, behind its lock, and what of it is read without.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use spin::Mutex;

use super::state::{State, Waiting};
use crate::{InterruptFlag, Schedule};

/// Nothing waits.
const NOTHING: u64 = 0;
/// An 8259 has something. Vectors, which are never 0, stand for themselves.
const EXT_INT: u64 = 1 << 8;
/// Where the class of what waits is: that of an 8259's is above all others.
const CLASS_SHIFT: u32 = 4;

/// A local APIC.
pub(super) struct Shared {
    state: Mutex<State>,
    /// What waits, and whether something does.
    waiting: AtomicU64,
    flag: Arc<InterruptFlag>,
    /// When the timer expires.
    deadline: AtomicU64,
    /// The task priority register.
    task_priority: AtomicU8,
}

/// Whether something waits that did not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Something,
    Nothing,
}

impl News {
    /// Of what waits where something did before. Without a page that could be taken, and the vCPU was told; with one, a task priority that is in the page
    /// alone may hold it back, and a vCPU that has looked at it looks no more.
    #[cold]
    #[inline(never)]
    fn of_more(state: &State, before: u64, waiting: u64) -> Self {
        if state.page.is_some() && waiting >> CLASS_SHIFT > before >> CLASS_SHIFT {
            Self::Something
        } else {
            Self::Nothing
        }
    }
}

/// What followed the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effects {
    pub(super) news: News,
    pub(super) schedule: Schedule,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        let shared = Self {
            state: Mutex::new(state),
            waiting: AtomicU64::new(NOTHING),
            flag: Arc::default(),
            deadline: AtomicU64::new(u64::MAX),
            task_priority: AtomicU8::new(0),
        };
        shared.with(|_| ());
        shared
    }

    /// Runs `f` on the state, then lets what is read without the lock follow it.
    #[inline]
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> (T, Effects) {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let asks = state.asks();
        (result, self.follow(&state, asks))
    }

    /// Takes what waits, as the processor does.
    #[inline]
    pub(super) fn take(&self) -> Waiting {
        let mut state = self.state.lock();
        let taken = if state.page.is_some() {
            state.waiting_beside()
        } else {
            // Whoever changed the state last has shown what it asks.
            self.shown()
        };
        state.take(taken);
        let asks = match taken {
            // It was the most urgent, and no other is more so than what is in service.
            Waiting::Vector(_) if !state.has_news() => Waiting::Nothing,
            Waiting::Vector(_) | Waiting::Nothing | Waiting::ExtInt => state.asks(),
        };
        // Nothing else is read without the lock that this changes.
        self.show(asks);
        taken
    }

    /// What is read without the lock follows the state, whose lock is held and in which this asks for the vCPU.
    #[inline(always)]
    fn follow(&self, state: &State, asks: Waiting) -> Effects {
        let (deadline, priority) = (state.deadline(), state.task_priority());
        // Only the holder of the lock writes, so that a load and a store do for a swap. The order is the lock's, and, for a reader without
        // it, that of the notification.
        let schedule = if self.deadline.load(Ordering::Relaxed) == deadline
            && self.task_priority.load(Ordering::Relaxed) == priority
        {
            Schedule::Kept
        } else {
            Schedule::Changed
        };
        self.deadline.store(deadline, Ordering::Release);
        self.task_priority.store(priority, Ordering::Relaxed);
        let news = match self.show(asks) {
            (_, NOTHING) => News::Nothing,
            (NOTHING, _) => News::Something,
            (before, waiting) => News::of_more(state, before, waiting),
        };
        Effects { news, schedule }
    }

    /// Shows what waits to who reads it without the lock, which is held. The answer: what waited before, and what does now.
    #[inline(always)]
    fn show(&self, asks: Waiting) -> (u64, u64) {
        let waiting = match asks {
            Waiting::Nothing => NOTHING,
            Waiting::Vector(vector) => vector.into(),
            Waiting::ExtInt => EXT_INT,
        };
        let before = self.waiting.load(Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Release);
        self.flag.set(waiting != NOTHING);
        (before, waiting)
    }

    /// Runs `f`, which only looks.
    #[inline]
    pub(super) fn look<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.state.lock())
    }

    /// The task priority register. Only the vCPU itself writes it.
    #[inline]
    pub(super) fn task_priority(&self) -> u8 {
        self.task_priority.load(Ordering::Relaxed)
    }

    pub(super) fn pending(&self) -> Option<u8> {
        match self.shown() {
            Waiting::Nothing => None,
            Waiting::Vector(vector) => Some(vector),
            Waiting::ExtInt => Some(u8::MAX),
        }
    }

    /// What was [shown](Self::show) last.
    #[inline]
    fn shown(&self) -> Waiting {
        match self.waiting.load(Ordering::Acquire) {
            NOTHING => Waiting::Nothing,
            EXT_INT => Waiting::ExtInt,
            vector => Waiting::Vector(vector as u8),
        }
    }

    pub(super) fn flag(&self) -> &Arc<InterruptFlag> {
        &self.flag
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Acquire)
    }
}
