//! Sets of interrupt vectors, as IRR, ISR and TMR show them (Intel SDM volume 3, 12.8.4).

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
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        // Written out, for this is what most sets are asked most of the time: whether they are empty.
        let [a, b, c, d] = self.words;
        if a | b | c | d == 0 {
            return None;
        }
        let (base, word) = match (b, c, d) {
            (0, 0, 0) => (0, a),
            (_, 0, 0) => (64, b),
            (_, _, 0) => (128, c),
            (_, _, _) => (192, d),
        };
        Some(base + (63 - word.leading_zeros() as u8))
    }

    /// Bit `i` says whether vector `32 * index + i` is a member.
    pub(super) fn register(&self, index: u8) -> u32 {
        let word = self.words.get(usize::from(index / 2));
        word.map_or(0, |word| (word >> (32 * (index % 2))) as u32)
    }
}
