//! Linux's 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst and zero-page.rst): 64-bit
//! mode with the first addresses mapped to themselves, and the address of the boot parameters in RSI.

use alloc::vec::Vec;

use axaddrspace::GuestPhysAddr;

use super::{ACPI, BootFacts, CMDLINE, InfoPage, Limits};
use crate::boot::{
    ImageError,
    kernel::{X86_IMAGE, has_mark},
    ram::RamMap,
};

/// Where in the file, and in the boot parameters, the header begins, and the latest end that it has
/// there.
const HEADER: usize = 0x1f1;
const HEADER_END: usize = 0x290;
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const BOOT_FLAG: usize = 0x1fe;
const JUMP_LEN: usize = 0x201;
const MAGIC: usize = X86_IMAGE.0;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

/// The boot parameters beside the header.
const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_RAMDISK_IMAGE: usize = 0x0c0;
const EXT_RAMDISK_SIZE: usize = 0x0c4;
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY_LEN: usize = 20;

/// 2.12, the first that says whether there is a 64-bit entry point.
const OLDEST_VERSION: u16 = 0x020c;
const LOADED_HIGH: u8 = 1 << 0;
const XLF_KERNEL_64: u16 = 1 << 0;
/// Sectors of setup code where the file says 0.
const DEFAULT_SETUP_SECTS: u8 = 4;
const SECTOR: u64 = 512;
/// Where the 64-bit entry point is in what is loaded.
const ENTRY_64: u64 = 0x200;
/// A boot loader without a number of its own.
const OTHER_LOADER: u8 = 0xff;
/// The kernel does not go below this by itself.
const LOWEST: u64 = 1 << 20;
/// How far the page tables reach.
const MAPPED: u64 = 4 << 30;

/// What a kernel file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetupHeader {
    /// The header as it is in the file, from [`HEADER`] on.
    bytes: Vec<u8>,
    setup_len: u64,
    kernel_len: u64,
    limits: Limits,
    alignment: u64,
    relocatable: bool,
    preferred: u64,
    init_size: u64,
}

