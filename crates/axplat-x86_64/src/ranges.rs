//! Lists of physical address ranges, without a heap.

use core::fmt;

/// A start and a size, as ArceOS counts them.
pub(crate) type Range = (usize, usize);

const MAX_RANGES: usize = 64;
const PAGE: usize = 4096;

/// At most [`MAX_RANGES`] ranges of whole pages.
#[derive(Clone, Copy)]
pub(crate) struct Ranges {
    list: [Range; MAX_RANGES],
    len: usize,
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = |&(start, size): &Range| start..start + size;
        f.debug_list()
            .entries(self.as_slice().iter().map(ends))
            .finish()
    }
}

/// What becomes of the part of a page at a range's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The page belongs to the range: nobody else may have it.
    Outward,
    /// The page does not: it is not the range's alone.
    Inward,
}

impl Ranges {
    pub(crate) const fn new() -> Self {
        Self {
            list: [(0, 0); MAX_RANGES],
            len: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[Range] {
        self.list.get(..self.len).unwrap_or(&[])
    }

    /// Bytes in all of them.
    pub(crate) fn total(&self) -> usize {
        self.as_slice().iter().map(|&(_, size)| size).sum()
    }

    /// Adds a range. Past the end of the list it is dropped: firmware describes a handful.
    pub(crate) fn add(&mut self, start: usize, size: usize, edge: Edge) {
        let end = start.saturating_add(size);
        let (start, end) = match edge {
            Edge::Outward => (round_down(start), round_up(end)),
            Edge::Inward => (round_up(start), round_down(end)),
        };
        self.push(start, end);
    }

    fn push(&mut self, start: usize, end: usize) {
        if let Some(slot) = self.list.get_mut(self.len)
            && start < end
        {
            *slot = (start, end - start);
            self.len += 1;
        }
    }

    /// Sorts by address and joins what overlaps or touches.
    pub(crate) fn merge(&mut self) {
        let mut sorted = *self;
        let list = sorted.list.get_mut(..sorted.len).unwrap_or(&mut []);
        list.sort_unstable();
        *self = Self::new();
        let mut open = 0..0;
        for &mut (start, size) in list {
            if start <= open.end && !open.is_empty() {
                open.end = open.end.max(start + size);
            } else {
                self.push(open.start, open.end);
                open = start..start + size;
            }
        }
        self.push(open.start, open.end);
    }

    /// What remains without `others`. Both must be [merged](Self::merge).
    pub(crate) fn without(&self, others: &Self) -> Self {
        let mut rest = Self::new();
        for &(start, size) in self.as_slice() {
            let (mut at, end) = (start, start + size);
            for &(hole, hole_size) in others.as_slice() {
                if hole + hole_size > at && hole < end {
                    rest.push(at, hole.max(at));
                    at = hole + hole_size;
                }
            }
            rest.push(at, end);
        }
        rest
    }

    /// Only those of at least `size` bytes.
    pub(crate) fn at_least(&self, size: usize) -> Self {
        let mut rest = Self::new();
        for &(start, len) in self.as_slice().iter().filter(|range| range.1 >= size) {
            rest.push(start, start + len);
        }
        rest
    }

    /// Only the parts below `limit`.
    pub(crate) fn below(&self, limit: usize) -> Self {
        let mut rest = Self::new();
        for &(start, size) in self.as_slice() {
            rest.push(start, (start + size).min(limit));
        }
        rest
    }

    /// Whether all of a range is in one of these.
    pub(crate) fn contains(&self, start: usize, size: usize) -> bool {
        self.as_slice().iter().any(|&(from, len)| {
            start >= from && start.checked_add(size).is_some_and(|end| end <= from + len)
        })
    }
}

fn round_down(address: usize) -> usize {
    address & !(PAGE - 1)
}

fn round_up(address: usize) -> usize {
    round_down(address.saturating_add(PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[Range]) -> Ranges {
        let mut ranges = Ranges::new();
        for &(start, size) in list {
            ranges.add(start, size, Edge::Inward);
        }
        ranges.merge();
        ranges
    }

    #[test]
    fn edges_are_whole_pages() {
        let mut ranges = Ranges::new();
        ranges.add(0x1001, 0x2000, Edge::Outward);
        ranges.add(0x1_1001, 0x2000, Edge::Inward);
        ranges.add(0x2_0001, 0xffe, Edge::Inward);
        assert_eq!(ranges.as_slice(), [(0x1000, 0x3000), (0x1_2000, 0x1000)]);
    }

    #[test]
    fn what_overlaps_or_touches_is_joined() {
        let merged = ranges(&[
            (0x8000, 0x1000),
            (0x1000, 0x1000),
            (0x2000, 0x3000),
            (0x3000, 0x1000),
        ]);
        assert_eq!(merged.as_slice(), [(0x1000, 0x4000), (0x8000, 0x1000)]);
        assert_eq!(merged.total(), 0x5000);
        assert_eq!(ranges(&[]).as_slice(), []);
        assert_eq!(ranges(&[(0, 0x1000)]).as_slice(), [(0, 0x1000)]);
    }

    #[test]
    fn a_difference_cuts_fronts_ends_and_holes() {
        let ram = ranges(&[(0, 0x1_0000), (0x2_0000, 0x1_0000), (0x4_0000, 0x1000)]);
        let holes = ranges(&[
            (0, 0x1000),
            (0x4000, 0x1000),
            (0xf000, 0x1_2000),
            (0x4_0000, 0x9000),
        ]);
        assert_eq!(
            ram.without(&holes).as_slice(),
            [(0x1000, 0x3000), (0x5000, 0xa000), (0x2_1000, 0xf000)]
        );
        assert_eq!(ram.without(&Ranges::new()).as_slice(), ram.as_slice());
    }

    #[test]
    fn small_and_high_ranges_can_be_left_out() {
        let ram = ranges(&[(0, 0x1000), (0x8000, 0x4000)]);
        assert_eq!(ram.at_least(0x2000).as_slice(), [(0x8000, 0x4000)]);
        assert_eq!(
            ram.below(0x9000).as_slice(),
            [(0, 0x1000), (0x8000, 0x1000)]
        );
        assert!(ram.contains(0x9000, 0x3000) && !ram.contains(0x9000, 0x3001));
        assert!(!ram.contains(0x8000, usize::MAX));
    }

    #[test]
    fn neither_the_end_of_the_list_nor_of_the_address_space_is_passed() {
        let mut many = Ranges::new();
        for i in 0..2 * MAX_RANGES {
            many.add(i * 2 * PAGE, PAGE, Edge::Inward);
        }
        many.merge();
        assert_eq!(many.as_slice().len(), MAX_RANGES);
        let mut end = Ranges::new();
        end.add(usize::MAX - 10, 100, Edge::Outward);
        end.merge();
        assert_eq!(end.as_slice().len(), 0, "the last page has no end");
    }
}
