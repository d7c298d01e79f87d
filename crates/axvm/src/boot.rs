//! What a VM finds in its memory when it starts.
//!
//! The loaders know images and RAM, not VMs: [`kernel`] puts the kernel there, [`blob`] the rest.
//! `linux_riscv` is the order in which a RISC-V VM gets them, and `fdt` writes its device tree; `pc`
//! is that of an x86 VM, whose ACPI tables `acpi` writes.
//! Files come from an [`ImageSource`], which may be asked again for a reboot.

#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
mod acpi;
mod blob;
mod elf;
#[cfg(any(target_arch = "riscv64", not(target_os = "none")))]
mod fdt;
mod gzip;
mod kernel;
#[cfg(any(target_arch = "riscv64", not(target_os = "none")))]
pub(crate) mod linux_riscv;
mod loader;
#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
pub(crate) mod pc;
mod ram;
#[cfg(test)]
pub(crate) mod testing;

use core::fmt;

use axaddrspace::{GuestMemoryError, GuestPhysAddr};
use axvmconfig::Isa;

pub use elf::ElfError;
pub use gzip::GzipError;
use ram::Bytes;
pub use ram::{GuestRam, GuestRange, PlaceError, Thing};

/// Where images come from, by the paths that the configs name.
pub trait ImageSource: Send + Sync {
    /// The bytes of the file at `path`; `None` if there is none.
    fn open(&self, path: &str) -> Option<&[u8]>;
}

/// Why an image cannot be loaded.
#[derive(Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The bundle has no such file.
    Missing,
    /// The file has no bytes.
    Empty,
    /// The file has not all the bytes that it claims to have.
    Truncated,
    /// It is larger than the RAM there is for it.
    TooLarge {
        /// Bytes it takes in memory.
        size: u64,
        /// Bytes of RAM from where it starts.
        room: u64,
        /// Where it starts.
        start: GuestPhysAddr,
    },
    /// It is not what the config says; this is what it should be.
    NotOfFormat(&'static str),
    /// It is a Linux kernel of another instruction set than the machine's.
    Foreign {
        /// What it is.
        what: &'static str,
        /// The machine's.
        machine: Isa,
    },
    /// The Linux header asks for something that cannot be.
    Header(&'static str),
    /// The Multiboot header asks for something that cannot be.
    Multiboot(&'static str),
    /// It has no place in RAM.
    Place(PlaceError),
    /// It is a damaged gzip file.
    Gzip(GzipError),
    /// It is a damaged or foreign ELF file.
    Elf(ElfError),
    /// It is an ELF file, and the config says where it is to go.
    Fixed,
    /// It is not a device tree.
    DeviceTree(&'static str),
    /// RAM could not be written.
    Ram(GuestMemoryError),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "the bundle has no such file"),
            Self::Empty => write!(f, "the file is empty"),
            Self::Fixed => write!(
                f,
                "an ELF file goes where it says itself: remove kernel_load_addr"
            ),
            Self::Truncated => write!(f, "the file is truncated"),
            Self::TooLarge { size, room, start } => write!(
                f,
                "image of {} does not fit in RAM of {} from {start:#x} on (memory_regions)",
                Bytes(*size),
                Bytes(*room)
            ),
            Self::NotOfFormat(what) => write!(f, "the file is not {what} (kernel_format)"),
            Self::Foreign { what, machine } => {
                write!(
                    f,
                    "the file is {what}, and this machine is {}",
                    machine.name()
                )
            }
            Self::Header(what) => write!(f, "bad Linux image header: {what}"),
            Self::Multiboot(what) => write!(f, "Multiboot: {what}"),
            Self::Place(why) => write!(f, "{why}"),
            Self::Gzip(why) => write!(f, "{why}"),
            Self::Elf(why) => write!(f, "{why}"),
            Self::DeviceTree(what) => write!(f, "not a device tree: {what}"),
            Self::Ram(why) => write!(f, "{why}"),
        }
    }
}

/// The bytes of a number at offset `at` of a file, if that has as many.
fn bytes_at<const LEN: usize>(file: &[u8], at: usize) -> Option<[u8; LEN]> {
    file.get(at..)?.first_chunk().copied()
}

impl From<PlaceError> for ImageError {
    fn from(why: PlaceError) -> Self {
        Self::Place(why)
    }
}

impl From<GzipError> for ImageError {
    fn from(why: GzipError) -> Self {
        Self::Gzip(why)
    }
}

impl From<ElfError> for ImageError {
    fn from(why: ElfError) -> Self {
        Self::Elf(why)
    }
}

impl From<GuestMemoryError> for ImageError {
    fn from(why: GuestMemoryError) -> Self {
        Self::Ram(why)
    }
}
