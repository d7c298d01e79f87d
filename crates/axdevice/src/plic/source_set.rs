//! Sets of interrupt sources, as the registers show them: one bit a source.

use alloc::boxed::Box;

/// A set of sources out of `1 ..= highest`. Numbers outside are never members.
#[derive(Clone, Debug)]
pub(super) struct SourceSet {
    words: Box<[u32]>,
    /// Bit `i` says whether word `i` has members: there are at most 32, and most are empty.
    used: u32,
    highest: u32,
}

impl SourceSet {
    /// The empty set.
    pub(super) fn new(highest: u32) -> Self {
        Self {
            words: (0..=highest / 32).map(|_| 0).collect(),
            used: 0,
            highest,
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.used = 0;
    }

    /// Changes a word by `change`, if it exists.
    fn update(&mut self, index: usize, change: impl FnOnce(u32) -> u32) {
        if let Some(word) = self.words.get_mut(index) {
            *word = change(*word);
            let bit = 1 << (index % 32);
            self.used = self.used & !bit | if *word == 0 { 0 } else { bit };
        }
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
        self.update(index, |_| value & !beyond & !zero);
    }

    pub(super) fn contains(&self, source: u32) -> bool {
        self.word(source as usize / 32) >> (source % 32) & 1 != 0
    }

    /// Adds a source.
    pub(super) fn insert(&mut self, source: u32) {
        if (1..=self.highest).contains(&source) {
            self.update(source as usize / 32, |word| word | 1 << (source % 32));
        }
    }

    /// Removes a source.
    pub(super) fn remove(&mut self, source: u32) {
        self.update(source as usize / 32, |word| word & !(1 << (source % 32)));
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether the sets may have members in common. If not, they have none.
    #[inline]
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        self.used & other.used != 0
    }

    /// The members of both sets, in ascending order.
    pub(super) fn intersection(&self, other: &Self) -> impl Iterator<Item = u32> {
        bits(self.used & other.used).flat_map(|index| {
            let common = self.word(index as usize) & other.word(index as usize);
            bits(common).map(move |bit| 32 * index + bit)
        })
    }
}

/// The numbers of the bits that are set.
fn bits(mut left: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        left &= left.checked_sub(1)?;
        Some(bit)
    })
}
