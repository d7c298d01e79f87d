//! PVH (Xen, docs/misc/pvh.pandoc, and public/arch-x86/hvm/start_info.h): an ELF file with a note
//! that says where it is entered, in 32-bit protected mode without paging, with the address of the
//! start information in EBX.

use axaddrspace::GuestPhysAddr;

use super::{ACPI, BootFacts, CMDLINE, INFO, InfoPage};
use crate::boot::bytes_at;

/// Who wrote the note, and which it is.
const NOTE_NAME: &[u8] = b"Xen\0";
const NOTE_PHYS32_ENTRY: u32 = 18;

/// The entry point that the notes of an ELF file name (System V ABI, "Note Section").
pub(super) fn entry(mut notes: &[u8]) -> Option<GuestPhysAddr> {
    loop {
        let (header, rest) = notes.split_at_checked(12)?;
        let word = |at| bytes_at(header, at).map(u32::from_le_bytes);
        let (name_len, value_len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let (name, rest) = rest.split_at_checked(name_len.checked_next_multiple_of(4)?)?;
        // The last one's padding may be missing.
        let padded = value_len.checked_next_multiple_of(4)?.min(rest.len());
        let (value, rest) = rest.split_at_checked(padded)?;
        if kind == NOTE_PHYS32_ENTRY && name == NOTE_NAME {
            let entry = value.get(..value_len)?.first_chunk()?;
            return Some(GuestPhysAddr::new(u32::from_le_bytes(*entry).into()));
        }
        notes = rest;
    }
}

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const INFO_LEN: usize = 56;
const MODULE_LEN: usize = 32;
const MEMORY_LEN: usize = 24;
/// Where in the page the lists are.
const MODULES: usize = INFO_LEN;
const MEMORY: usize = MODULES + MODULE_LEN;

/// The start information.
pub(super) fn start_info(facts: &BootFacts<'_>) -> InfoPage {
    let mut page = InfoPage::new();
    let here = |at: usize| INFO + at as u64;
    page.put_u32(0, MAGIC);
    page.put_u32(4, VERSION);
    if let Some(ramdisk) = facts.ramdisk {
        page.put_u32(12, 1);
        page.put_u64(16, here(MODULES));
        page.put_u64(MODULES, ramdisk.start().as_u64());
        page.put_u64(MODULES + 8, ramdisk.size());
    }
    if facts.cmdline.is_some() {
        page.put_u64(24, CMDLINE);
    }
    page.put_u64(32, ACPI);
    page.put_u64(40, here(MEMORY));
    page.put_u32(48, facts.memory.entries().len() as u32);
    for (at, entry) in (MEMORY..).step_by(MEMORY_LEN).zip(facts.memory.entries()) {
        page.put_u64(at, entry.start);
        page.put_u64(at + 8, entry.size);
        page.put_u32(at + 16, entry.kind as u32);
    }
    page
}

#[cfg(test)]
mod tests;
