//! Where the VM has RAM: what tells an access to a device from one to RAM that is not there yet.

use alloc::sync::Arc;
use core::ops::Range;

use axaddrspace::GuestPhysAddr;

const PAGE: u64 = 0x1000;

/// No page: this is not the address of one.
const NO_PAGE: u64 = u64::MAX;

/// Where the VM has RAM, which does not change while it lives.
#[derive(Debug)]
pub(crate) struct RamMap {
    ranges: Arc<[Range<GuestPhysAddr>]>,
    /// The last page that was found to have none: a guest stays with a device for a while.
    last_without: u64,
}

impl RamMap {
    pub(crate) const fn new(ranges: Arc<[Range<GuestPhysAddr>]>) -> Self {
        Self {
            ranges,
            last_without: NO_PAGE,
        }
    }

    /// Whether there is RAM at `addr`.
    pub(crate) fn contains(&self, addr: GuestPhysAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&addr))
    }

    /// The same, for an address at which there mostly is none.
    #[inline(always)]
    pub(crate) fn contains_after_all(&mut self, addr: GuestPhysAddr) -> bool {
        let page = addr.as_u64() & !(PAGE - 1);
        page != self.last_without && self.look(addr, page)
    }

    #[inline(never)]
    fn look(&mut self, addr: GuestPhysAddr, page: u64) -> bool {
        let touches = |range: &Range<GuestPhysAddr>| {
            range.start.as_u64() <= page + (PAGE - 1) && range.end.as_u64() > page
        };
        if !self.ranges.iter().any(touches) {
            self.last_without = page;
        }
        self.contains(addr)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever was asked before, and wherever in a page RAM begins and ends.
        #[test]
        fn what_was_found_before_changes_no_answer(
            ranges in prop::collection::vec((0u64..0x6000, 0u64..0x3000), 0..4),
            asked in prop::collection::vec(0u64..0xa000, 1..64),
        ) {
            let address = GuestPhysAddr::new;
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|(start, len)| address(start)..address(start + len))
                .collect();
            let mut map = RamMap::new(ranges.into());
            for addr in asked.into_iter().chain([0, u64::MAX]).map(address) {
                let expected = map.contains(addr);
                prop_assert_eq!(map.contains_after_all(addr), expected, "{}", addr);
                prop_assert_eq!(map.contains_after_all(addr), expected, "{} again", addr);
            }
        }
    }
}
