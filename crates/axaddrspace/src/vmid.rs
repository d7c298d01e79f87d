//! The numbers by which a pCPU's translation caches tell guests apart: VMID, ASID, VPID.
//!
//! There are few of them, so they are handed out in generations: once all are used, everything is flushed and a new generation
//! begins. No two generations, of whatever pCPU, share a number, so that one comparison tells whether a tag is still good here.

use core::sync::atomic::{AtomicU64, Ordering};

/// The last generation that any pCPU began. 64 bits do not wrap.
static LAST_GENERATION: AtomicU64 = AtomicU64::new(NO_GENERATION);
const NO_GENERATION: u64 = 0;

/// What a vCPU remembers of its last VMID. The default remembers nothing.
#[derive(Debug, Default)]
pub struct VmidTag {
    generation: u64,
    vmid: u16,
}

/// A vCPU's VMID, and what must happen before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum VmidAssignment {
    /// The VMID that it had: what this pCPU has cached under it is its own.
    Kept(u16),
    /// A VMID under which this pCPU has cached nothing.
    Fresh(u16),
    /// A VMID that this pCPU may have cached something under: flush all guests' translations, of both stages, on it first.
    FlushAll(u16),
}

impl VmidAssignment {
    /// The VMID.
    #[must_use]
    pub const fn vmid(self) -> u16 {
        match self {
            Self::Kept(vmid) | Self::Fresh(vmid) | Self::FlushAll(vmid) => vmid,
        }
    }
}

/// The VMIDs of one pCPU.
#[derive(Debug)]
pub struct VmidAllocator {
    generation: u64,
    /// The last VMID that was handed out in this generation.
    last: u16,
    /// The first and the highest VMID: 0 is the host's, unless there is no other.
    first: u16,
    highest: u16,
}

impl VmidAllocator {
    /// For a pCPU whose VMIDs have `bits` bits; of more than 16, 16 are used. Nothing is assumed of its caches: the first assignment flushes.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        let highest = if bits < u16::BITS {
            (1 << bits) - 1
        } else {
            u16::MAX
        };
        let first = if highest == 0 { 0 } else { 1 };
        Self {
            generation: NO_GENERATION,
            last: highest,
            first,
            highest,
        }
    }

    /// The VMID for the vCPU that holds `tag`, which is about to run on this pCPU.
    #[inline]
    pub fn assign(&mut self, tag: &mut VmidTag) -> VmidAssignment {
        if tag.generation == self.generation && tag.generation != NO_GENERATION {
            return VmidAssignment::Kept(tag.vmid);
        }
        self.assign_new(tag)
    }

    #[cold]
    fn assign_new(&mut self, tag: &mut VmidTag) -> VmidAssignment {
        let assignment = if self.last < self.highest {
            self.last += 1;
            VmidAssignment::Fresh(self.last)
        } else {
            self.generation = LAST_GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
            self.last = self.first;
            VmidAssignment::FlushAll(self.last)
        };
        *tag = VmidTag {
            generation: self.generation,
            vmid: self.last,
        };
        assignment
    }
}

#[cfg(test)]
mod tests;
