//! Kernels: what kind of file it is, where it goes, and how it gets there.
//!
//! A kernel is an ELF file ([`super::elf`]), a RISC-V Linux `Image`, or a flat binary. Any of them
//! may be packed with gzip ([`super::gzip`]); it is then unpacked straight into guest RAM, and no
//! further than that reaches.

use axaddrspace::GuestPhysAddr;
use axvmconfig::{Isa, KernelConfig, KernelFormat};

use super::{
    ImageError,
    elf::{ElfPlan, is_elf},
    gzip::{self, Gunzip, GzipError, is_gzip},
    ram::{GuestRam, PlaceError, RamMap, Thing},
};

/// What a RISC-V Linux `Image` is aligned to (Linux, Documentation/arch/riscv/boot.rst).
const IMAGE_ALIGN: u64 = 2 << 20;

/// Loads the kernel in `file` as `config` asks, and returns where it is entered.
pub(crate) fn load_kernel(
    file: &[u8],
    config: &KernelConfig,
    isa: Isa,
    map: &mut RamMap<'_>,
    ram: &mut dyn GuestRam,
) -> Result<GuestPhysAddr, ImageError> {
    let mut source = Source::new(file)?;
    let claimed = source.claimed_len();
    let first = source.next_piece()?.ok_or(ImageError::Empty)?;
    let plan = match Format::of(first, config.format)? {
        Format::Elf => Plan::Elf(ElfPlan::new(first, isa, map)?),
        Format::Image(header) => {
            let start = match config.load_addr {
                Some(start) => start,
                None => above_base(map, header.text_offset)?,
            };
            if !start.is_aligned(IMAGE_ALIGN) {
                return Err(ImageError::Header(
                    "it would not start at a multiple of 2 MiB",
                ));
            }
            Plan::Flat(FlatPlan::new(start, claimed, header.image_size, map)?)
        }
        Format::Flat => {
            let start = match config.load_addr {
                Some(start) => start,
                None => above_base(map, isa.guest_map().flat_kernel_offset)?,
            };
            Plan::Flat(FlatPlan::new(start, claimed, 0, map)?)
        }
    };
    let mut len = 0u64;
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        plan.write(len, bytes, ram)?;
        len = len.saturating_add(bytes.len() as u64);
        piece = source.next_piece()?;
    }
    let entry = plan.finish(len, map)?;
    Ok(config.entry_point.unwrap_or(entry))
}

/// The address `offset` bytes above the start of RAM.
fn above_base(map: &RamMap<'_>, offset: u64) -> Result<GuestPhysAddr, PlaceError> {
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

/// What a kernel file is.
enum Format {
    Elf,
    Image(ImageHeader),
    Flat,
}

impl Format {
    /// What the file that begins with `front` is, which must be what the config says.
    fn of(front: &[u8], wanted: KernelFormat) -> Result<Self, ImageError> {
        match wanted {
            KernelFormat::Auto if is_elf(front) => Ok(Self::Elf),
            KernelFormat::Auto => Ok(ImageHeader::parse(front)?.map_or(Self::Flat, Self::Image)),
            KernelFormat::Elf if is_elf(front) => Ok(Self::Elf),
            KernelFormat::Elf => Err(ImageError::NotOfFormat("an ELF file")),
            KernelFormat::Linux => match ImageHeader::parse(front)? {
                Some(header) => Ok(Self::Image(header)),
                None => Err(ImageError::NotOfFormat("a RISC-V Linux Image")),
            },
            KernelFormat::Flat => Ok(Self::Flat),
        }
    }
}

/// The header of a RISC-V Linux `Image` (Linux, Documentation/arch/riscv/boot-image-header.rst).
struct ImageHeader {
    /// Bytes from the start of RAM to where it wants to be.
    text_offset: u64,
    /// Bytes it takes in memory, those it clears for itself included.
    image_size: u64,
}

impl ImageHeader {
    const LEN: usize = 0x40;
    const TEXT_OFFSET: usize = 0x08;
    const IMAGE_SIZE: usize = 0x10;
    const FLAGS: usize = 0x18;
    const MAGIC2: usize = 0x38;
    const FLAG_BIG_ENDIAN: u64 = 1 << 0;

    /// The header at the front of a file; `None` if it has none.
    fn parse(front: &[u8]) -> Result<Option<Self>, ImageError> {
        let Some(header) = front.first_chunk::<{ Self::LEN }>() else {
            return Ok(None);
        };
        if header.get(Self::MAGIC2..Self::MAGIC2 + 4) != Some(b"RSC\x05") {
            return Ok(None);
        }
        let word = |at: usize| {
            let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
            bytes.copied().map_or(0, u64::from_le_bytes)
        };
        if word(Self::FLAGS) & Self::FLAG_BIG_ENDIAN != 0 {
            return Err(ImageError::Header("the kernel is big-endian"));
        }
        Ok(Some(Self {
            text_offset: word(Self::TEXT_OFFSET),
            image_size: word(Self::IMAGE_SIZE),
        }))
    }
}

/// Where the bytes of a kernel file go.
enum Plan {
    Elf(ElfPlan),
    Flat(FlatPlan),
}

impl Plan {
    /// Writes the bytes at `offset` in the file.
    fn write(&self, offset: u64, bytes: &[u8], ram: &mut dyn GuestRam) -> Result<(), ImageError> {
        match self {
            Self::Elf(plan) => {
                for (addr, part) in plan.pieces(offset, bytes) {
                    ram.write(addr, part)?;
                }
                Ok(())
            }
            Self::Flat(plan) => {
                let end = offset.saturating_add(bytes.len() as u64);
                plan.check_room(end)?;
                let addr = plan.start.checked_add(offset);
                Ok(ram.write(addr.ok_or(PlaceError::Wraps(plan.start, end))?, bytes)?)
            }
        }
    }

    /// All `len` bytes of the file are written. Returns the entry point that the file asks for.
    fn finish(self, len: u64, map: &mut RamMap<'_>) -> Result<GuestPhysAddr, ImageError> {
        match self {
            Self::Elf(plan) => {
                plan.check_len(len)?;
                Ok(plan.entry)
            }
            Self::Flat(plan) => {
                map.take(Thing::Kernel, plan.start, len.max(plan.memory_size))?;
                Ok(plan.start)
            }
        }
    }
}

/// A file that goes into RAM as it is.
struct FlatPlan {
    start: GuestPhysAddr,
    /// Bytes it asks for in memory, whatever its length.
    memory_size: u64,
    /// Bytes of RAM that there are.
    room: u64,
}

impl FlatPlan {
    /// The plan for a file at `start`. A gzip file's `claimed` length may be wrong, so it is good
    /// for an early word only.
    fn new(
        start: GuestPhysAddr,
        claimed: u64,
        memory_size: u64,
        map: &RamMap<'_>,
    ) -> Result<Self, ImageError> {
        let plan = Self {
            start,
            memory_size,
            room: map.room_from(start),
        };
        plan.check_room(claimed.max(memory_size))?;
        Ok(plan)
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

#[cfg(test)]
mod tests;
