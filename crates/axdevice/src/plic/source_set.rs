//! Sets of interrupt sources, as the registers show them: one bit a source.

use alloc::boxed::Box;

/// A set of sources out of `1 ..= highest`. Numbers outside are never members.
#[derive(Clone, Debug)]
pub(super) struct SourceSet {
    words: Box<[u32]>,
    highest: u32,
}

impl SourceSet {
    /// The empty set.
    pub(super) fn new(highest: u32) -> Self {
        Self {
            words: (0..=highest / 32).map(|_| 0).collect(),
            highest,
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Bit `i` says whether source `32 * index + i` is a member.
    pub(super) fn word(&self, index: usize) -> u32 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Writes what [`word`](Self::word) reads. Bits of sources that do not exist are ignored.
    pub(super) fn set_word(&mut self, index: usize, value: u32) {
        let last = self.words.len() - 1;
        let beyond = if index == last {
            u32::MAX << 1 << (self.highest % 32)
        } else {
            0
        };
        let zero = u32::from(index == 0);
        if let Some(word) = self.words.get_mut(index) {
            *word = value & !beyond & !zero;
        }
    }

    pub(super) fn contains(&self, source: u32) -> bool {
        self.word(source as usize / 32) >> (source % 32) & 1 != 0
    }

    /// Adds a source.
    pub(super) fn insert(&mut self, source: u32) {
        if (1..=self.highest).contains(&source)
            && let Some(word) = self.words.get_mut(source as usize / 32)
        {
            *word |= 1 << (source % 32);
        }
    }

    /// Removes a source.
    pub(super) fn remove(&mut self, source: u32) {
        if let Some(word) = self.words.get_mut(source as usize / 32) {
            *word &= !(1 << (source % 32));
        }
    }

    /// The members of both sets, in ascending order.
    pub(super) fn intersection(&self, other: &Self) -> impl Iterator<Item = u32> {
        (0u32..)
            .step_by(32)
            .zip(&self.words)
            .zip(&other.words)
            .flat_map(|((base, mine), theirs)| {
                let mut left = mine & theirs;
                core::iter::from_fn(move || {
                    let bit = left.trailing_zeros();
                    left &= left.checked_sub(1)?;
                    Some(base + bit)
                })
            })
    }
}
