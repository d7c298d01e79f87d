//! The entries of Intel's extended page tables (SDM 3C, "EPT Translation Mechanism") and of AMD's nested page tables (APM 2, "Nested Paging").
//!
//! What an entry means is written into the bits that both leave to software, and is read from there alone; the hardware's bits only follow. So an
//! entry whose hardware bits say "not present" may still hold all else: it is condemned.

use super::entry::{Entry, Leaf, LeafSize, Target};
use crate::{HostPhysAddr, MappingFlags};

/// Whose bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Ept,
    Npt,
}

/// A host-physical address in an entry.
pub(super) const HPA_BITS: u32 = 52;
const HPA_MASK: u64 = (1 << HPA_BITS) - 0x1000;

/// Ours. The frame: 0, or 1 + its size.
const FRAME_SHIFT: u32 = 52;
/// Ours. What the entry is: one of the three below; 0 in empty entries only.
const KIND_SHIFT: u32 = 54;
const READ_ONLY: u64 = 1 << KIND_SHIFT;
const READ_WRITE: u64 = 2 << KIND_SHIFT;
const TABLE: u64 = 3 << KIND_SHIFT;
const KIND_MASK: u64 = 3 << KIND_SHIFT;
/// Ours. Instructions may be fetched.
const EXECUTABLE: u64 = 1 << 56;
/// Ours. Memory of a device.
const DEVICE: u64 = 1 << 11;

/// A leaf above the lowest level, in both formats.
const LARGE: u64 = 1 << 7;

mod ept {
    pub(super) const R: u64 = 1 << 0;
    pub(super) const W: u64 = 1 << 1;
    pub(super) const X: u64 = 1 << 2;
    pub(super) const PRESENT: u64 = R | W | X;
    /// The guest's own page attributes still count. Zero is "uncacheable".
    pub(super) const WRITE_BACK: u64 = 6 << 3;
}

mod npt {
    pub(super) const P: u64 = 1 << 0;
    pub(super) const W: u64 = 1 << 1;
    /// The hardware takes every guest access for a user's.
    pub(super) const U: u64 = 1 << 2;
    /// Both: uncacheable, by the page attribute table as it is after reset.
    pub(super) const PWT_PCD: u64 = 1 << 3 | 1 << 4;
    pub(super) const A: u64 = 1 << 5;
    pub(super) const D: u64 = 1 << 6;
    pub(super) const NX: u64 = 1 << 63;
}

/// The word for `entry` of a table at `level`.
pub(super) const fn encode(format: Format, level: usize, entry: Entry) -> u64 {
    match entry {
        Entry::Empty => 0,
        Entry::Live(target) => encode_target(target) | hardware_bits(format, level, target),
        Entry::Condemned(target) => encode_target(target),
    }
}

/// The entry that `word` stands for.
pub(super) const fn decode(format: Format, word: u64) -> Entry {
    let present = match format {
        Format::Ept => ept::PRESENT,
        Format::Npt => npt::P,
    };
    if word & KIND_MASK == 0 {
        Entry::Empty
    } else if word & present != 0 {
        Entry::Live(decode_target(word))
    } else {
        Entry::Condemned(decode_target(word))
    }
}

const fn hardware_bits(format: Format, level: usize, target: Target) -> u64 {
    let flags = match (format, target) {
        (Format::Ept, Target::Table(_)) => return ept::PRESENT,
        (Format::Npt, Target::Table(_)) => return npt::P | npt::W | npt::U | npt::A,
        (Format::Ept | Format::Npt, Target::Leaf(leaf)) => leaf.flags,
    };
    let (write, execute, device) = (
        flags.contains(MappingFlags::WRITE),
        flags.contains(MappingFlags::EXECUTE),
        flags.contains(MappingFlags::DEVICE),
    );
    let large = if level == 0 { 0 } else { LARGE };
    large
        | match format {
            Format::Ept => {
                ept::R
                    | if write { ept::W } else { 0 }
                    | if execute { ept::X } else { 0 }
                    | if device { 0 } else { ept::WRITE_BACK }
            }
            // A and D are set from the start: nobody reads them, and the hardware need not write them.
            Format::Npt => {
                npt::P
                    | npt::U
                    | npt::A
                    | npt::D
                    | if write { npt::W } else { 0 }
                    | if execute { 0 } else { npt::NX }
                    | if device { npt::PWT_PCD } else { 0 }
            }
        }
}

const fn encode_target(target: Target) -> u64 {
    match target {
        Target::Table(hpa) => hpa.as_u64() & HPA_MASK | TABLE,
        Target::Leaf(Leaf { hpa, flags, frame }) => {
            let kind = if flags.contains(MappingFlags::WRITE) {
                READ_WRITE
            } else {
                READ_ONLY
            };
            let execute = if flags.contains(MappingFlags::EXECUTE) {
                EXECUTABLE
            } else {
                0
            };
            let device = if flags.contains(MappingFlags::DEVICE) {
                DEVICE
            } else {
                0
            };
            hpa.as_u64() & HPA_MASK | kind | execute | device | encode_frame(frame)
        }
    }
}

