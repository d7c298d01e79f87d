//! The guest's memory, as this program has it.

use alloc::{string::String, vec::Vec};
use core::ptr;

use axaddrspace::{GuestMemoryError, GuestPhysAddr};
use axvm::{GuestRam, GuestRange};
use axvmconfig::{MapKind, VmConfig};

use crate::linux::{self, Pages};

/// Where a large page begins, in the guest and here alike, so that KVM can map it as one.
const LARGE_PAGE: usize = 2 << 20;

/// A region of the guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Where the guest has it.
    pub range: GuestRange,
    /// Where this program has it.
    pub place: *mut u8,
}

/// All of it.
#[derive(Debug)]
pub struct Ram(Vec<Region>);

// SAFETY: the memory is the guest's, whose vCPUs run in any thread; no reference leads there.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Ram {
    /// The memory of `vm`: all zero, and nowhere in the host's until it is touched. What the config calls
    /// lazy is of small pages, since the cost of each page's first touch is what it is there for.
    ///
    /// # Errors
    /// A region wraps round the end of the address space or is too large, or the kernel gives none.
    pub fn new(vm: &VmConfig) -> Result<Self, String> {
        let mut regions = Vec::new();
        for region in &vm.memory {
            let range = GuestRange::new(region.gpa, region.size);
            let range = range.ok_or("a memory region wraps round the end of the address space")?;
            let pages = match region.kind {
                MapKind::Alloc => Pages::Any,
                MapKind::Lazy => Pages::Small,
            };
            // It starts as far behind a large page's start as the guest's does.
            let behind = region.gpa.as_u64() as usize % LARGE_PAGE;
            let size = usize::try_from(region.size).map_err(|_| "a memory region is too large")?;
            let place = linux::memory(size + behind, LARGE_PAGE, pages)?;
            regions.push(Region {
                range,
                place: place.wrapping_add(behind),
            });
        }
        Ok(Self(regions))
    }

    /// The regions.
    pub fn regions(&self) -> &[Region] {
        &self.0
    }

    /// Where the guest has them.
    pub fn ranges(&self) -> Vec<GuestRange> {
        self.0.iter().map(|region| region.range).collect()
    }
}

impl Ram {
    /// Where this program has `len` bytes of it.
    fn place(&self, addr: GuestPhysAddr, len: usize) -> Option<*mut u8> {
        let wanted = GuestRange::new(addr, len as u64)?;
        let region = self.0.iter().find(|region| region.range.contains(wanted))?;
        let offset = addr.as_u64() - region.range.start().as_u64();
        Some(region.place.wrapping_add(offset as usize))
    }

    /// Reads what the guest has at `addr`; `None` if not all of it is memory.
    pub fn read(&self, addr: GuestPhysAddr, bytes: &mut [u8]) -> Option<()> {
        let place = self.place(addr, bytes.len())?;
        // SAFETY: it is within a region, which is mapped for ever, and no reference leads there. A guest
        // that writes there meanwhile gets what it asks for.
        unsafe { ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), bytes.len()) }
        Some(())
    }
}

impl GuestRam for Ram {
    fn write(&mut self, addr: GuestPhysAddr, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let len = bytes.len() as u64;
        let place = self.place(addr, bytes.len());
        let place = place.ok_or(GuestMemoryError::NotRam { gpa: addr, len })?;
        // SAFETY: it is within the region, which is mapped for ever, and no reference leads there.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
        Ok(())
    }
}
