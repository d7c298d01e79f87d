//! The one door to a guest's bytes.
//!
//! A guest's addresses and lengths are allegations: the whole range is checked before the first byte moves. The guest may write at the
//! same time, so bytes are copied through raw pointers and no reference to them is ever made: copy once, then look at the copy.

use core::ptr;

use crate::{AddrSpace, AxMmHal, GuestMemoryError, GuestPhysAddr, MappingFlags};

/// On whose behalf the door is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behalf {
    /// The guest's own, whose permissions hold.
    Guest,
    /// Whoever builds the VM.
    Loader,
}

/// The guest's RAM, byte by byte. RAM that is filled on first touch is filled; devices are out of reach.
pub struct GuestMemory<'a, H: AxMmHal> {
    space: &'a mut AddrSpace<H>,
    behalf: Behalf,
}

impl<'a, H: AxMmHal> GuestMemory<'a, H> {
    pub(crate) fn for_guest(space: &'a mut AddrSpace<H>) -> Self {
        Self {
            space,
            behalf: Behalf::Guest,
        }
    }

    pub(crate) fn for_loader(space: &'a mut AddrSpace<H>) -> Self {
        Self {
            space,
            behalf: Behalf::Loader,
        }
    }

    /// Checks that all `len` bytes at `gpa` are RAM, without filling any.
    ///
    /// # Errors
    /// [`GuestMemoryError::NotRam`] if they are not.
    pub fn check_ram(&self, gpa: GuestPhysAddr, len: u64) -> Result<(), GuestMemoryError> {
        self.check(gpa, len, MappingFlags::empty()).map(|_| ())
    }

    /// Copies the bytes at `gpa` to `out`.
    ///
    /// # Errors
    /// [`GuestMemoryError::NotRam`] unless all of it is RAM, and [`Denied`](GuestMemoryError::Denied) where the guest may not read it: nothing was copied.
    /// [`OutOfMemory`](GuestMemoryError::OutOfMemory) where it is filled now and the host has no frame: the bytes before that may have been copied.
    pub fn read(&mut self, gpa: GuestPhysAddr, out: &mut [u8]) -> Result<(), GuestMemoryError> {
        let to = out.as_mut_ptr();
        self.each_piece(gpa, out.len() as u64, MappingFlags::READ, |piece| {
            // SAFETY: the pieces together are as long as `out`, and their offsets are within it; a piece is mapped memory, which no
            // Rust reference covers.
            unsafe { ptr::copy_nonoverlapping(piece.host, to.add(piece.offset), piece.len) }
        })
    }

    /// Copies `bytes` to `gpa`.
    ///
    /// # Errors
    /// As for [`read`](Self::read), where the guest may not write it.
    pub fn write(&mut self, gpa: GuestPhysAddr, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let from = bytes.as_ptr();
        self.each_piece(gpa, bytes.len() as u64, MappingFlags::WRITE, |piece| {
            // SAFETY: as in `read`, the other way.
            unsafe { ptr::copy_nonoverlapping(from.add(piece.offset), piece.host, piece.len) }
        })
    }

