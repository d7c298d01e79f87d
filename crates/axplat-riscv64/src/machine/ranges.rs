//! Ranges of physical memory in whole pages, kept without a heap.

/// First address and size in bytes, as `axplat` takes them.
type RawRange = (usize, usize);

/// How many separate ranges a list holds. Firmware describes a handful.
pub(super) const MAX_RANGES: usize = 32;

const PAGE: usize = 4096;

/// Up to [`MAX_RANGES`] ranges, in order, of which no two overlap or touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    list: [RawRange; MAX_RANGES],
    len: usize,
}

/// There is no room for one more range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Ranges {
    pub(super) const fn new() -> Self {
        Self {
            list: [(0, 0); MAX_RANGES],
            len: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[RawRange] {
        self.list.get(..self.len).unwrap_or(&[])
    }

    /// Adds the pages that lie in a range as a whole: for what is used.
    pub(super) fn add_inward(&mut self, start: usize, size: usize) -> Result<(), Full> {
        match start.checked_next_multiple_of(PAGE) {
            Some(first) => self.add(first, page_of(start.saturating_add(size))),
            // It begins within the last page of all.
            None => Ok(()),
        }
    }

    /// Adds every page that a range touches: for what must be left alone, or mapped.
    pub(super) fn add_outward(&mut self, start: usize, size: usize) -> Result<(), Full> {
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
    use super::{Full, MAX_RANGES, PAGE, Ranges};

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
}
