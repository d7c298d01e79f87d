//! A VM's guest-physical address space: regions, and the nested table that makes them real.

use alloc::sync::Arc;
use core::ops::Range;

use crate::fixed::{Holdable, Piece};
use crate::nested::{LeafSize, Lookup, MapFailure, Memory, NestedTable};
use crate::region::{Backing, Region, Regions};
use crate::{
    AddrSpaceError, AxMmHal, Fill, FixedRam, Frame, FrameSize, GuestMemory, GuestPhysAddr, Holders,
    HostPhysAddr, MappingFlags, MemoryUsage, NestedMode,
};

const PAGE: u64 = FrameSize::Size4K.bytes();

/// Where a guest-physical address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The host-physical address.
    pub hpa: HostPhysAddr,
    /// What the guest may do there.
    pub flags: MappingFlags,
    /// How many bytes from there on, up to the end of the leaf, are contiguous in host memory too.
    pub contiguous: u64,
}

/// What became of an access that the nested table did not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum FaultOutcome {
    /// It is allowed now: run the instruction again.
    Filled,
    /// It was allowed: another vCPU was faster, or the hardware remembers that there was nothing here, which it may until told otherwise. Have this
    /// pCPU forget what it has cached of nested tables, and run the instruction again; the others find out for themselves.
    WasFilled,
    /// Nothing is mapped there.
    NotMapped,
    /// What is mapped there forbids it.
    Denied,
    /// It is RAM that is filled on first touch, and the host has no frame.
    OutOfMemory,
}

/// What a VM sees as its physical memory.
///
/// All frames, of RAM and of tables, go back to the host when it is dropped or unmapped, after the host has flushed. A call that
/// fails has changed nothing.
pub struct AddrSpace<H: AxMmHal> {
    table: Holdable<NestedTable<H>>,
    regions: Regions,
}

impl<H: AxMmHal> AddrSpace<H> {
    /// An empty address space.
    ///
    /// # Errors
    /// [`AddrSpaceError::OutOfMemory`]: the host has no frame for the root.
    pub fn new(mode: NestedMode) -> Result<Self, AddrSpaceError> {
        let table = NestedTable::new(mode).ok_or(AddrSpaceError::OutOfMemory {
            start: GuestPhysAddr::new(0),
            len: 0,
        })?;
        Ok(Self {
            table: Holdable::new(table),
            regions: Regions::default(),
        })
    }

    /// The root of the nested table, for the hardware.
    #[must_use]
    pub fn nested_root(&self) -> HostPhysAddr {
        self.table.root()
    }

    /// The pCPUs that may remember translations. Whoever gives one the [root](Self::nested_root) adds it here before.
    #[must_use]
    pub fn holders(&self) -> &Arc<Holders> {
        self.table.holders()
    }

    /// How the nested table is laid out.
    #[must_use]
    pub fn mode(&self) -> NestedMode {
        self.table.mode()
    }

    /// The host memory that it holds.
    #[must_use]
    pub fn usage(&self) -> MemoryUsage {
        self.table.usage()
    }

    /// Maps `len` bytes at `gpa` to the host's at `hpa`, all multiples of 4 KiB, in the largest leaves that fit.
    ///
    /// The host memory is this VM's to use until it is unmapped. Unless `flags` say DEVICE, it is RAM that
    /// [`phys_to_virt`](AxMmHal::phys_to_virt) reaches, and open to [`GuestMemory`].
    ///
    /// # Errors
    /// [`AddrSpaceError::Misaligned`] or [`TooHigh`](AddrSpaceError::TooHigh) for either range, [`BadFlags`](AddrSpaceError::BadFlags) without READ,
    /// [`Overlap`](AddrSpaceError::Overlap) with another region, [`OutOfMemory`](AddrSpaceError::OutOfMemory) for the tables.
    pub fn map_linear(
        &mut self,
        gpa: GuestPhysAddr,
        hpa: HostPhysAddr,
        len: u64,
        flags: MappingFlags,
    ) -> Result<(), AddrSpaceError> {
        let range = self.vacant_range(gpa, len, flags)?;
        let host_end = hpa
            .checked_add(len)
            .ok_or(AddrSpaceError::TooHigh { start: gpa, len })?;
        if !hpa.is_aligned(PAGE) {
            return Err(AddrSpaceError::Misaligned { start: gpa, len });
        }
        if host_end.as_u64() > 1 << self.mode().hpa_bits() {
            return Err(AddrSpaceError::TooHigh { start: gpa, len });
        }
        let mode = self.mode();
        self.map_region(range, flags, Backing::Linear, |table, rest| {
            let done = rest.start.as_u64() - gpa.as_u64();
            let hpa = HostPhysAddr::new(hpa.as_u64() + done);
            let size = LeafSize::DESCENDING
                .into_iter()
                .find(|&size| {
                    size <= mode.largest_leaf()
                        && fits(size, rest.start, &rest)
                        && hpa.is_aligned(size.bytes())
                })
                .ok_or(MapFailure::Occupied)?;
            table.map(rest.start, size, Memory::Host(hpa), flags)?;
            Ok(size)
        })
    }

