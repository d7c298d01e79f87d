//! The entries of RISC-V's Sv39x4 and Sv48x4 (privileged specification, "Two-Stage Address Translation").
//!
//! Two things are ours. The bits that are left to software say whose frame a leaf maps; and an entry whose V bit is clear, which the
//! hardware does not look into, may still hold all else: it is condemned.

use super::entry::{Entry, Leaf, LeafSize, Target};
use crate::{HostPhysAddr, MappingFlags};

/// A host-physical address in an entry: a 44-bit page number and a 12-bit offset.
pub(super) const HPA_BITS: u32 = 56;

const V: u64 = 1 << 0;
const R: u64 = 1 << 1;
const W: u64 = 1 << 2;
const X: u64 = 1 << 3;
/// The hardware takes every guest access for a user's.
const U: u64 = 1 << 4;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;

/// The bits left to software. In a leaf: 0, or 1 + the size of the frame. In the entry of a table: 1, so that no condemned entry is zero.
const SOFTWARE_SHIFT: u32 = 8;
const SOFTWARE_MASK: u64 = 0b11;
const TABLE: u64 = 1 << SOFTWARE_SHIFT;

const PPN_SHIFT: u32 = 10;
const PPN_MASK: u64 = (1 << 44) - 1;

pub(super) const fn encode(entry: Entry) -> u64 {
    match entry {
        Entry::Empty => 0,
        Entry::Live(target) => encode_target(target) | V,
        Entry::Condemned(target) => encode_target(target),
    }
}

pub(super) const fn decode(word: u64) -> Entry {
    if word == 0 {
        Entry::Empty
    } else if word & V != 0 {
        Entry::Live(decode_target(word))
    } else {
        Entry::Condemned(decode_target(word))
    }
}

const fn encode_target(target: Target) -> u64 {
    match target {
        Target::Table(hpa) => encode_hpa(hpa) | TABLE,
        // A and D are set from the start: nobody reads them, and without Svadu their absence is a fault.
        Target::Leaf(Leaf { hpa, flags, frame }) => {
            encode_hpa(hpa) | encode_flags(flags) | encode_frame(frame) | U | A | D
        }
    }
}

const fn decode_target(word: u64) -> Target {
    let hpa = HostPhysAddr::new((word >> PPN_SHIFT & PPN_MASK) << 12);
    if word & (R | W | X) == 0 {
        Target::Table(hpa)
    } else {
        Target::Leaf(Leaf {
            hpa,
            flags: decode_flags(word),
            frame: decode_frame(word),
        })
    }
}

const fn encode_hpa(hpa: HostPhysAddr) -> u64 {
    (hpa.as_u64() >> 12 & PPN_MASK) << PPN_SHIFT
}

const fn encode_flags(flags: MappingFlags) -> u64 {
    let mut word = 0;
    if flags.contains(MappingFlags::READ) {
        word |= R;
    }
    if flags.contains(MappingFlags::WRITE) {
        word |= W;
    }
    if flags.contains(MappingFlags::EXECUTE) {
        word |= X;
    }
    word
}

const fn decode_flags(word: u64) -> MappingFlags {
    let mut flags = MappingFlags::empty();
    if word & R != 0 {
        flags = flags.union(MappingFlags::READ);
    }
    if word & W != 0 {
        flags = flags.union(MappingFlags::WRITE);
    }
    if word & X != 0 {
        flags = flags.union(MappingFlags::EXECUTE);
    }
    flags
}

const fn encode_frame(frame: Option<LeafSize>) -> u64 {
    let code = match frame {
        None => 0,
        Some(LeafSize::Size4K) => 1,
        Some(LeafSize::Size2M) => 2,
        Some(LeafSize::Size1G) => 3,
    };
    code << SOFTWARE_SHIFT
}

const fn decode_frame(word: u64) -> Option<LeafSize> {
    match word >> SOFTWARE_SHIFT & SOFTWARE_MASK {
        0 => None,
        1 => Some(LeafSize::Size4K),
        2 => Some(LeafSize::Size2M),
        _ => Some(LeafSize::Size1G),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Leaf = Leaf {
        hpa: HostPhysAddr::new(0x00ab_cdef_1234_5000),
        flags: MappingFlags::READ,
        frame: None,
    };

    #[test]
    fn entries_are_the_words_of_the_manual() {
        let table = Target::Table(HostPhysAddr::new(0x8000_1000));
        let all = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
        let cases = [
            (Entry::Empty, 0),
            // V, and a software bit.
            (Entry::Live(table), 0x8000_1000 >> 2 | 0x101),
            (Entry::Condemned(table), 0x8000_1000 >> 2 | 0x100),
            // D A U R V.
            (
                Entry::Live(Target::Leaf(LEAF)),
                LEAF.hpa.as_u64() >> 2 | 0xd3,
            ),
            (
                Entry::Live(Target::Leaf(Leaf { flags: all, ..LEAF })),
                LEAF.hpa.as_u64() >> 2 | 0xdf,
            ),
            (
                Entry::Condemned(Target::Leaf(Leaf {
                    frame: Some(LeafSize::Size1G),
                    ..LEAF
                })),
                LEAF.hpa.as_u64() >> 2 | 0x3d2,
            ),
        ];
        for (entry, word) in cases {
            assert_eq!(encode(entry), word, "{entry:?}");
        }
    }

    #[test]
    fn every_entry_survives_its_word() {
        let hpas = [0, 0x1000, 0x00ff_ffff_ffff_f000].map(HostPhysAddr::new);
        let frames = [
            None,
            Some(LeafSize::Size4K),
            Some(LeafSize::Size2M),
            Some(LeafSize::Size1G),
        ];
        let flags = (0..8).map(MappingFlags::from_bits_truncate);
        for hpa in hpas {
            for target in flags
                .clone()
                .filter(|flags| flags.contains(MappingFlags::READ))
                .flat_map(|flags| frames.map(|frame| Target::Leaf(Leaf { hpa, flags, frame })))
                .chain([Target::Table(hpa)])
            {
                for entry in [Entry::Live(target), Entry::Condemned(target)] {
                    assert_eq!(decode(encode(entry)), entry);
                }
            }
        }
        assert_eq!(decode(encode(Entry::Empty)), Entry::Empty);
    }
}
