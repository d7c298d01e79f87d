//! The sources of a PLIC and their gateways.

use alloc::{boxed::Box, sync::Weak, vec::Vec};

use super::MAX_PRIORITY;
use super::source_set::SourceSet;
use crate::ServedInterrupt;

/// The sources: what they ask for, and how urgent it is.
pub(super) struct Sources {
    /// By source number, with an unused one for source 0.
    priorities: Box<[u8]>,
    /// Sources whose line is high.
    high: SourceSet,
    /// Sources with a request that no context has claimed.
    pending: SourceSet,
    /// Sources whose request was claimed and not completed: their gateways are closed.
    in_service: SourceSet,
    /// Who hears of the completion of a source.
    passed: Vec<(u32, Weak<dyn ServedInterrupt>)>,
}

/// A source that a context could claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) source: u32,
    pub(super) priority: u8,
}

impl Sources {
    /// Sources `1 ..= highest`, as at power-on.
    pub(super) fn new(highest: u32) -> Self {
        let none = SourceSet::new(highest);
        Self {
            priorities: (0..=highest).map(|_| 0).collect(),
            high: none.clone(),
            pending: none.clone(),
            in_service: none,
            passed: Vec::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.priorities.fill(0);
        self.high.clear();
        self.pending.clear();
        self.in_service.clear();
    }

    /// The priority of a source, 0 for one that does not exist.
    pub(super) fn priority(&self, source: usize) -> u8 {
        self.priorities.get(source).copied().unwrap_or(0)
    }

    /// Writes a priority register, whose upper bits do not exist. Neither does that of source 0.
    pub(super) fn set_priority(&mut self, source: usize, value: u32) {
        if source != 0
            && let Some(priority) = self.priorities.get_mut(source)
        {
            *priority = value as u8 & MAX_PRIORITY;
        }
    }

    /// The pending bits of sources `32 * index` to `32 * index + 31`.
    pub(super) fn pending_word(&self, index: usize) -> u32 {
        self.pending.word(index)
    }

    /// Whether any source has a request that no context has claimed.
    #[inline]
    pub(super) fn any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The line of `source` is high.
    pub(super) fn raise(&mut self, source: u32) {
        self.high.insert(source);
        self.pass_gateway(source);
    }

    /// The line of `source` is low. A request that it made stays.
    pub(super) fn lower(&mut self, source: u32) {
        self.high.remove(source);
    }

    /// Takes a pending `source` in service.
    pub(super) fn serve(&mut self, source: u32) {
        self.pending.remove(source);
        self.in_service.insert(source);
    }

    /// Ends the service of `source`, if it is in service; its line may ask again at once.
    pub(super) fn complete(&mut self, source: u32) {
        self.in_service.remove(source);
        if self.high.contains(source) {
            self.ask_again(source);
        }
    }

    /// The line of `source` is high after its service. Most often that is one more request; but there are lines that nobody lowers but
    /// their service.
    #[cold]
    #[inline(never)]
    fn ask_again(&mut self, source: u32) {
        let whom = self.passed.iter().find(|(passed, _)| *passed == source);
        match whom.and_then(|(_, whom)| whom.upgrade()) {
            None => self.pass_gateway(source),
            // What was not in service has a request still, and has not been served.
            Some(_) if self.pending.contains(source) => {}
            Some(whom) => {
                self.lower(source);
                whom.served();
            }
        }
    }

    /// From now on `whom` hears of the completion of `source`.
    pub(super) fn on_served(&mut self, source: u32, whom: Weak<dyn ServedInterrupt>) {
        self.passed.push((source, whom));
    }

    /// Makes `source` pending if its line is high and its gateway open.
    fn pass_gateway(&mut self, source: u32) {
        if self.high.contains(source) && !self.in_service.contains(source) {
            self.pending.insert(source);
        }
    }

    /// Of the pending sources in `enabled`, the one with the highest priority, and of several the one with the lowest number. Priority 0
    /// means "never".
    #[inline]
    pub(super) fn best_of(&self, enabled: &SourceSet) -> Option<Candidate> {
        if self.pending.may_meet(enabled) {
            self.search(enabled)
        } else {
            None
        }
    }

    #[inline(never)]
    fn search(&self, enabled: &SourceSet) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for source in self.pending.intersection(enabled) {
            let priority = self.priority(source as usize);
            if priority > best.map_or(0, |best| best.priority) {
                best = Some(Candidate { source, priority });
            }
        }
        best
    }
}