    /// Gives the guest `len` bytes of zeroed RAM at `gpa`, both multiples of 4 KiB.
    ///
    /// # Errors
    /// As for [`map_linear`](Self::map_linear); [`BadFlags`](AddrSpaceError::BadFlags) also for DEVICE. [`Fill::Lazy`] takes nothing from the host, so it
    /// never runs out of memory here.
    pub fn map_alloc(
        &mut self,
        gpa: GuestPhysAddr,
        len: u64,
        flags: MappingFlags,
        fill: Fill,
    ) -> Result<(), AddrSpaceError> {
        let range = self.vacant_range(gpa, len, flags)?;
        if flags.contains(MappingFlags::DEVICE) {
            return Err(AddrSpaceError::BadFlags {
                start: gpa,
                len,
                flags,
            });
        }
        match fill {
            Fill::Ahead => self.map_region(range, flags, Backing::Ram(fill), |table, rest| {
                fill_leaf(table, rest.start, &rest, LeafSize::Size1G, flags)
            }),
            Fill::Lazy => {
                let Range { start, end } = range;
                self.regions.insert(Region {
                    start,
                    end,
                    flags,
                    backing: Backing::Ram(fill),
                });
                Ok(())
            }
        }
    }

    /// Maps a page of our own at `gpa`, a multiple of 4 KiB, where a device is whose accesses hardware answers: what it knows them by is the host-physical
    /// address that this returns. It is no RAM: no [`GuestMemory`] leads there.
    ///
    /// # Errors
    /// Something is mapped there, or the host has no memory.
    pub fn map_stand_in(&mut self, gpa: GuestPhysAddr) -> Result<HostPhysAddr, AddrSpaceError> {
        let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::DEVICE;
        let range = self.vacant_range(gpa, PAGE, flags)?;
        let frame = Frame::alloc(FrameSize::Size4K).ok_or(AddrSpaceError::OutOfMemory {
            start: gpa,
            len: PAGE,
        })?;
        let hpa = frame.start();
        let mut frame = Some(frame);
        self.map_region(range, flags, Backing::Linear, |table, rest| {
            let frame = frame.take().ok_or(MapFailure::OutOfMemory)?;
            table.map(rest.start, LeafSize::Size4K, Memory::Owned(frame), flags)?;
            Ok(LeafSize::Size4K)
        })?;
        Ok(hpa)
    }

    /// Unmaps what is mapped in `len` bytes at `gpa`, both multiples of 4 KiB; RAM there is lost.
    ///
    /// A frame of which the guest keeps a part stays until that is unmapped too.
    ///
    /// # Errors
    /// [`AddrSpaceError::Misaligned`] or [`TooHigh`](AddrSpaceError::TooHigh); [`Held`](AddrSpaceError::Held) if some of it is RAM that a [`FixedRam`] may
    /// hold; [`OutOfMemory`](AddrSpaceError::OutOfMemory) for the tables that take the place of a leaf that is unmapped in part.
    pub fn unmap(&mut self, gpa: GuestPhysAddr, len: u64) -> Result<(), AddrSpaceError> {
        let range = self.range(gpa, len)?;
        let is_fixed = |region: &Region| range.start < region.end && region.is_fixed();
        if self.regions.before(range.end).any(is_fixed) && !self.table.is_free() {
            return Err(AddrSpaceError::Held { start: gpa, len });
        }
        self.table
            .unmap(range.clone())
            .map_err(|_| AddrSpaceError::OutOfMemory { start: gpa, len })?;
        self.regions.remove(&range);
        Ok(())
    }

