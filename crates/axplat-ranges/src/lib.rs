//! Ranges of physical memory in whole pages, kept without a heap: what a platform knows of its machine's memory.
//!
//! What must not be forgotten, because it is reserved, is never dropped for lack of room: whoever adds it is told.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::fmt;

/// First address and size in bytes, as `axplat` takes them.
pub type Range = (usize, usize);

/// How many separate ranges a list holds. Firmware describes a handful.
pub const MAX_RANGES: usize = 64;

const PAGE: usize = 4096;

/// Up to [`MAX_RANGES`] ranges, in order, of which no two overlap or touch.
#[derive(Clone, Copy)]
pub struct Ranges {
    list: [Range; MAX_RANGES],
    len: usize,
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = |&(start, size): &Range| start..start + size;
        let ranges = self.as_slice().iter().map(ends);
        f.debug_list().entries(ranges).finish()
    }
}

impl Default for Ranges {
    fn default() -> Self {
        Self::new()
    }
}

/// There is no room for one more range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Ranges {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            list: [(0, 0); MAX_RANGES],
            len: 0,
        }
    }

    /// The ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[Range] {
        self.list.get(..self.len).unwrap_or(&[])
    }

    /// Adds the pages that lie in a range as a whole: for what is used.
    ///
    /// # Errors
    /// [`Full`], and nothing is added: it joins none of the ranges, of which there are [`MAX_RANGES`].
    pub fn add_inward(&mut self, start: usize, size: usize) -> Result<(), Full> {
        match start.checked_next_multiple_of(PAGE) {
            Some(first) => self.add(first, page_of(start.saturating_add(size))),
            // It begins within the last page of all.
            None => Ok(()),
        }
    }

    /// Adds every page that a range touches: for what must be left alone, or mapped.
    ///
    /// # Errors
    /// As for [`add_inward`](Self::add_inward).
    pub fn add_outward(&mut self, start: usize, size: usize) -> Result<(), Full> {
        if size == 0 {
            return Ok(());
        }
        let end = start.saturating_add(size);
        // The last page of all has no end that could be named; `add_inward` never has it either.
        let end = end
            .checked_next_multiple_of(PAGE)
            .unwrap_or(page_of(usize::MAX));
        self.add(page_of(start), end)
    }

    /// Bytes in all of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.as_slice().iter().map(|&(_, size)| size).sum()
    }

    /// Whether all of a range is in one of these.
    #[must_use]
    pub fn contains(&self, start: usize, size: usize) -> bool {
        self.as_slice().iter().any(|&(from, len)| {
            start >= from && start.checked_add(size).is_some_and(|end| end <= from + len)
        })
    }

    /// What remains without `others`. Of pieces, which may be more than the ranges were, those that find no room are dropped.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
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
    #[must_use]
    pub fn at_least(&self, size: usize) -> Self {
        let mut rest = Self::new();
        for &(start, len) in self.as_slice().iter().filter(|range| range.1 >= size) {
            rest.push(start, start + len);
        }
        rest
    }

    /// Only the parts below `limit`.
    #[must_use]
    pub fn below(&self, limit: usize) -> Self {
        let mut rest = Self::new();
        for &(start, size) in self.as_slice() {
            rest.push(start, (start + size).min(limit));
        }
        rest
    }

    /// Appends a range that begins behind all others, if it has any bytes and there is room.
    fn push(&mut self, start: usize, end: usize) {
        if let Some(slot) = self.list.get_mut(self.len)
            && start < end
        {
            *slot = (start, end - start);
            self.len += 1;
        }
    }

    fn add(&mut self, mut start: usize, mut end: usize) -> Result<(), Full> {
        if start >= end {
            return Ok(());
        }
        // Takes in what it overlaps or touches...
        let mut kept = 0;
        for i in 0..self.len {
            let (other, size) = self.list[i];
            if other <= end && start <= other + size {
                start = start.min(other);
                end = end.max(other + size);
            } else {
                self.list[kept] = (other, size);
                kept += 1;
            }
        }
        self.len = kept;
        // ...and its place among the rest.
        if self.len == MAX_RANGES {
            return Err(Full);
        }
        let at = self.as_slice().partition_point(|range| range.0 < start);
        self.list.copy_within(at..self.len, at + 1);
        self.list[at] = (start, end - start);
        self.len += 1;
        Ok(())
    }
}

