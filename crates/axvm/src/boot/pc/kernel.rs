//! The kernels of an x86 VM: what kind of file it is, and by which protocol it is entered.

use axaddrspace::GuestPhysAddr;
use axvmconfig::{Isa, KernelConfig, KernelFormat};
use elf::abi;

use super::{Limits, linux::SetupHeader, multiboot, pvh};
use crate::boot::{
    ImageError,
    elf::is_elf,
    kernel::{self, FlatPlan, Plan, above_base},
    ram::{GuestRam, RamMap},
};

/// A kernel that is in RAM.
#[derive(Debug)]
pub(super) struct PcKernel {
    pub(super) entry: GuestPhysAddr,
    pub(super) protocol: Protocol,
}

/// How a kernel wants to be entered.
#[derive(Debug)]
pub(super) enum Protocol {
    /// By Linux's 64-bit boot protocol, with these values of the file's own.
    Linux(SetupHeader),
    Pvh,
    Multiboot,
}

impl Protocol {
    /// What a kernel can be told by it.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Linux(header) => header.limits(),
            Self::Pvh => Limits {
                ramdisk_end: u64::MAX,
                cmdline_len: u64::MAX,
            },
            Self::Multiboot => Limits {
                ramdisk_end: u32::MAX.into(),
                cmdline_len: u64::MAX,
            },
        }
    }
}

/// How wide an ELF file's addresses are.
enum Width {
    Bits32,
    Bits64,
}

/// What a kernel file is.
enum Format {
    Elf(Width, Option<multiboot::Header>),
    Linux(SetupHeader),
    Flat,
}

impl PcKernel {
    /// Loads the kernel in `file` as `config` asks.
    pub(super) fn load(
        file: &[u8],
        config: &KernelConfig,
        map: &mut RamMap<'_>,
        ram: &mut dyn GuestRam,
    ) -> Result<Self, ImageError> {
        let (loaded, format) = kernel::load(file, map, ram, |front, claimed, map| {
            plan(front, claimed, config, map)
        })?;
        let mut entry = loaded.entry;
        let protocol = match format {
            Format::Linux(header) => {
                entry = header.entry(loaded.entry)?;
                Protocol::Linux(header)
            }
            Format::Flat => Protocol::Multiboot,
            Format::Elf(width, multiboot) => match (pvh::entry(&loaded.notes), multiboot, width) {
                (Some(note), _, _) => {
                    entry = note;
                    Protocol::Pvh
                }
                (None, Some(_), _) | (None, None, Width::Bits32) => Protocol::Multiboot,
                (None, None, Width::Bits64) => Protocol::Linux(SetupHeader::of_other_kernels()),
            },
        };
        Ok(Self {
            entry: config.entry_point.unwrap_or(entry),
            protocol,
        })
    }
}

/// What the file that begins with `front` is, which must be what the config says, and where it goes.
fn plan(
    front: &[u8],
    claimed: u64,
    config: &KernelConfig,
    map: &mut RamMap<'_>,
) -> Result<(Plan, Format), ImageError> {
    let header = || SetupHeader::parse(front);
    match config.format {
        KernelFormat::Auto if is_elf(front) => plan_elf(front, config, map),
        KernelFormat::Auto => match header()? {
            Some(header) => plan_linux(header, claimed, config, map),
            None => {
                kernel::check_native(front, Isa::X86_64)?;
                plan_flat(front, claimed, config, map)
            }
        },
        KernelFormat::Elf if is_elf(front) => plan_elf(front, config, map),
        KernelFormat::Elf => Err(ImageError::NotOfFormat("an ELF file")),
        KernelFormat::Linux => match header()? {
            Some(header) => plan_linux(header, claimed, config, map),
            None => {
                kernel::check_native(front, Isa::X86_64)?;
                Err(ImageError::NotOfFormat("an x86 Linux bzImage"))
            }
        },
        KernelFormat::Flat => plan_flat(front, claimed, config, map),
    }
}

fn plan_elf(
    front: &[u8],
    config: &KernelConfig,
    map: &mut RamMap<'_>,
) -> Result<(Plan, Format), ImageError> {
    let plan = kernel::plan_elf(front, Isa::X86_64, config, map)?;
    let width = match front.get(abi::EI_CLASS) {
        Some(&abi::ELFCLASS64) => Width::Bits64,
        _ => Width::Bits32,
    };
    let format = Format::Elf(width, multiboot::Header::find(front));
    Ok((plan, format))
}

fn plan_linux(
    header: SetupHeader,
    claimed: u64,
    config: &KernelConfig,
    map: &RamMap<'_>,
) -> Result<(Plan, Format), ImageError> {
    let start = header.place(config.load_addr, map)?;
    let file = header.setup_len()..claimed;
    let mut plan = FlatPlan::new(start, file, header.memory_size(), map)?;
    plan.least_len = header.least_len();
    Ok((Plan::Flat(plan), Format::Linux(header)))
}

/// A flat binary goes where the config says, or else where its Multiboot header does, or else where
/// flat binaries go.
fn plan_flat(
    front: &[u8],
    claimed: u64,
    config: &KernelConfig,
    map: &RamMap<'_>,
) -> Result<(Plan, Format), ImageError> {
    let header = multiboot::Header::find(front).and_then(|header| header.addresses);
    let plan = match (config.load_addr, header) {
        (None, Some(addresses)) => addresses.plan(claimed, map)?,
        (start, _) => {
            let start = match start {
                Some(start) => start,
                None => above_base(map, Isa::X86_64.guest_map().flat_kernel_offset)?,
            };
            FlatPlan::new(start, 0..claimed, 0, map)?
        }
    };
    Ok((Plan::Flat(plan), Format::Flat))
}

#[cfg(test)]
mod tests;
