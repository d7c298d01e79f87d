//! RAM that stays where it is, reached without asking the address space each time.
//!
//! What was filled ahead has its place in host memory until it is unmapped. A [`FixedRam`] notes the places and holds them: as long as it, or a
//! [`RamPage`] or [`RamWord`] of it, is there, the address space unmaps none of them, and its frames do not go back to the host. So a vCPU reads its guest's code
//! and page tables with no lock and no walk. The rules for the bytes are those of [`GuestMemory`](crate::GuestMemory): copy once, then look at the copy.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr;

use crate::GuestPhysAddr;

const PAGE: u64 = 4096;

/// Something whose parts may be held: while they are, dropping it gives nothing back.
pub(crate) struct Holdable<T> {
    inner: ManuallyDrop<T>,
    hold: Arc<()>,
}

impl<T> Holdable<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner: ManuallyDrop::new(inner),
            hold: Arc::new(()),
        }
    }

    /// Whether nobody holds a part.
    pub(crate) fn is_free(&mut self) -> bool {
        Arc::get_mut(&mut self.hold).is_some()
    }

    fn hold(&self) -> Hold {
        Hold(self.hold.clone())
    }
}

impl<T> Deref for Holdable<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Holdable<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Holdable<T> {
    fn drop(&mut self) {
        if self.is_free() {
            // SAFETY: `self` is going, and nobody comes here twice.
            unsafe { ManuallyDrop::drop(&mut self.inner) }
        }
    }
}

/// The parts of a [`Holdable`] stay while this lives.
#[derive(Clone, Debug)]
struct Hold(#[expect(dead_code, reason = "it is there to be counted")] Arc<()>);

/// RAM in a row, for the guest and for us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// Where we reach its first byte.
    pub(crate) host: usize,
}

impl Piece {
    /// Where we reach `gpa`, which is in it, and how many bytes there are from there on.
    fn at(&self, gpa: u64) -> (*mut u8, usize) {
        let offset = gpa - self.start;
        let host = ptr::with_exposed_provenance_mut(self.host + offset as usize);
        (host, (self.len - offset) as usize)
    }
}

/// The RAM of an address space that was filled ahead and that the guest may read and write.
#[derive(Debug)]
pub struct FixedRam {
    pieces: Box<[Piece]>,
    hold: Hold,
}

impl FixedRam {
    /// `pieces` are mapped memory that `owner` keeps, none of which overlap; those in a row become one.
    pub(crate) fn new<T>(pieces: impl Iterator<Item = Piece>, owner: &Holdable<T>) -> Self {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last)
                    if last.start + last.len == piece.start
                        && last.host + last.len as usize == piece.host =>
                {
                    last.len += piece.len;
                }
                Some(_) | None => joined.push(piece),
            }
        }
        Self {
            pieces: joined.into(),
            hold: owner.hold(),
        }
    }

    /// Where we reach `gpa`, and how many bytes there are in a row.
    fn at(&self, gpa: u64) -> Option<(*mut u8, usize)> {
        let index = self.pieces.partition_point(|piece| piece.start <= gpa);
        let piece = self.pieces.get(index.checked_sub(1)?)?;
        (gpa - piece.start < piece.len).then(|| piece.at(gpa))
    }

    /// Calls `f` with each of the parts of `len` bytes at `gpa` that are in a row: where, how far in, and how long. `false`, and nothing is called,
    /// unless all of it is here.
    fn each_part(&self, gpa: u64, len: usize, mut f: impl FnMut(*mut u8, usize, usize)) -> bool {
        let parts = |f: &mut dyn FnMut(*mut u8, usize, usize)| {
            let mut done = 0;
            while done < len {
                let next = gpa.checked_add(done as u64);
                let Some((host, there)) = next.and_then(|gpa| self.at(gpa)) else {
                    return false;
                };
                let part = there.min(len - done);
                f(host, done, part);
                done += part;
            }
            true
        };
        match self.at(gpa) {
            Some((host, there)) if len <= there => {
                f(host, 0, len);
                true
            }
            Some(_) | None => parts(&mut |_, _, _| ()) && parts(&mut f),
        }
    }

    /// Copies the bytes at `gpa` to `out`; `false`, and nothing is done, unless all of them are here.
    #[must_use]
    pub fn read(&self, gpa: GuestPhysAddr, out: &mut [u8]) -> bool {
        let to = out.as_mut_ptr();
        self.each_part(gpa.as_u64(), out.len(), |from, offset, len| {
            // SAFETY: the parts together are as long as `out`, and their offsets are within it; a part is mapped memory, held by `self`, which no
            // Rust reference covers.
            unsafe { ptr::copy_nonoverlapping(from, to.add(offset), len) }
        })
    }

    /// Copies `bytes` to `gpa`; `false`, and nothing is done, unless all of it is here.
    #[must_use]
    pub fn write(&self, gpa: GuestPhysAddr, bytes: &[u8]) -> bool {
        let from = bytes.as_ptr();
        self.each_part(gpa.as_u64(), bytes.len(), |to, offset, len| {
            // SAFETY: as in `read`, the other way.
            unsafe { ptr::copy_nonoverlapping(from.add(offset), to, len) }
        })
    }

    /// The page of 4 KiB that `gpa` is in.
    #[must_use]
    pub fn page(&self, gpa: GuestPhysAddr) -> Option<RamPage> {
        let (host, there) = self.at(gpa.align_down(PAGE).as_u64())?;
        (there >= PAGE as usize).then(|| RamPage {
            host,
            hold: self.hold.clone(),
        })
    }
}

/// A page of a guest's RAM, which stays where it is while this lives.
#[derive(Clone, Debug)]
pub struct RamPage {
    host: *mut u8,
    hold: Hold,
}

// SAFETY: what is behind the pointer is shared with the guest on every pCPU anyway, and touched by copies alone.
unsafe impl Send for RamPage {}
// SAFETY: as above.
unsafe impl Sync for RamPage {}

impl RamPage {
    /// The `N` bytes from `offset` on; `None` where they reach past the page.
    #[inline]
    #[must_use]
    pub fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > (PAGE as usize).checked_sub(N)? {
            return None;
        }
        // SAFETY: the bytes are in the page, which is mapped and held; an array of bytes has no alignment.
        Some(unsafe { self.host.add(offset).cast::<[u8; N]>().read() })
    }

    /// The eight bytes at `offset`; `None` where it is not aligned or not in the page.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<RamWord> {
        (offset < PAGE as usize && offset.is_multiple_of(8)).then(|| RamWord {
            // SAFETY: in the page.
            host: unsafe { self.host.add(offset) }.cast(),
            _hold: self.hold.clone(),
        })
    }
}

/// Eight aligned bytes of a guest's RAM, which stay where they are while this lives.
#[derive(Clone, Debug)]
pub struct RamWord {
    host: *mut u64,
    _hold: Hold,
}

// SAFETY: as for `RamPage`.
unsafe impl Send for RamWord {}
// SAFETY: as for `RamPage`.
unsafe impl Sync for RamWord {}

impl RamWord {
    /// The little-endian number, at once: as the processor reads an entry of a page table.
    #[inline]
    #[must_use]
    pub fn read(&self) -> u64 {
        // SAFETY: in a page that is mapped and held, and aligned.
        u64::from_le(unsafe { self.host.read_volatile() })
    }
}

#[cfg(test)]
mod tests;
