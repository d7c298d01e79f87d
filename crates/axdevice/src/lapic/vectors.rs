//! Sets of interrupt vectors, as IRR, ISR and TMR show them.

/// A set of vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VectorSet {
    words: [u64; 4],
}

impl VectorSet {
    pub(super) fn insert(&mut self, vector: u8) {
        if let Some(word) = self.words.get_mut(usize::from(vector / 64)) {
            *word |= 1 << (vector % 64);
        }
    }

    pub(super) fn remove(&mut self, vector: u8) {
        if let Some(word) = self.words.get_mut(usize::from(vector / 64)) {
            *word &= !(1 << (vector % 64));
        }
    }

    pub(super) fn contains(&self, vector: u8) -> bool {
        let word = self.words.get(usize::from(vector / 64));
        word.is_some_and(|word| word >> (vector % 64) & 1 != 0)
    }

    /// The member of the highest priority, which is the highest.
    pub(super) fn highest(&self) -> Option<u8> {
        [0, 64, 128, 192]
            .into_iter()
            .zip(self.words)
            .rev()
            .find_map(|(base, word)| Some(base + word.checked_ilog2()? as u8))
    }

    /// Bit `i` says whether vector `32 * index + i` is a member.
    pub(super) fn register(&self, index: u8) -> u32 {
        let word = self.words.get(usize::from(index / 2));
        word.map_or(0, |word| (word >> (32 * (index % 2))) as u32)
    }
}
