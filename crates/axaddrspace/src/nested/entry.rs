//! What an entry of a nested table says, whatever its encoding.

use crate::{FrameSize, HostPhysAddr, MappingFlags};

/// The sizes of leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeafSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl LeafSize {
    /// All, the largest first.
    pub(crate) const DESCENDING: [Self; 3] = [Self::Size1G, Self::Size2M, Self::Size4K];

    /// The size in bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.frame_size().bytes()
    }

    /// The frame that fills it.
    pub(crate) const fn frame_size(self) -> FrameSize {
        match self {
            Self::Size4K => FrameSize::Size4K,
            Self::Size2M => FrameSize::Size2M,
            Self::Size1G => FrameSize::Size1G,
        }
    }

    /// The level of the tables whose entries are leaves of this size.
    pub(super) const fn level(self) -> usize {
        match self {
            Self::Size4K => 0,
            Self::Size2M => 1,
            Self::Size1G => 2,
        }
    }

    /// The largest leaf that fits in an entry of a table at `level`.
    pub(super) const fn at_most(level: usize) -> Self {
        match level {
            0 => Self::Size4K,
            1 => Self::Size2M,
            _ => Self::Size1G,
        }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing.
    Empty,
    /// The hardware translates through it.
    Live(Target),
    /// The hardware no longer looks at it, but may remember what it said: what it leads to is freed after the next flush.
    Condemned(Target),
}

/// Where an entry leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To a table of the next level.
    Table(HostPhysAddr),
    /// To memory.
    Leaf(Leaf),
}

/// A piece of memory that an entry maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Where it begins.
    pub(crate) hpa: HostPhysAddr,
    /// READ, WRITE and EXECUTE; DEVICE where the encoding has a bit for it.
    pub(crate) flags: MappingFlags,
    /// The table owns the frame of this size that the piece is all or, after a split, a part of.
    pub(crate) frame: Option<LeafSize>,
}
