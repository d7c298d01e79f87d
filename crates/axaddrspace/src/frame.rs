//! Frames that are owned, and the account of them.
//!
//! A [`Frame`] goes back to the host when it is dropped. Once it is part of an address space, the nested table holds it in the leaf that
//! maps it, and gives it back after the flush.

use core::marker::PhantomData;
use core::mem;

use crate::{AxMmHal, FrameSize, HostPhysAddr, HostVirtAddr};

/// A frame of the host's memory, zeroed when taken, given back when dropped.
#[derive(Debug)]
pub struct Frame<H: AxMmHal> {
    start: HostPhysAddr,
    size: FrameSize,
    hal: PhantomData<fn() -> H>,
}

impl<H: AxMmHal> Frame<H> {
    /// Takes a frame of `size` and zeroes it. `None`: the host has none.
    #[must_use]
    pub fn alloc(size: FrameSize) -> Option<Self> {
        let frame = Self {
            start: H::alloc_frame(size)?,
            size,
            hal: PhantomData,
        };
        let bytes = H::phys_to_virt(frame.start).as_usize();
        // SAFETY: the host gave us these bytes, all of `size`, and `phys_to_virt` is where we reach them; nobody else knows of them yet.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(bytes)
                .write_bytes(0, size.bytes() as usize);
        }
        Some(frame)
    }

    /// Where it begins; a multiple of its size.
    #[must_use]
    pub const fn start(&self) -> HostPhysAddr {
        self.start
    }

    /// How large it is.
    #[must_use]
    pub const fn size(&self) -> FrameSize {
        self.size
    }

    /// Where the hypervisor reaches its first byte.
    #[must_use]
    pub fn virt(&self) -> HostVirtAddr {
        H::phys_to_virt(self.start)
    }

    /// Hands the frame to whoever keeps the answer; [`from_raw`](Self::from_raw) takes it back.
    pub(crate) fn into_raw(self) -> HostPhysAddr {
        let start = self.start;
        mem::forget(self);
        start
    }

    /// Takes back a frame that [`into_raw`](Self::into_raw) handed out.
    ///
    /// # Safety
    /// `start` and `size` are those of a frame that was handed out and not taken back since, and nothing reaches its bytes any more.
    pub(crate) unsafe fn from_raw(start: HostPhysAddr, size: FrameSize) -> Self {
        Self {
            start,
            size,
            hal: PhantomData,
        }
    }
}

impl<H: AxMmHal> Drop for Frame<H> {
    fn drop(&mut self) {
        H::dealloc_frame(self.start, self.size);
    }
}

/// What an address space holds of the host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Frames that are the guest's RAM.
    pub ram_bytes: u64,
    /// Frames that are nested page tables, the root included.
    pub table_bytes: u64,
}
