//! The kernels of a RISC-V VM: an ELF file, a Linux `Image`, or a flat binary.

use axaddrspace::GuestPhysAddr;
use axvmconfig::{Isa, KernelConfig, KernelFormat};

use crate::boot::{
    ImageError, bytes_at,
    elf::is_elf,
    kernel::{self, FlatPlan, Plan, RISCV_IMAGE, above_base, check_native, has_mark, plan_elf},
    ram::{GuestRam, RamMap},
};

/// What a RISC-V Linux `Image` is aligned to (Linux, Documentation/arch/riscv/boot.rst).
const IMAGE_ALIGN: u64 = 2 << 20;

/// Loads the kernel in `file` as `config` asks, and returns where it is entered.
pub(super) fn load_kernel(
    file: &[u8],
    config: &KernelConfig,
    isa: Isa,
    map: &mut RamMap<'_>,
    ram: &mut dyn GuestRam,
) -> Result<GuestPhysAddr, ImageError> {
    let (loaded, ()) = kernel::load(file, map, ram, |front, claimed, map| {
        let plan = match Format::of(front, config.format)? {
            Format::Elf => plan_elf(front, isa, config, map)?,
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
                Plan::Flat(FlatPlan::new(start, 0..claimed, header.image_size, map)?)
            }
            Format::Flat => {
                let start = match config.load_addr {
                    Some(start) => start,
                    None => above_base(map, isa.guest_map().flat_kernel_offset)?,
                };
                Plan::Flat(FlatPlan::new(start, 0..claimed, 0, map)?)
            }
        };
        Ok((plan, ()))
    })?;
    Ok(config.entry_point.unwrap_or(loaded.entry))
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
            KernelFormat::Auto => match ImageHeader::parse(front)? {
                Some(header) => Ok(Self::Image(header)),
                None => check_native(front, Isa::Riscv64).map(|()| Self::Flat),
            },
            KernelFormat::Elf if is_elf(front) => Ok(Self::Elf),
            KernelFormat::Elf => Err(ImageError::NotOfFormat("an ELF file")),
            KernelFormat::Linux => match ImageHeader::parse(front)? {
                Some(header) => Ok(Self::Image(header)),
                None => {
                    check_native(front, Isa::Riscv64)?;
                    Err(ImageError::NotOfFormat("a RISC-V Linux Image"))
                }
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
    const FLAG_BIG_ENDIAN: u64 = 1 << 0;

    /// The header at the front of a file; `None` if it has none.
    fn parse(front: &[u8]) -> Result<Option<Self>, ImageError> {
        let Some(header) = front.first_chunk::<{ Self::LEN }>() else {
            return Ok(None);
        };
        if !has_mark(header, RISCV_IMAGE) {
            return Ok(None);
        }
        let word = |at| bytes_at(header, at).map_or(0, u64::from_le_bytes);
        if word(Self::FLAGS) & Self::FLAG_BIG_ENDIAN != 0 {
            return Err(ImageError::Header("the kernel is big-endian"));
        }
        Ok(Some(Self {
            text_offset: word(Self::TEXT_OFFSET),
            image_size: word(Self::IMAGE_SIZE),
        }))
    }
}

#[cfg(test)]
mod tests;
