//! How a kernel gets from its file into RAM.
//!
//! What kind of file it is, and where it goes, is the instruction set's business: it makes a [`Plan`]
//! of the file's front. The file may be packed with gzip ([`super::gzip`]); it is then unpacked
//! straight into guest RAM, and no further than that reaches.

use alloc::vec::Vec;
use core::ops::Range;

use axaddrspace::GuestPhysAddr;
use axvmconfig::{Isa, KernelConfig};

use super::{
    ImageError,
    elf::ElfPlan,
    gzip::{self, Gunzip, GzipError, is_gzip},
    ram::{GuestRam, PlaceError, RamMap, Thing},
};

/// A kernel that is in RAM.
pub(crate) struct Loaded {
    /// Where the file asks to be entered.
    pub(crate) entry: GuestPhysAddr,
    /// The notes of an ELF file.
    #[cfg_attr(
        all(target_os = "none", target_arch = "riscv64"),
        expect(dead_code, reason = "a RISC-V kernel is entered where its header says")
    )]
    pub(crate) notes: Vec<u8>,
}

/// Loads the kernel in `file` as `plan` says, which is given the front of the file with all of any
/// header, and how long the file is as far as that is known.
pub(crate) fn load<'m, T>(
    file: &[u8],
    map: &mut RamMap<'m>,
    ram: &mut dyn GuestRam,
    plan: impl FnOnce(&[u8], u64, &mut RamMap<'m>) -> Result<(Plan, T), ImageError>,
) -> Result<(Loaded, T), ImageError> {
    let mut source = Source::new(file)?;
    let claimed = source.claimed_len();
    let first = source.next_piece()?.ok_or(ImageError::Empty)?;
    let (mut plan, more) = plan(first, claimed, map)?;
    let mut len = 0u64;
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        plan.write(len, bytes, ram)?;
        len = len.saturating_add(bytes.len() as u64);
        piece = source.next_piece()?;
    }
    Ok((plan.finish(len, map)?, more))
}

/// A RISC-V Linux `Image` has this at this place (Linux, Documentation/arch/riscv/boot-image-header.rst).
pub(crate) const RISCV_IMAGE: (usize, &[u8]) = (0x38, b"RSC\x05");

/// An x86 bzImage this (Linux, Documentation/arch/x86/boot.rst).
pub(crate) const X86_IMAGE: (usize, &[u8]) = (0x202, b"HdrS");

/// Whether the file that begins with `front` has that mark.
pub(crate) fn has_mark(front: &[u8], (at, mark): (usize, &[u8])) -> bool {
    front.get(at..).is_some_and(|rest| rest.starts_with(mark))
}

/// Refuses a file that would pass for a flat binary, and is a Linux kernel of another instruction set than `machine`.
pub(crate) fn check_native(front: &[u8], machine: Isa) -> Result<(), ImageError> {
    let (mark, what) = match machine {
        Isa::Riscv64 => (X86_IMAGE, "an x86_64 Linux bzImage"),
        Isa::X86_64 => (RISCV_IMAGE, "a riscv64 Linux Image"),
    };
    if has_mark(front, mark) {
        return Err(ImageError::Foreign { what, machine });
    }
    Ok(())
}

/// The address `offset` bytes above the start of RAM.
pub(crate) fn above_base(map: &RamMap<'_>, offset: u64) -> Result<GuestPhysAddr, PlaceError> {
    let base = map.base().ok_or(PlaceError::NoRoom { size: 0, ram: 0 })?;
    base.checked_add(offset)
        .ok_or(PlaceError::Wraps(base, offset))
}

/// A file that is read from front to end, packed or not.
enum Source<'a> {
    Plain { file: &'a [u8], rest: &'a [u8] },
    Gzip { file: &'a [u8], gunzip: Gunzip<'a> },
}

impl<'a> Source<'a> {
    fn new(file: &'a [u8]) -> Result<Self, GzipError> {
        Ok(if is_gzip(file) {
            Self::Gzip {
                file,
                gunzip: Gunzip::new(file)?,
            }
        } else {
            Self::Plain { file, rest: file }
        })
    }

    /// How many bytes there will be, as far as is known before they are there.
    fn claimed_len(&self) -> u64 {
        match self {
            Self::Plain { file, .. } => file.len() as u64,
            Self::Gzip { file, .. } => gzip::claimed_len(file).map_or(0, u64::from),
        }
    }