/// Where the page of an address begins.
const fn page_of(addr: usize) -> usize {
    addr & !(PAGE - 1)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{Full, MAX_RANGES, PAGE, Range, Ranges};

    const LAST_PAGE: usize = usize::MAX - PAGE + 1;

    fn inward(ranges: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut list = Ranges::new();
        for &(start, size) in ranges {
            list.add_inward(start, size).unwrap();
        }
        list.as_slice().to_vec()
    }

    fn outward(ranges: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut list = Ranges::new();
        for &(start, size) in ranges {
            list.add_outward(start, size).unwrap();
        }
        list.as_slice().to_vec()
    }

    #[test]
    fn what_is_used_is_whole_pages() {
        assert_eq!(inward(&[(0x1000, 0x2000)]), [(0x1000, 0x2000)]);
        assert_eq!(inward(&[(0x1001, 0x2ffe)]), [(0x2000, 0x1000)]);
        assert_eq!(inward(&[(0x1001, 0x1ffe)]), []);
        assert_eq!(inward(&[(0x1000, 0xfff)]), []);
        assert_eq!(inward(&[(0x1000, 0)]), []);
    }

    #[test]
    fn what_is_left_alone_is_every_page_touched() {
        assert_eq!(outward(&[(0x1000, 0x2000)]), [(0x1000, 0x2000)]);
        assert_eq!(outward(&[(0x1fff, 2)]), [(0x1000, 0x2000)]);
        assert_eq!(outward(&[(0x1234, 1)]), [(0x1000, 0x1000)]);
        assert_eq!(outward(&[(0x1234, 0)]), []);
    }

    #[test]
    fn the_end_of_the_address_space_does_not_overflow() {
        let below = LAST_PAGE - PAGE;
        assert_eq!(inward(&[(below, usize::MAX)]), [(below, PAGE)]);
        assert_eq!(outward(&[(below, usize::MAX)]), [(below, PAGE)]);
        assert_eq!(inward(&[(usize::MAX, 1)]), []);
        assert_eq!(outward(&[(usize::MAX, 1)]), []);
        assert_eq!(outward(&[(below + 1, PAGE)]), [(below, PAGE)]);
    }

    #[test]
    fn ranges_are_in_order_and_joined() {
        let all = [
            (0x9000, 0x1000),
            (0x1000, 0x1000),
            (0x5000, 0x1000),
            (0x2000, 0x1000),
        ];
        assert_eq!(
            outward(&all),
            [(0x1000, 0x2000), (0x5000, 0x1000), (0x9000, 0x1000)]
        );
        // One that covers several, and one within another.
        assert_eq!(
            outward(&[&all[..], &[(0x3000, 0x3000), (0x9800, 1)]].concat()),
            [(0x1000, 0x5000), (0x9000, 0x1000)]
        );
    }

    #[test]
    fn a_full_list_says_so_and_takes_what_needs_no_room() {
        let mut list = Ranges::new();
        for i in 0..MAX_RANGES {
            list.add_outward(i * 2 * PAGE, PAGE).unwrap();
        }
        assert_eq!(list.add_outward(1000 * PAGE, PAGE), Err(Full));
        list.add_outward(PAGE, PAGE).unwrap();
        assert_eq!(list.as_slice()[0], (0, 3 * PAGE));
        list.add_outward(1000 * PAGE, PAGE).unwrap();
        assert_eq!(list.as_slice().len(), MAX_RANGES);
        assert_eq!(list.add_outward(2000 * PAGE, PAGE), Err(Full));
    }

    fn ranges(list: &[Range]) -> Ranges {
        let mut ranges = Ranges::new();
        for &(start, size) in list {
            ranges.add_inward(start, size).unwrap();
        }
        ranges
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
    fn pieces_without_room_are_dropped() {
        let (mut ram, mut holes) = (Ranges::new(), Ranges::new());
        ram.add_inward(0, 1 << 30).unwrap();
        for hole in 1..=MAX_RANGES {
            holes.add_outward(hole * 2 * PAGE, PAGE).unwrap();
        }
        assert_eq!(ram.without(&holes).as_slice().len(), MAX_RANGES);
    }
}