    /// Zeroes `len` bytes at `gpa`.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn zero(&mut self, gpa: GuestPhysAddr, len: u64) -> Result<(), GuestMemoryError> {
        self.each_piece(gpa, len, MappingFlags::WRITE, |piece| {
            // SAFETY: a piece is mapped memory, which no Rust reference covers.
            unsafe { piece.host.write_bytes(0, piece.len) }
        })
    }

    /// Calls `f` for each contiguous piece of the range, once all of it is known to be RAM that allows `access`.
    fn each_piece(
        &mut self,
        gpa: GuestPhysAddr,
        len: u64,
        access: MappingFlags,
        mut f: impl FnMut(Piece),
    ) -> Result<(), GuestMemoryError> {
        let end = self.check(gpa, len, access)?;
        let mut next = gpa;
        while next < end {
            let left = end.as_u64() - next.as_u64();
            let Some(found) = self.space.translate(next) else {
                self.space
                    .fill(next)
                    .map_err(|_| GuestMemoryError::OutOfMemory { gpa, len })?;
                continue;
            };
            let len = found.contiguous.min(left);
            f(Piece {
                host: ptr::with_exposed_provenance_mut(H::phys_to_virt(found.hpa).as_usize()),
                offset: (next.as_u64() - gpa.as_u64()) as usize,
                len: len as usize,
            });
            next = GuestPhysAddr::new(next.as_u64() + len);
        }
        Ok(())
    }

    /// The end of the range, all of which is RAM that allows `access`.
    fn check(
        &self,
        gpa: GuestPhysAddr,
        len: u64,
        access: MappingFlags,
    ) -> Result<GuestPhysAddr, GuestMemoryError> {
        let end = gpa
            .checked_add(len)
            .ok_or(GuestMemoryError::NotRam { gpa, len })?;
        let mut next = gpa;
        while next < end {
            let region = self
                .space
                .region(next)
                .filter(|region| region.is_ram())
                .ok_or(GuestMemoryError::NotRam { gpa, len })?;
            match self.behalf {
                Behalf::Guest if !region.allows(access) => {
                    return Err(GuestMemoryError::Denied { gpa, len });
                }
                Behalf::Guest | Behalf::Loader => next = region.end,
            }
        }
        Ok(end)
    }
}

/// Numbers that guest and hypervisor share: one access each, never half old and half new, if they are naturally aligned.
macro_rules! numbers {
    ($($number:ty, $read:ident, $write:ident;)*) => {
        impl<H: AxMmHal> GuestMemory<'_, H> {$(
            /// Reads the little-endian number at `gpa`: at once, if it is aligned to its size.
            ///
            /// # Errors
            /// As for [`read`](Self::read).
            pub fn $read(&mut self, gpa: GuestPhysAddr) -> Result<$number, GuestMemoryError> {
                const SIZE: usize = size_of::<$number>();
                let mut bytes = [0; SIZE];
                self.each_piece(gpa, SIZE as u64, MappingFlags::READ, |piece| {
                    let word = piece.host.cast::<$number>();
                    if piece.len == SIZE && word.is_aligned() {
                        // SAFETY: the piece is mapped memory of the number's size, aligned for it.
                        bytes = unsafe { word.read_volatile() }.to_ne_bytes();
                    } else {
                        let to = bytes.as_mut_ptr();
                        // SAFETY: as in `read`.
                        unsafe { ptr::copy_nonoverlapping(piece.host, to.add(piece.offset), piece.len) }
                    }
                })?;
                Ok(<$number>::from_le_bytes(bytes))
            }

            /// Writes the little-endian number at `gpa`: at once, if it is aligned to its size.
            ///
            /// # Errors
            /// As for [`write`](Self::write).
            pub fn $write(&mut self, gpa: GuestPhysAddr, value: $number) -> Result<(), GuestMemoryError> {
                const SIZE: usize = size_of::<$number>();
                let bytes = value.to_le_bytes();
                let from = bytes.as_ptr();
                self.each_piece(gpa, SIZE as u64, MappingFlags::WRITE, |piece| {
                    let word = piece.host.cast::<$number>();
                    if piece.len == SIZE && word.is_aligned() {
                        // SAFETY: the piece is mapped memory of the number's size, aligned for it.
                        unsafe { word.write_volatile(value.to_le()) }
                    } else {
                        // SAFETY: as in `write`.
                        unsafe { ptr::copy_nonoverlapping(from.add(piece.offset), piece.host, piece.len) }
                    }
                })
            }
        )*}
    };
}

numbers! {
    u16, read_u16, write_u16;
    u32, read_u32, write_u32;
    u64, read_u64, write_u64;
}

/// Bytes that are contiguous in host memory.
struct Piece {
    /// The first.
    host: *mut u8,
    /// How far it is into the range.
    offset: usize,
    /// How many.
    len: usize,
}

#[cfg(test)]
mod tests;
