//! The regions of an address space: what is meant to be where. The nested table says what is there already.

use alloc::collections::BTreeMap;
use core::ops::Range;

use crate::{GuestPhysAddr, MappingFlags};

/// When a region's RAM is taken from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// At once, in the largest frames that fit and the host has: a running guest takes no fault on it.
    Ahead,
    /// On first touch, 2 MiB at a time where that fits and the host has it, else 4 KiB.
    Lazy,
}

/// What is behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Host memory that someone else looks after, or a device.
    Linear,
    /// RAM of our own.
    Ram(Fill),
}

/// A piece of an address space that is the same all over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: GuestPhysAddr,
    pub(crate) end: GuestPhysAddr,
    pub(crate) flags: MappingFlags,
    pub(crate) backing: Backing,
}

impl Region {
    pub(crate) fn len(&self) -> u64 {
        self.end.as_u64() - self.start.as_u64()
    }

    /// Whether there are bytes behind it that the hypervisor may touch: a device may answer a read with a deed.
    pub(crate) fn is_ram(&self) -> bool {
        match self.backing {
            Backing::Linear => !self.flags.contains(MappingFlags::DEVICE),
            Backing::Ram(Fill::Ahead | Fill::Lazy) => true,
        }
    }

    /// Whether it is RAM of our own that is there from the start, and that the guest may read and write.
    pub(crate) fn is_fixed(&self) -> bool {
        self.backing == Backing::Ram(Fill::Ahead)
            && self.allows(MappingFlags::READ | MappingFlags::WRITE)
    }

    /// Whether it allows what `access` says of READ, WRITE and EXECUTE.
    pub(crate) fn allows(&self, access: MappingFlags) -> bool {
        self.flags.contains(access.difference(MappingFlags::DEVICE))
    }
}

/// Regions, none of which overlap, by their first address.
#[derive(Debug, Default)]
pub(crate) struct Regions(BTreeMap<GuestPhysAddr, Region>);

impl Regions {
    /// The region that `gpa` is in.
    pub(crate) fn at(&self, gpa: GuestPhysAddr) -> Option<&Region> {
        let (_, region) = self.0.range(..=gpa).next_back()?;
        (gpa < region.end).then_some(region)
    }

    /// A region that overlaps `range`, which is not empty.
    pub(crate) fn overlapping(&self, range: &Range<GuestPhysAddr>) -> Option<&Region> {
        let (_, region) = self.0.range(..range.end).next_back()?;
        (range.start < region.end).then_some(region)
    }

    /// The regions that begin below `end`, in order.
    pub(crate) fn before(&self, end: GuestPhysAddr) -> impl Iterator<Item = &Region> {
        self.0.range(..end).map(|(_, region)| region)
    }

    /// Adds `region`, which overlaps none.
    pub(crate) fn insert(&mut self, region: Region) {
        self.0.insert(region.start, region);
    }

    /// Cuts `range` out.
    pub(crate) fn remove(&mut self, range: &Range<GuestPhysAddr>) {
        while let Some(&region) = self.overlapping(range) {
            self.0.remove(&region.start);
            if region.start < range.start {
                self.insert(Region {
                    end: range.start,
                    ..region
                });
            }
            if range.end < region.end {
                self.insert(Region {
                    start: range.end,
                    ..region
                });
            }
        }
    }
}