    /// Gives the frames of all RAM that is filled on first touch back to the host, after one flush. It stays mapped, and reads as zero.
    pub fn empty_lazy(&mut self) {
        let end = self.table.end();
        let regions = self.regions.before(end);
        let lazy = regions.filter(|region| region.backing == Backing::Ram(Fill::Lazy));
        self.table
            .clear_all(lazy.map(|region| region.start..region.end));
    }

    /// Where `gpa` leads. `None`: nowhere, or it has not been touched yet.
    #[must_use]
    pub fn translate(&self, gpa: GuestPhysAddr) -> Option<Translation> {
        let region = self.regions.at(gpa)?;
        match self.table.lookup(gpa) {
            Lookup::Mapped { leaf, size, offset } => Some(Translation {
                hpa: leaf.hpa.checked_add(offset)?,
                flags: region.flags,
                contiguous: size - offset,
            }),
            Lookup::Vacant(_) => None,
        }
    }

    /// Answers an access to `gpa` that the nested table did not allow when it was tried.
    pub fn handle_page_fault(&mut self, gpa: GuestPhysAddr, access: MappingFlags) -> FaultOutcome {
        let Some(region) = self.regions.at(gpa) else {
            return FaultOutcome::NotMapped;
        };
        if !region.allows(access) {
            return FaultOutcome::Denied;
        }
        match self.table.lookup(gpa) {
            Lookup::Mapped { .. } => FaultOutcome::WasFilled,
            Lookup::Vacant(_) => match self.fill(gpa) {
                Ok(()) => FaultOutcome::Filled,
                Err(MapFailure::OutOfMemory) => FaultOutcome::OutOfMemory,
                Err(MapFailure::Occupied) => FaultOutcome::NotMapped,
            },
        }
    }