    /// The next piece; the first holds the whole of any header.
    fn next_piece(&mut self) -> Result<Option<&[u8]>, GzipError> {
        match self {
            Self::Plain { rest, .. } => {
                Ok(Some(core::mem::take(rest)).filter(|piece| !piece.is_empty()))
            }
            Self::Gzip { gunzip, .. } => Ok(gunzip.next_piece()?.filter(|piece| !piece.is_empty())),
        }
    }
}

/// Where the bytes of a kernel file go.
pub(crate) enum Plan {
    Elf(ElfPlan),
    Flat(FlatPlan),
}

impl Plan {
    /// Writes the bytes at `offset` in the file.
    fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        ram: &mut dyn GuestRam,
    ) -> Result<(), ImageError> {
        match self {
            Self::Elf(plan) => {
                plan.keep_notes(offset, bytes);
                for (addr, part) in plan.pieces(offset, bytes) {
                    ram.write(addr, part)?;
                }
                Ok(())
            }
            Self::Flat(plan) => plan.write(offset, bytes, ram),
        }
    }

    /// All `len` bytes of the file are written.
    fn finish(self, len: u64, map: &mut RamMap<'_>) -> Result<Loaded, ImageError> {
        match self {
            Self::Elf(plan) => {
                plan.check_len(len)?;
                Ok(Loaded {
                    entry: plan.entry,
                    notes: plan.notes,
                })
            }
            Self::Flat(plan) => {
                if len < plan.least_len {
                    return Err(ImageError::Truncated);
                }
                let size = len.min(plan.file.end).saturating_sub(plan.file.start);
                map.take(Thing::Kernel, plan.start, size.max(plan.memory_size))?;
                Ok(Loaded {
                    entry: plan.entry.unwrap_or(plan.start),
                    notes: Vec::new(),
                })
            }
        }
    }
}

/// The plan for an ELF file, which goes where it says itself.
pub(crate) fn plan_elf(
    front: &[u8],
    isa: Isa,
    config: &KernelConfig,
    map: &mut RamMap<'_>,
) -> Result<Plan, ImageError> {
    match config.load_addr {
        Some(_) => Err(ImageError::Fixed),
        None => Ok(Plan::Elf(ElfPlan::new(front, isa, map)?)),
    }
}

/// A file of which one stretch goes into RAM as it is.
pub(crate) struct FlatPlan {
    start: GuestPhysAddr,
    /// Where it is entered, if not there.
    pub(crate) entry: Option<GuestPhysAddr>,
    /// The stretch.
    pub(crate) file: Range<u64>,
    /// Bytes that the file must have.
    pub(crate) least_len: u64,
    /// Bytes it asks for in memory, whatever its length.
    memory_size: u64,
    /// Bytes of RAM that there are.
    room: u64,
}

impl FlatPlan {
    /// The plan for the stretch `file` of a file to go to `start`. How long a gzip file says to be
    /// may be wrong, so it is good for an early word only: the stretch ends there, or with the file.
    pub(crate) fn new(
        start: GuestPhysAddr,
        file: Range<u64>,
        memory_size: u64,
        map: &RamMap<'_>,
    ) -> Result<Self, ImageError> {
        let plan = Self {
            start,
            entry: None,
            least_len: 0,
            memory_size,
            room: map.room_from(start),
            file: file.start..u64::MAX,
        };
        plan.check_room(file.end.saturating_sub(file.start).max(memory_size))?;
        Ok(plan)
    }

    /// Writes the bytes at `offset` in the file.
    fn write(&self, offset: u64, bytes: &[u8], ram: &mut dyn GuestRam) -> Result<(), ImageError> {
        let end = offset.saturating_add(bytes.len() as u64);
        let (from, to) = (self.file.start.max(offset), self.file.end.min(end));
        let part = bytes.get((from - offset) as usize..to.saturating_sub(offset) as usize);
        let Some(part) = part.filter(|part| !part.is_empty()) else {
            return Ok(());
        };
        let at = from - self.file.start;
        self.check_room(at.saturating_add(part.len() as u64))?;
        let addr = self.start.checked_add(at);
        Ok(ram.write(addr.ok_or(PlaceError::Wraps(self.start, at))?, part)?)
    }

    fn check_room(&self, size: u64) -> Result<(), ImageError> {
        if size > self.room {
            return Err(ImageError::TooLarge {
                size,
                room: self.room,
                start: self.start,
            });
        }
        Ok(())
    }
}