const fn decode_target(word: u64) -> Target {
    let hpa = HostPhysAddr::new(word & HPA_MASK);
    let mut flags = MappingFlags::READ;
    match word & KIND_MASK {
        TABLE => return Target::Table(hpa),
        READ_WRITE => flags = flags.union(MappingFlags::WRITE),
        _ => {}
    }
    if word & EXECUTABLE != 0 {
        flags = flags.union(MappingFlags::EXECUTE);
    }
    if word & DEVICE != 0 {
        flags = flags.union(MappingFlags::DEVICE);
    }
    Target::Leaf(Leaf {
        hpa,
        flags,
        frame: decode_frame(word),
    })
}

const fn encode_frame(frame: Option<LeafSize>) -> u64 {
    let code = match frame {
        None => 0,
        Some(LeafSize::Size4K) => 1,
        Some(LeafSize::Size2M) => 2,
        Some(LeafSize::Size1G) => 3,
    };
    code << FRAME_SHIFT
}

const fn decode_frame(word: u64) -> Option<LeafSize> {
    match word >> FRAME_SHIFT & 0b11 {
        0 => None,
        1 => Some(LeafSize::Size4K),
        2 => Some(LeafSize::Size2M),
        _ => Some(LeafSize::Size1G),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Format; 2] = [Format::Ept, Format::Npt];
    const LEAF: Leaf = Leaf {
        hpa: HostPhysAddr::new(0x000a_bcde_f123_4000),
        flags: MappingFlags::READ,
        frame: None,
    };
    /// Bits that the manuals leave to software: in EPT entries 11 and 52 to 56, in NPT entries 9 to 11 and 52 to 58.
    const SOFTWARE: u64 = 0x1f << 52 | 1 << 11;

    #[test]
    fn the_hardware_reads_the_words_of_the_manual() {
        let table = Target::Table(HostPhysAddr::new(0x8000_1000));
        let leaf = |flags| Target::Leaf(Leaf { flags, ..LEAF });
        let all = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
        let device = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::DEVICE;
        let hpa = LEAF.hpa.as_u64();
        let cases = [
            // (format, level, target, word without our bits)
            (Format::Ept, 3, table, 0x8000_1007),
            (Format::Ept, 0, leaf(MappingFlags::READ), hpa | 0x31),
            (Format::Ept, 0, leaf(all), hpa | 0x37),
            (Format::Ept, 1, leaf(all), hpa | 0xb7),
            (Format::Ept, 2, leaf(device), hpa | 0x83),
            (Format::Npt, 3, table, 0x8000_1027),
            (
                Format::Npt,
                0,
                leaf(MappingFlags::READ),
                1 << 63 | hpa | 0x65,
            ),
            (Format::Npt, 0, leaf(all), hpa | 0x67),
            (Format::Npt, 2, leaf(all), hpa | 0xe7),
            (Format::Npt, 1, leaf(device), 1 << 63 | hpa | 0xff),
        ];
        for (format, level, target, word) in cases {
            let live = encode(format, level, Entry::Live(target));
            assert_eq!(live & !SOFTWARE, word, "{format:?} {level} {target:?}");
            let condemned = encode(format, level, Entry::Condemned(target));
            assert_eq!(condemned & 0b111, 0);
        }
    }

    #[test]
    fn every_entry_survives_its_word() {
        let hpas = [0, 0x1000, HPA_MASK].map(HostPhysAddr::new);
        let frames = [
            None,
            Some(LeafSize::Size4K),
            Some(LeafSize::Size2M),
            Some(LeafSize::Size1G),
        ];
        for (format, level, hpa) in FORMATS
            .into_iter()
            .flat_map(|format| (0..3).map(move |level| (format, level)))
            .flat_map(|(format, level)| hpas.map(|hpa| (format, level, hpa)))
        {
            let leaves = (0..16)
                .map(MappingFlags::from_bits_truncate)
                .filter(|flags| flags.contains(MappingFlags::READ))
                .flat_map(|flags| frames.map(|frame| Target::Leaf(Leaf { hpa, flags, frame })));
            for target in leaves.chain([Target::Table(hpa)]) {
                for entry in [Entry::Live(target), Entry::Condemned(target)] {
                    assert_eq!(decode(format, encode(format, level, entry)), entry);
                }
            }
            assert_eq!(
                decode(format, encode(format, level, Entry::Empty)),
                Entry::Empty
            );
        }
    }

    #[test]
    fn what_the_hardware_adds_changes_nothing() {
        let entry = Entry::Live(Target::Leaf(LEAF));
        for format in FORMATS {
            let word = encode(format, 0, entry) | npt::A | npt::D;
            assert_eq!(decode(format, word), entry);
        }
    }
}
