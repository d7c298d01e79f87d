//! The memory of a PC, as its firmware tells it (ACPI 6.5, section 15, "System Address Map
//! Interfaces", in the numbers that all boot protocols use).

use alloc::vec::Vec;

use crate::boot::ram::GuestRange;

/// Where RAM for free use ends below 1 MiB: PCs keep the last KiB below the hole.
const LOW_END: u64 = 0x9_fc00;
/// Where the hole begins that a PC's display memory is in. It is RAM here, but no guest expects that.
const HOLE: u64 = 0xa_0000;
/// Where firmware begins.
const FIRMWARE: u64 = 0xe_0000;
/// Where RAM goes on.
const HIGH: u64 = 0x10_0000;

/// What a stretch of memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryKind {
    Usable = 1,
    Reserved = 2,
}

/// A stretch of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryEntry {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) kind: MemoryKind,
}

/// The whole memory, in the order of addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemoryMap(Vec<MemoryEntry>);

impl MemoryMap {
    /// The map of a VM with this RAM.
    pub(super) fn new(ram: &[GuestRange]) -> Self {
        const PARTS: [(u64, u64, MemoryKind); 4] = [
            (0, LOW_END, MemoryKind::Usable),
            (LOW_END, HOLE, MemoryKind::Reserved),
            (FIRMWARE, HIGH, MemoryKind::Reserved),
            (HIGH, u64::MAX, MemoryKind::Usable),
        ];
        let mut entries: Vec<_> = ram
            .iter()
            .flat_map(|region| {
                let (start, end) = (region.start().as_u64(), region.end().as_u64());
                PARTS.into_iter().filter_map(move |(from, to, kind)| {
                    let start = start.max(from);
                    let size = end.min(to).checked_sub(start).filter(|&size| size != 0)?;
                    Some(MemoryEntry { start, size, kind })
                })
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.start);
        Self(entries)
    }

    pub(super) fn entries(&self) -> &[MemoryEntry] {
        &self.0
    }

    /// The usable bytes from `start` on, without a gap.
    fn usable_from(&self, start: u64) -> u64 {
        let mut end = start;
        for entry in &self.0 {
            if entry.kind == MemoryKind::Usable && entry.start <= end {
                end = end.max(entry.start.saturating_add(entry.size));
            }
        }
        end - start
    }

    /// KiB of RAM from 0 on.
    pub(super) fn low_kib(&self) -> u32 {
        (self.usable_from(0).min(LOW_END) >> 10) as u32
    }

    /// KiB of RAM from 1 MiB on.
    pub(super) fn high_kib(&self) -> u32 {
        u32::try_from(self.usable_from(HIGH) >> 10).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::testing::range;

    fn map(ram: &[GuestRange]) -> Vec<(u64, u64, u32)> {
        let map = MemoryMap::new(ram);
        let entries = map.entries().iter();
        entries
            .map(|entry| (entry.start, entry.size, entry.kind as u32))
            .collect()
    }

    #[test]
    fn the_first_mib_has_its_holes() {
        assert_eq!(
            map(&[range(4 << 30, 1 << 30), range(0, 16 << 20)]),
            [
                (0, 0x9_fc00, 1),
                (0x9_fc00, 0x400, 2),
                (0xe_0000, 0x2_0000, 2),
                (0x10_0000, 15 << 20, 1),
                (4 << 30, 1 << 30, 1)
            ]
        );
        assert_eq!(map(&[range(0x1000, 0x1000)]), [(0x1000, 0x1000, 1)]);
        assert_eq!(map(&[range(0xa_0000, 0x4_0000)]), []);
        assert_eq!(map(&[]), []);
    }

    #[test]
    fn sizes_end_at_the_first_gap() {
        let sizes = |ram: &[GuestRange]| {
            let map = MemoryMap::new(ram);
            (map.low_kib(), map.high_kib())
        };
        let rest = range(8 << 20, 8 << 20);
        assert_eq!(sizes(&[range(0, 8 << 20), rest]), (639, 15 << 10));
        assert_eq!(sizes(&[range(0, 4 << 20), rest]), (639, 3 << 10));
        assert_eq!(sizes(&[rest]), (0, 0));
        assert_eq!(sizes(&[range(0, u64::MAX)]), (639, u32::MAX));
    }
}
