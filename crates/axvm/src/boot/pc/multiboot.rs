//! Multiboot (Specification 0.6.96): 32-bit protected mode without paging, with a magic number in
//! EAX and the address of the information in EBX.

use axaddrspace::GuestPhysAddr;

use super::{BootFacts, CMDLINE, INFO, InfoPage};
use crate::boot::{ImageError, bytes_at, kernel::FlatPlan, ram::RamMap};

/// What EAX says to the kernel.
pub(super) const LOADER_MAGIC: u32 = 0x2bad_b002;

const HEADER_MAGIC: u32 = 0x1bad_b002;
/// The header is this near to the start of the file, at a multiple of 4.
const HEADER_WITHIN: usize = 8192;
/// The header has the addresses that an ELF file has of itself.
const FLAG_ADDRESSES: u32 = 1 << 16;

/// A kernel's header ("OS image format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) addresses: Option<Addresses>,
}

/// Where a kernel goes that is no ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Where in the file the bytes begin that are loaded.
    offset: u64,
    load: u32,
    /// The end of what is loaded; 0: the end of the file.
    load_end: u32,
    /// The end of what is taken; 0: that of what is loaded.
    bss_end: u32,
    entry: u32,
}

impl Header {
    /// The header in the file that begins with `front`.
    pub(super) fn find(front: &[u8]) -> Option<Self> {
        let word = |at| bytes_at(front, at).map(u32::from_le_bytes);
        let is_header = |&at: &usize| {
            let sum = || {
                Some(
                    word(at)?
                        .wrapping_add(word(at + 4)?)
                        .wrapping_add(word(at + 8)?),
                )
            };
            word(at) == Some(HEADER_MAGIC) && sum() == Some(0)
        };
        let at = (0..HEADER_WITHIN).step_by(4).find(is_header)?;
        let addresses = if word(at + 4)? & FLAG_ADDRESSES == 0 {
            None
        } else {
            let (header, load) = (word(at + 12)?, word(at + 16)?);
            // The header's own place tells which byte of the file goes to the first address.
            let before = header.checked_sub(load)?;
            Some(Addresses {
                offset: (at as u64).checked_sub(before.into())?,
                load,
                load_end: word(at + 20)?,
                bss_end: word(at + 24)?,
                entry: word(at + 28)?,
            })
        };
        Some(Self { addresses })
    }
}

impl Addresses {
    /// The plan for a file that says to be `claimed` bytes long.
    pub(super) fn plan(self, claimed: u64, map: &RamMap<'_>) -> Result<FlatPlan, ImageError> {
        let size = |end: u32| match end {
            0 => Ok(None),
            end => end
                .checked_sub(self.load)
                .map(|size| Some(u64::from(size)))
                .ok_or(ImageError::Multiboot("an end lies before the start")),
        };
        let (loaded, taken) = (size(self.load_end)?, size(self.bss_end)?);
        let end = loaded.and_then(|loaded| self.offset.checked_add(loaded));
        let file = self.offset..end.map_or(claimed, |end| end.min(claimed));
        let start = GuestPhysAddr::new(self.load.into());
        let mut plan = FlatPlan::new(start, file, taken.unwrap_or(0), map)?;
        plan.entry = Some(GuestPhysAddr::new(self.entry.into()));
        if let Some(end) = end {
            (plan.file.end, plan.least_len) = (end, end);
        }
        Ok(plan)
    }
}

/// Bytes of the information, and of a module's and a memory stretch's entry.
const INFO_LEN: usize = 120;
const MODULE_LEN: usize = 16;
const MEMORY_LEN: usize = 24;

const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

/// Where in the page the lists are.
const MODULES: usize = INFO_LEN;
const LOADER_NAME: usize = MODULES + MODULE_LEN;
const MEMORY: usize = 0x100;

/// The information ("Boot information format").
pub(super) fn information(facts: &BootFacts<'_>) -> InfoPage {
    let mut page = InfoPage::new();
    let mut flags = HAS_MEMORY | HAS_MEMORY_MAP | HAS_LOADER_NAME;
    let here = |at: usize| INFO as u32 + at as u32;
    page.put_u32(4, facts.memory.low_kib());
    page.put_u32(8, facts.memory.high_kib());
    if facts.cmdline.is_some() {
        flags |= HAS_CMDLINE;
        page.put_u32(16, CMDLINE as u32);
    }
    if let Some(ramdisk) = facts.ramdisk {
        flags |= HAS_MODULES;
        // Below 4 GiB, as the limits say.
        let [start, end] = [ramdisk.start(), ramdisk.end()].map(|addr| addr.as_u64() as u32);
        page.put_u32(20, 1);
        page.put_u32(24, here(MODULES));
        page.put_u32(MODULES, start);
        page.put_u32(MODULES + 4, end);
    }
    page.put_u32(44, (facts.memory.entries().len() * MEMORY_LEN) as u32);
    page.put_u32(48, here(MEMORY));
    for (at, entry) in (MEMORY..).step_by(MEMORY_LEN).zip(facts.memory.entries()) {
        // The size does not count itself.
        page.put_u32(at, MEMORY_LEN as u32 - 4);
        page.put_u64(at + 4, entry.start);
        page.put_u64(at + 12, entry.size);
        page.put_u32(at + 20, entry.kind as u32);
    }
    page.put_u32(64, here(LOADER_NAME));
    page.put(LOADER_NAME, b"AxHV\0");
    page.put_u32(0, flags);
    page
}

#[cfg(test)]
mod tests;