impl SetupHeader {
    /// The header in the file that begins with `front`; `None` if there is none.
    pub(super) fn parse(front: &[u8]) -> Result<Option<Self>, ImageError> {
        if !has_mark(front, X86_IMAGE) {
            return Ok(None);
        }
        let Some(header) = front.first_chunk::<HEADER_END>() else {
            return Err(ImageError::Truncated);
        };
        let u8_at = |at: usize| header.get(at).copied().unwrap_or(0);
        let u16_at = |at: usize| u16::from_le_bytes([u8_at(at), u8_at(at + 1)]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u16_at(BOOT_FLAG) != 0xaa55 {
            return Err(ImageError::Header("the boot flag 0xaa55 is missing"));
        }
        if u16_at(VERSION) < OLDEST_VERSION {
            return Err(ImageError::Header(
                "the kernel is too old: its boot protocol is older than 2.12 (Linux 3.8)",
            ));
        }
        if u8_at(LOADFLAGS) & LOADED_HIGH == 0 {
            return Err(ImageError::Header("it is a zImage, not a bzImage"));
        }
        if u16_at(XLOADFLAGS) & XLF_KERNEL_64 == 0 {
            return Err(ImageError::Header("it is not a 64-bit kernel"));
        }
        let setup_sects = match u8_at(SETUP_SECTS) {
            0 => DEFAULT_SETUP_SECTS,
            sectors => sectors,
        };
        let alignment = u64::from(u32_at(KERNEL_ALIGNMENT));
        if !alignment.is_power_of_two() {
            return Err(ImageError::Header("its alignment is no power of two"));
        }
        let end = (MAGIC + usize::from(u8_at(JUMP_LEN))).min(HEADER_END);
        Ok(Some(Self {
            bytes: header.get(HEADER..end).unwrap_or_default().to_vec(),
            setup_len: (u64::from(setup_sects) + 1) * SECTOR,
            kernel_len: u64::from(u32_at(SYSSIZE)) * 16,
            limits: Limits {
                ramdisk_end: u64::from(u32_at(INITRD_ADDR_MAX)) + 1,
                cmdline_len: u32_at(CMDLINE_SIZE).into(),
            },
            alignment,
            relocatable: u8_at(RELOCATABLE) != 0,
            preferred: u64_at(PREF_ADDRESS),
            init_size: u32_at(INIT_SIZE).into(),
        }))
    }

    /// What is assumed of a kernel that is no bzImage.
    pub(super) fn of_other_kernels() -> Self {
        Self {
            bytes: Vec::new(),
            setup_len: 0,
            kernel_len: 0,
            limits: Limits {
                ramdisk_end: u64::MAX,
                cmdline_len: u64::MAX,
            },
            alignment: 1,
            relocatable: false,
            preferred: 0,
            init_size: 0,
        }
    }

    /// What the kernel can be told.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes of the file before those that are loaded.
    pub(super) fn setup_len(&self) -> u64 {
        self.setup_len
    }

    /// Bytes that the kernel takes until it knows its memory.
    pub(super) fn memory_size(&self) -> u64 {
        self.init_size
    }

    /// Where the kernel goes: where it prefers to be if there is RAM enough, else, if it can be
    /// anywhere, as low as it can.
    pub(super) fn place(
        &self,
        wanted: Option<GuestPhysAddr>,
        map: &RamMap<'_>,
    ) -> Result<GuestPhysAddr, ImageError> {
        let preferred = GuestPhysAddr::new(self.preferred);
        let base = map.base().map_or(0, GuestPhysAddr::as_u64);
        let lowest = GuestPhysAddr::new(base.max(LOWEST)).checked_align_up(self.alignment);
        let start = match (wanted, self.relocatable, lowest) {
            (Some(wanted), _, _) => wanted,
            (None, true, Some(lowest)) if map.room_from(preferred) < self.init_size => lowest,
            (None, _, _) => preferred,
        };
        if start != preferred && !self.relocatable {
            return Err(ImageError::Header(
                "it cannot be loaded anywhere but at its preferred address",
            ));
        }
        if !start.is_aligned(self.alignment) {
            return Err(ImageError::Header(
                "it would not start at a multiple of its alignment",
            ));
        }
        let end = start.as_u64().checked_add(self.init_size);
        if end.is_none_or(|end| end > MAPPED) {
            return Err(ImageError::Header("it would not lie below 4 GiB"));
        }
        Ok(start)
    }

    /// Bytes that the file must have.
    pub(super) fn least_len(&self) -> u64 {
        self.setup_len + self.kernel_len.max(ENTRY_64)
    }

    /// Where the kernel that was loaded at `start` is entered.
    pub(super) fn entry(&self, start: GuestPhysAddr) -> Result<GuestPhysAddr, ImageError> {
        start
            .checked_add(ENTRY_64)
            .ok_or(ImageError::Header("it would not lie below 4 GiB"))
    }

    /// The boot parameters.
    pub(super) fn parameters(&self, facts: &BootFacts<'_>) -> InfoPage {
        let mut page = InfoPage::new();
        page.put(HEADER, &self.bytes);
        page.put(TYPE_OF_LOADER, &[OTHER_LOADER]);
        if facts.cmdline.is_some() {
            page.put_u32(CMD_LINE_PTR, CMDLINE as u32);
        }
        if let Some(ramdisk) = facts.ramdisk {
            let (start, size) = (ramdisk.start().as_u64(), ramdisk.size());
            page.put_u32(RAMDISK_IMAGE, start as u32);
            page.put_u32(EXT_RAMDISK_IMAGE, (start >> 32) as u32);
            page.put_u32(RAMDISK_SIZE, size as u32);
            page.put_u32(EXT_RAMDISK_SIZE, (size >> 32) as u32);
        }
        page.put_u64(ACPI_RSDP_ADDR, ACPI);
        let entries = facts.memory.entries();
        page.put(E820_ENTRIES, &[entries.len() as u8]);
        for (at, entry) in (E820_TABLE..).step_by(E820_ENTRY_LEN).zip(entries) {
            page.put_u64(at, entry.start);
            page.put_u64(at + 8, entry.size);
            page.put_u32(at + 16, entry.kind as u32);
        }
        page
    }
}

/// Entries of a page table.
const ENTRIES: u64 = 512;
const TABLE: u64 = ENTRIES * 8;
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;
const LARGE_PAGE: u64 = 2 << 20;
const DIRECTORIES: u64 = MAPPED / (ENTRIES * LARGE_PAGE);

/// Bytes of the page tables: the root, the second level, and a directory for each GiB.
pub(super) const PAGE_TABLES_SIZE: u64 = (2 + DIRECTORIES) * TABLE;

/// Page tables at `root` that map the first 4 GiB to themselves.
pub(super) fn page_tables(root: u64) -> Vec<u8> {
    let second = root + TABLE;
    let directories = second + TABLE;
    let mut tables = Vec::with_capacity(PAGE_TABLES_SIZE as usize);
    let mut put = |entries: &mut dyn Iterator<Item = u64>| {
        let mut entries = entries.fuse();
        for _ in 0..ENTRIES {
            tables.extend(entries.next().unwrap_or(0).to_le_bytes());
        }
    };
    put(&mut [second | PRESENT_WRITABLE].into_iter());
    put(&mut (0..DIRECTORIES).map(|gib| (directories + gib * TABLE) | PRESENT_WRITABLE));
    for gib in 0..DIRECTORIES {
        let first = gib * ENTRIES;
        let page = |page: u64| (page * LARGE_PAGE) | LARGE | PRESENT_WRITABLE;
        put(&mut (first..first + ENTRIES).map(page));
    }
    tables
}

#[cfg(test)]
mod tests;