    /// The door to the guest's bytes, for what the guest asks for: it keeps to the guest's permissions.
    pub fn memory(&mut self) -> GuestMemory<'_, H> {
        GuestMemory::for_guest(self)
    }

    /// The door to the guest's bytes, for who builds the VM: it may fill what the guest may only read.
    pub fn loader(&mut self) -> GuestMemory<'_, H> {
        GuestMemory::for_loader(self)
    }

    /// The RAM that was filled ahead and that the guest may read and write, which stays where it is from now on, as long as the answer is kept.
    #[must_use]
    pub fn fixed_ram(&self) -> FixedRam {
        let fixed = self.regions.before(self.table.end());
        let pieces = fixed.filter(|region| region.is_fixed()).flat_map(|region| {
            let mut next = region.start;
            core::iter::from_fn(move || {
                let found = (next < region.end).then(|| self.translate(next))??;
                let piece = Piece {
                    start: next.as_u64(),
                    len: found.contiguous.min(region.end.as_u64() - next.as_u64()),
                    host: H::phys_to_virt(found.hpa).as_usize(),
                };
                next = GuestPhysAddr::new(piece.start + piece.len);
                Some(piece)
            })
        });
        FixedRam::new(pieces, &self.table)
    }

    /// The region that `gpa` is in.
    pub(crate) fn region(&self, gpa: GuestPhysAddr) -> Option<&Region> {
        self.regions.at(gpa)
    }

    /// Gives `gpa`, which is vacant and in a region of RAM, its frame.
    pub(crate) fn fill(&mut self, gpa: GuestPhysAddr) -> Result<(), MapFailure> {
        let region = self.regions.at(gpa).ok_or(MapFailure::Occupied)?;
        debug_assert_eq!(
            region.backing,
            Backing::Ram(Fill::Lazy),
            "all else is mapped from the start"
        );
        let within = region.start..region.end;
        fill_leaf(
            &mut self.table,
            gpa,
            &within,
            LeafSize::Size2M,
            region.flags,
        )
        .map(|_| ())
    }

    /// Maps `range`, which is vacant, leaf by leaf: `map_leaf` maps the first of what is left. What is not mapped in full is unmapped again.
    fn map_region(
        &mut self,
        range: Range<GuestPhysAddr>,
        flags: MappingFlags,
        backing: Backing,
        mut map_leaf: impl FnMut(
            &mut NestedTable<H>,
            Range<GuestPhysAddr>,
        ) -> Result<LeafSize, MapFailure>,
    ) -> Result<(), AddrSpaceError> {
        let Range { start, end } = range;
        let mut next = start;
        while next < end {
            match map_leaf(&mut self.table, next..end) {
                Ok(size) => next = GuestPhysAddr::new(next.as_u64() + size.bytes()),
                Err(failure) => {
                    self.table.clear(start..next);
                    let len = end.as_u64() - start.as_u64();
                    return Err(match failure {
                        MapFailure::OutOfMemory => AddrSpaceError::OutOfMemory { start, len },
                        // The regions say that nothing is there; they are the truth.
                        MapFailure::Occupied => {
                            unreachable!("a leaf outside every region, at {next}")
                        }
                    });
                }
            }
        }
        self.regions.insert(Region {
            start,
            end,
            flags,
            backing,
        });
        Ok(())
    }

    /// The range, if it is one that something can be mapped in with `flags`.
    fn vacant_range(
        &self,
        start: GuestPhysAddr,
        len: u64,
        flags: MappingFlags,
    ) -> Result<Range<GuestPhysAddr>, AddrSpaceError> {
        let range = self.range(start, len)?;
        if !flags.contains(MappingFlags::READ) {
            return Err(AddrSpaceError::BadFlags { start, len, flags });
        }
        match self.regions.overlapping(&range) {
            None => Ok(range),
            Some(other) => Err(AddrSpaceError::Overlap {
                start,
                len,
                other_start: other.start,
                other_len: other.len(),
            }),
        }
    }

    /// The range, if it is one of whole pages that the nested table can map.
    fn range(
        &self,
        start: GuestPhysAddr,
        len: u64,
    ) -> Result<Range<GuestPhysAddr>, AddrSpaceError> {
        if len == 0 || !len.is_multiple_of(PAGE) || !start.is_aligned(PAGE) {
            return Err(AddrSpaceError::Misaligned { start, len });
        }
        match start.checked_add(len) {
            Some(end) if end <= self.table.end() => Ok(start..end),
            Some(_) | None => Err(AddrSpaceError::TooHigh { start, len }),
        }
    }
}

/// Whether the leaf of `size` around `gpa` lies within `range`.
fn fits(size: LeafSize, gpa: GuestPhysAddr, range: &Range<GuestPhysAddr>) -> bool {
    let start = gpa.align_down(size.bytes());
    range.start <= start
        && start
            .checked_add(size.bytes())
            .is_some_and(|end| end <= range.end)
}

/// Maps new RAM around `gpa` in the largest leaf, up to `largest`, that lies within `range` and for which the host has a frame.
fn fill_leaf<H: AxMmHal>(
    table: &mut NestedTable<H>,
    gpa: GuestPhysAddr,
    range: &Range<GuestPhysAddr>,
    largest: LeafSize,
    flags: MappingFlags,
) -> Result<LeafSize, MapFailure> {
    let room = match table.lookup(gpa) {
        Lookup::Mapped { .. } => return Err(MapFailure::Occupied),
        Lookup::Vacant(room) => room.min(largest),
    };
    for size in LeafSize::DESCENDING {
        if size > room || !fits(size, gpa, range) {
            continue;
        }
        let Some(frame) = Frame::alloc(size.frame_size()) else {
            continue;
        };
        match table.map(
            gpa.align_down(size.bytes()),
            size,
            Memory::Owned(frame),
            flags,
        ) {
            Ok(()) => return Ok(size),
            // The frame went back: without it there may be room for a smaller one and its tables.
            Err(MapFailure::OutOfMemory) => {}
            Err(MapFailure::Occupied) => return Err(MapFailure::Occupied),
        }
    }
    Err(MapFailure::OutOfMemory)
}

#[cfg(test)]
mod tests;
