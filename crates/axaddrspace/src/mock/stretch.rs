//! A stretch of translations: leaves of one size, each behind the one before it in both address spaces; or what leads to one table.

use core::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) gpa: u64,
    pub(crate) hpa: u64,
    /// Bytes of guest addresses that one of them translates.
    leaf: u64,
    count: u64,
}

impl Stretch {
    pub(super) const fn one(gpa: u64, hpa: u64, leaf: u64) -> Self {
        Self {
            gpa,
            hpa,
            leaf,
            count: 1,
        }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.leaf * self.count
    }

    const fn end(&self) -> u64 {
        self.gpa + self.len()
    }

    /// Adds `next` if it goes on where this ends.
    pub(super) fn goes_on(&mut self, next: &Self) -> bool {
        let goes_on =
            next.leaf == self.leaf && next.gpa == self.end() && next.hpa == self.hpa + self.len();
        if goes_on {
            self.count += next.count;
        }
        goes_on
    }

    /// Whether this has all that `other` has.
    pub(super) const fn covers(&self, other: &Self) -> bool {
        self.leaf == other.leaf
            && self.gpa <= other.gpa
            && other.end() <= self.end()
            && other.gpa.wrapping_sub(self.gpa) == other.hpa.wrapping_sub(self.hpa)
    }

    /// Whether one of the translations leads to a start within `frame`.
    pub(super) fn reaches(&self, frame: &Range<u64>) -> bool {
        let skipped = frame.start.saturating_sub(self.hpa).div_ceil(self.leaf);
        skipped < self.count && self.hpa + skipped * self.leaf < frame.end
    }

    /// What is left when each translation that has to do with `flushed` is forgotten.
    pub(super) fn without(self, flushed: &Range<u64>) -> impl Iterator<Item = Self> {
        let (before, after) = if flushed.end <= self.gpa || self.end() <= flushed.start {
            (self.count, self.count)
        } else {
            (
                flushed.start.saturating_sub(self.gpa) / self.leaf,
                (flushed.end - self.gpa).div_ceil(self.leaf).min(self.count),
            )
        };
        let rest = Self {
            gpa: self.gpa + after * self.leaf,
            hpa: self.hpa + after * self.leaf,
            count: self.count - after,
            ..self
        };
        [
            Self {
                count: before,
                ..self
            },
            rest,
        ]
        .into_iter()
        .filter(|part| part.count > 0)
    }
}

#[test]
fn a_flush_forgets_whole_leaves() {
    let stretch = Stretch {
        gpa: 0x4000,
        hpa: 0x10_0000,
        leaf: 0x1000,
        count: 4,
    };
    let left = |flushed: Range<u64>| -> std::vec::Vec<_> {
        let parts = stretch.without(&flushed);
        parts.map(|part| (part.gpa, part.hpa, part.count)).collect()
    };
    assert_eq!(left(0..0x4000), [(0x4000, 0x10_0000, 4)]);
    assert_eq!(left(0x8000..0x9000), [(0x4000, 0x10_0000, 4)]);
    assert_eq!(left(0..0x4001), [(0x5000, 0x10_1000, 3)]);
    assert_eq!(
        left(0x5fff..0x6001),
        [(0x4000, 0x10_0000, 1), (0x7000, 0x10_3000, 1)]
    );
    assert_eq!(left(0x4000..0x8000), []);
    assert!(stretch.reaches(&(0x10_3000..0x10_4000)) && stretch.reaches(&(0..0x10_0001)));
    assert!(!stretch.reaches(&(0x10_4000..0x10_5000)) && !stretch.reaches(&(0..0x10_0000)));
}
