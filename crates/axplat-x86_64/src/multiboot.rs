//! What a Multiboot loader hands over (Multiboot Specification 0.6.96, "Boot information format").

use crate::bytes::{Memory, u32_at, u64_at};

/// Past these, the loader's lists are not believed.
const MAX_ENTRIES: usize = 256;

/// The information structure.
pub(crate) struct BootInfo<'m, M> {
    memory: &'m M,
    bytes: &'m [u8],
}

/// A range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapEntry {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) kind: MemoryKind,
}

/// What a range of the memory map is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryKind {
    /// RAM for whoever boots.
    Available,
    /// RAM with firmware's tables, or that it keeps for itself, or that is defective.
    Firmware,
    /// Anything else: what firmware wants to be left alone, often devices, and what has no name yet.
    Reserved,
}

/// Which words of the structure are valid (bits of `flags`).
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;

impl<'m, M: Memory> BootInfo<'m, M> {
    const LEN: usize = 52;

    /// The structure at a physical address.
    pub(crate) fn at(memory: &'m M, address: u64) -> Option<Self> {
        let bytes = memory.bytes(address, Self::LEN)?;
        Some(Self { memory, bytes })
    }

    fn word(&self, offset: usize) -> u32 {
        u32_at(self.bytes, offset).unwrap_or(0)
    }

    fn has(&self, what: u32) -> bool {
        self.word(0) & what != 0
    }

    /// The command line, up to `max` bytes of it.
    pub(crate) fn command_line(&self, max: usize) -> &'m [u8] {
        if !self.has(HAS_COMMAND_LINE) {
            return &[];
        }
        let address = u64::from(self.word(16));
        let byte = |offset: usize| self.memory.bytes(address + offset as u64, 1);
        let len = (0..max)
            .take_while(|&offset| byte(offset).is_some_and(|byte| byte != [0]))
            .count();
        self.memory.bytes(address, len).unwrap_or(&[])
    }

    /// Start and end of each module.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (u64, u64)> {
        const LEN: usize = 16;
        let (count, address) = if self.has(HAS_MODULES) {
            (self.word(20) as usize, u64::from(self.word(24)))
        } else {
            (0, 0)
        };
        (0..count.min(MAX_ENTRIES)).map_while(move |index| {
            let entry = self.memory.bytes(address + (index * LEN) as u64, LEN)?;
            let (start, end) = (u32_at(entry, 0)?, u32_at(entry, 4)?);
            Some((u64::from(start), u64::from(end)))
        })
    }

    /// The memory map. Each entry says how long it is itself.
    pub(crate) fn memory_map(&self) -> impl Iterator<Item = MapEntry> {
        const AVAILABLE: u32 = 1;
        // ACPI 6.5, table 15.4: tables that can be reclaimed, memory kept for sleep, defective.
        const FIRMWARE: core::ops::RangeInclusive<u32> = 3..=5;
        let (len, address) = if self.has(HAS_MEMORY_MAP) {
            (self.word(44), self.word(48))
        } else {
            (0, 0)
        };
        let mut at = u64::from(address);
        let end = at + u64::from(len);
        core::iter::from_fn(move || {
            // The size does not count its own word.
            let own = u64::from(u32_at(self.memory.bytes(at, 4)?, 0)?) + 4;
            let entry = self.memory.bytes(at, 24)?;
            at += own;
            if at > end || own < 24 {
                return None;
            }
            Some(MapEntry {
                start: u64_at(entry, 4)?,
                size: u64_at(entry, 12)?,
                kind: match u32_at(entry, 20)? {
                    AVAILABLE => MemoryKind::Available,
                    kind if FIRMWARE.contains(&kind) => MemoryKind::Firmware,
                    _ => MemoryKind::Reserved,
                },
            })
        })
        .take(MAX_ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::bytes::testing::Pieces;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn map_entry(size: u32, start: u64, len: u64, kind: u32) -> Vec<u8> {
        [
            &size.to_le_bytes()[..],
            &start.to_le_bytes(),
            &len.to_le_bytes(),
            &kind.to_le_bytes(),
        ]
        .concat()
    }

    fn info(flags: u32, map_len: u32) -> (u64, Vec<u8>) {
        let mut info = [0; 13];
        info[0] = flags;
        info[4] = 0x200;
        (info[5], info[6]) = (2, 0x300);
        (info[11], info[12]) = (map_len, 0x400);
        (0x100, words(&info))
    }

    fn machine(flags: u32) -> Pieces {
        let map = [
            map_entry(20, 0, 0x9fc00, 1),
            map_entry(20, 0x9fc00, 0x400, 2),
            // Longer than it need be.
            map_entry(24, 0x10_0000, 1 << 40, 1),
            vec![0; 4],
            map_entry(20, 0xfeff_c000, 0x4000, 3),
        ]
        .concat();
        Pieces(vec![
            info(flags, map.len() as u32),
            (0x200, b"hv log=debug\0junk".to_vec()),
            (
                0x300,
                words(&[0x8000, 0x9001, 0, 0, 0x1_0000, 0x1_2000, 0, 0]),
            ),
            (0x400, map),
        ])
    }

    #[test]
    fn everything_is_read() {
        let memory = machine(0x4c);
        let info = BootInfo::at(&memory, 0x100).unwrap();
        assert_eq!(info.command_line(100), b"hv log=debug");
        assert_eq!(info.command_line(5), b"hv lo");
        assert_eq!(
            info.modules().collect::<Vec<_>>(),
            [(0x8000, 0x9001), (0x1_0000, 0x1_2000)]
        );
        let map: Vec<_> = info.memory_map().collect();
        assert_eq!(map.len(), 4);
        let big = MapEntry {
            start: 0x10_0000,
            size: 1 << 40,
            kind: MemoryKind::Available,
        };
        assert_eq!(map[2], big);
        assert_eq!(map[1].kind, MemoryKind::Reserved);
        assert_eq!(map[3].kind, MemoryKind::Firmware);
    }

    #[test]
    fn what_the_flags_deny_is_not_looked_at() {
        let memory = machine(0);
        let info = BootInfo::at(&memory, 0x100).unwrap();
        assert_eq!(info.command_line(100), b"");
        assert_eq!(info.modules().count(), 0);
        assert_eq!(info.memory_map().count(), 0);
    }

    #[test]
    fn lists_that_lead_nowhere_end() {
        // Nothing is where the structure points.
        let memory = Pieces(vec![info(0x4c, u32::MAX)]);
        let info = BootInfo::at(&memory, 0x100).unwrap();
        assert_eq!(info.command_line(100), b"");
        assert_eq!(info.modules().count(), 0);
        assert_eq!(info.memory_map().count(), 0);
        assert!(BootInfo::at(&memory, 0x101).is_none());
    }

    #[test]
    fn a_memory_map_that_stands_still_ends() {
        let memory = Pieces(vec![
            info(0x40, 1000),
            (0x400, map_entry(u32::MAX, 0, 0, 1)),
            (0, vec![]),
        ]);
        assert_eq!(
            BootInfo::at(&memory, 0x100).unwrap().memory_map().count(),
            0
        );
        let memory = Pieces(vec![info(0x40, 1000), (0x400, map_entry(0, 0, 0, 1))]);
        assert_eq!(
            BootInfo::at(&memory, 0x100).unwrap().memory_map().count(),
            0
        );
    }
}
