//! The nested paging modes: the shape of their tables, and which encoding fills them.
//!
//! A further mode is a further variant here, and its bits a further file beside [`riscv`](super::riscv) and [`x86`](super::x86); the walker stays as it is.

use super::entry::{Entry, LeafSize};
use super::riscv;
use super::x86::{self, Format};
use crate::{FrameSize, GuestPhysAddr};

/// log2 of a page.
const PAGE_SHIFT: u32 = 12;
/// log2 of the entries in a table that is not the root.
const INDEX_BITS: u32 = 9;

/// How a nested page table is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NestedMode {
    /// RISC-V, three levels, 41-bit guest-physical addresses (privileged specification, "Sv39x4").
    Sv39x4,
    /// RISC-V, four levels, 50-bit guest-physical addresses (privileged specification, "Sv48x4").
    Sv48x4,
    /// Intel's extended page tables, four levels, 48-bit guest-physical addresses (SDM 3C, "EPT Translation Mechanism").
    Ept(LargestLeaf),
    /// AMD's nested page tables, four levels, 48-bit guest-physical addresses (APM 2, "Nested Paging").
    Npt(LargestLeaf),
}

/// The largest leaf that the hardware knows, where that is not the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LargestLeaf {
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl NestedMode {
    /// The name that its manual has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sv39x4 => "Sv39x4",
            Self::Sv48x4 => "Sv48x4",
            Self::Ept(_) => "EPT",
            Self::Npt(_) => "NPT",
        }
    }

    /// How many levels of tables there are.
    #[must_use]
    pub const fn levels(self) -> usize {
        match self {
            Self::Sv39x4 => 3,
            Self::Sv48x4 | Self::Ept(_) | Self::Npt(_) => 4,
        }
    }

    /// How many bits a guest-physical address has.
    #[must_use]
    pub const fn gpa_bits(self) -> u32 {
        PAGE_SHIFT + INDEX_BITS * self.levels() as u32 + self.extra_root_bits()
    }

    /// How many bits a host-physical address has in an entry.
    #[must_use]
    pub const fn hpa_bits(self) -> u32 {
        match self {
            Self::Sv39x4 | Self::Sv48x4 => riscv::HPA_BITS,
            Self::Ept(_) | Self::Npt(_) => x86::HPA_BITS,
        }
    }

    /// The mode's number in `hgatp.MODE`; 0, no translation, for those of other architectures.
    #[must_use]
    pub const fn hgatp_mode(self) -> u64 {
        match self {
            Self::Sv39x4 => 8,
            Self::Sv48x4 => 9,
            Self::Ept(_) | Self::Npt(_) => 0,
        }
    }

    /// How many bits the root's index has more than the others'.
    const fn extra_root_bits(self) -> u32 {
        match self {
            Self::Sv39x4 | Self::Sv48x4 => 2,
            Self::Ept(_) | Self::Npt(_) => 0,
        }
    }

    /// The largest leaf.
    pub(crate) const fn largest_leaf(self) -> LeafSize {
        match self {
            Self::Sv39x4
            | Self::Sv48x4
            | Self::Ept(LargestLeaf::Size1G)
            | Self::Npt(LargestLeaf::Size1G) => LeafSize::Size1G,
            Self::Ept(LargestLeaf::Size2M) | Self::Npt(LargestLeaf::Size2M) => LeafSize::Size2M,
        }
    }

    /// The level of the root; leaves of 4 KiB are at level 0.
    pub(super) const fn root_level(self) -> usize {
        self.levels() - 1
    }

    /// The frame that a table at `level` fills.
    pub(super) const fn table_size(self, level: usize) -> FrameSize {
        if level < self.root_level() || self.extra_root_bits() == 0 {
            FrameSize::Size4K
        } else {
            FrameSize::Size16K
        }
    }

    /// How many entries a table at `level` has.
    pub(super) const fn entries(self, level: usize) -> usize {
        self.table_size(level).bytes() as usize / size_of::<u64>()
    }

    /// The entry that `gpa` falls in, in a table at `level`.
    pub(super) const fn index(self, level: usize, gpa: GuestPhysAddr) -> usize {
        (gpa.as_u64() >> shift(level)) as usize & (self.entries(level) - 1)
    }

    /// The word for `entry` of a table at `level`.
    pub(super) const fn encode(self, level: usize, entry: Entry) -> u64 {
        match self {
            Self::Sv39x4 | Self::Sv48x4 => riscv::encode(entry),
            Self::Ept(_) => x86::encode(Format::Ept, level, entry),
            Self::Npt(_) => x86::encode(Format::Npt, level, entry),
        }
    }

    /// The entry that `word`, which [`encode`](Self::encode) made, stands for.
    pub(super) const fn decode(self, word: u64) -> Entry {
        match self {
            Self::Sv39x4 | Self::Sv48x4 => riscv::decode(word),
            Self::Ept(_) => x86::decode(Format::Ept, word),
            Self::Npt(_) => x86::decode(Format::Npt, word),
        }
    }
}

/// How many bytes an entry of a table at `level` stands for.
pub(super) const fn span(level: usize) -> u64 {
    1 << shift(level)
}

/// log2 of [`span`].
const fn shift(level: usize) -> u32 {
    PAGE_SHIFT + INDEX_BITS * level as u32
}
