//! How an x86 VM starts: as a PC whose firmware is done, by the protocol that its kernel speaks.
//!
//! - A bzImage is entered by Linux's 64-bit boot protocol ([`linux`]), and so is a 64-bit ELF file
//!   that says nothing else.
//! - An ELF file with the note of PVH is entered by that ([`pvh`]).
//! - Any other ELF file, and a flat binary, is entered as Multiboot does it ([`multiboot`]).
//!
//! All find ACPI tables ([`super::acpi`]) where firmware leaves them, and RAM as in [`MemoryMap`].

mod kernel;
mod linux;
mod map;
mod multiboot;
mod pvh;

use axaddrspace::GuestPhysAddr;
use axvmconfig::{ConfigError, keys};

use super::{
    acpi,
    loader::Loader,
    ram::{GuestRam, GuestRange, Thing},
};
use crate::{AxVMConfig, X86Machine};
use kernel::{PcKernel, Protocol};
use map::MemoryMap;

/// Where the boot protocol's structures are: one page.
const INFO: u64 = 0x9_0000;
/// Where the command line is: one page.
const CMDLINE: u64 = 0x9_1000;
/// Where the page tables are for a kernel that is entered in 64-bit mode.
const PAGE_TABLES: u64 = 0x9_2000;
/// Where the ACPI tables are, the root pointer first: where firmware's are searched for.
pub(super) const ACPI: u64 = 0xe_0000;

const PAGE: u64 = 0x1000;

/// How an x86 VM starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PcStart {
    pub(crate) entry: GuestPhysAddr,
    pub(crate) mode: StartMode,
    /// The address of the boot protocol's information.
    pub(crate) info: u64,
}

/// The mode that vCPU 0 starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// 64-bit, with the information's address in RSI.
    Long {
        /// The page table.
        cr3: u64,
    },
    /// 32-bit without paging, with the information's address in EBX.
    Protected {
        /// What EAX says.
        magic: u32,
    },
}

/// What the protocols tell a kernel, each in its own words.
struct BootFacts<'a> {
    /// Whether there is a command line, which then is at [`CMDLINE`].
    cmdline: Option<&'a str>,
    ramdisk: Option<GuestRange>,
    memory: &'a MemoryMap,
}

/// Puts kernel, ramdisk, ACPI tables and boot data into RAM.
pub(crate) fn load(
    config: &AxVMConfig<X86Machine>,
    ram: &[GuestRange],
    memory: &mut dyn GuestRam,
) -> Result<PcStart, ConfigError> {
    let vm = &config.vm;
    let mut loader = Loader::new(config, ram, memory);
    let tables = acpi::tables(ACPI, vm);
    loader.write(Thing::AcpiTables, &tables, Some(GuestPhysAddr::new(ACPI)))?;
    loader.reserve(Thing::BootData, INFO, PAGE_TABLES - INFO)?;
    loader.reserve(Thing::BootData, PAGE_TABLES, linux::PAGE_TABLES_SIZE)?;

    let kernel = loader.kernel(|file, map, ram| PcKernel::load(file, &vm.kernel, map, ram))?;
    let entry = loader.check_entry(kernel.entry)?;
    if entry.as_u64() > u32::MAX.into() {
        let rule = format_args!("{entry:#x} is not below 4 GiB, where every kernel starts");
        return Err(vm.error(keys::ENTRY_POINT, rule));
    }
    let ramdisk = loader.blobs()?.ramdisk;
    let memory = MemoryMap::new(ram);
    let facts = BootFacts {
        cmdline: vm.kernel.cmdline.as_deref(),
        ramdisk,
        memory: &memory,
    };
    if let Some(cmdline) = facts.cmdline {
        // It has its end mark: RAM is zero.
        loader.fill(CMDLINE, cmdline.as_bytes())?;
    }
    check_limits(config, &facts, kernel.protocol.limits())?;
    let (info, mode) = match kernel.protocol {
        Protocol::Linux(header) => {
            let cr3 = PAGE_TABLES;
            (header.parameters(&facts), StartMode::Long { cr3 })
        }
        Protocol::Pvh => (pvh::start_info(&facts), StartMode::Protected { magic: 0 }),
        Protocol::Multiboot => {
            let magic = multiboot::LOADER_MAGIC;
            let info = multiboot::information(&facts);
            (info, StartMode::Protected { magic })
        }
    };
    loader.fill(INFO, &info.into_bytes())?;
    match mode {
        StartMode::Long { cr3 } => loader.fill(cr3, &linux::page_tables(cr3))?,
        StartMode::Protected { .. } => {}
    }
    Ok(PcStart {
        entry,
        mode,
        info: INFO,
    })
}

impl Loader<'_, X86Machine> {
    /// Keeps `size` bytes at `addr` for [`fill`](Self::fill).
    fn reserve(&mut self, thing: Thing, addr: u64, size: u64) -> Result<(), ConfigError> {
        let taken = self.map.take(thing, GuestPhysAddr::new(addr), size);
        taken.map(|_| ()).map_err(|why| {
            let rule = format_args!("{thing}: {why}");
            self.config.vm.error(keys::MEMORY_REGIONS, rule)
        })
    }

    /// Writes to what was reserved.
    fn fill(&mut self, addr: u64, bytes: &[u8]) -> Result<(), ConfigError> {
        let written = self.memory.write(GuestPhysAddr::new(addr), bytes);
        written.map_err(|why| self.config.vm.error(keys::MEMORY_REGIONS, why))
    }
}

/// What a kernel can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Where the ramdisk must end.
    ramdisk_end: u64,
    /// How long the command line may be.
    cmdline_len: u64,
}

fn check_limits(
    config: &AxVMConfig<X86Machine>,
    facts: &BootFacts<'_>,
    limits: Limits,
) -> Result<(), ConfigError> {
    let vm = &config.vm;
    let Limits {
        ramdisk_end,
        cmdline_len,
    } = limits;
    if let Some(range) = facts.ramdisk
        && range.end().as_u64() > ramdisk_end
    {
        let what = format_args!("the ramdisk at {range} must end at {ramdisk_end:#x} or below");
        return Err(vm.error(keys::RAMDISK_LOAD_ADDR, what));
    }
    if let Some(cmdline) = facts.cmdline
        && cmdline.len() as u64 > cmdline_len
    {
        let rule = format_args!("the kernel takes at most {cmdline_len} bytes");
        return Err(vm.error(keys::CMDLINE, rule));
    }
    Ok(())
}

/// A page of boot data that is being written.
struct InfoPage([u8; PAGE as usize]);

impl InfoPage {
    fn new() -> Self {
        Self([0; PAGE as usize])
    }

    /// Writes at offset `at`, as far as there is room.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = at
            .checked_add(bytes.len())
            .and_then(|end| self.0.get_mut(at..end))
        {
            place.copy_from_slice(bytes);
        }
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn into_bytes(self) -> [u8; PAGE as usize] {
        self.0
    }
}

#[cfg(test)]
mod tests;
