//! The firmware's description of the machine (ACPI 6.5, chapter 5), read without a heap and without an interpreter of AML.
//!
//! RSDP and RSDT or XSDT lead to the [MADT](madt), which knows the interrupt controllers, and the [FADT](fadt), which knows how to power off;
//! [MCFG](mcfg) and [HPET](hpet) say where devices are that VMs do not get, or not unseen. Lengths and addresses in them are checked before they are used; firmware errs too.

pub(crate) mod fadt;
pub(crate) mod hpet;
pub(crate) mod madt;
pub(crate) mod mcfg;

use crate::bytes::{Memory, u8_at, u16_at, u32_at, u64_at};

/// Every table begins with a header of this size (5.2.6).
const HEADER_LEN: usize = 36;
/// A table longer than this is not believed.
const MAX_TABLE_LEN: usize = 1 << 20;
const MAX_TABLES: usize = 256;

/// The root of all tables.
pub(crate) struct Tables<'m, M> {
    memory: &'m M,
    /// The RSDT or XSDT.
    root: &'m [u8],
    /// Bytes of an address in it.
    address_len: usize,
}

impl<'m, M: Memory> Tables<'m, M> {
    /// Finds the tables where a BIOS puts their root (5.2.5.1): in the first KiB of its extended data area, or below 1 MiB.
    pub(crate) fn find(memory: &'m M) -> Option<Self> {
        /// Where the BIOS notes its extended data area, in paragraphs.
        const EBDA_PARAGRAPH: u64 = 0x40e;
        let ebda = memory
            .bytes(EBDA_PARAGRAPH, 2)
            .and_then(|bytes| u16_at(bytes, 0));
        let ebda = u64::from(ebda.unwrap_or(0)) << 4;
        let places = [
            (ebda..ebda + 1024).step_by(16),
            (0xe_0000..0x10_0000).step_by(16),
        ];
        places
            .into_iter()
            .flatten()
            .find_map(|address| Self::from_rsdp(memory, address))
    }

    /// From the root pointer at an address, if there is one (5.2.5.3).
    fn from_rsdp(memory: &'m M, address: u64) -> Option<Self> {
        const LEN: usize = 20;
        const EXTENDED_LEN: usize = 36;
        let rsdp = memory.bytes(address, LEN)?;
        if !rsdp.starts_with(b"RSD PTR ") || !sums_to_zero(rsdp) {
            return None;
        }
        let extended = match u8_at(rsdp, 15)? {
            0 | 1 => None,
            _ => memory
                .bytes(address, EXTENDED_LEN)
                .filter(|rsdp| sums_to_zero(rsdp)),
        };
        let xsdt = extended
            .and_then(|rsdp| u64_at(rsdp, 24))
            .and_then(|address| table(memory, address, b"XSDT"));
        let (root, address_len) = match xsdt {
            Some(xsdt) => (xsdt, 8),
            None => (table(memory, u64::from(u32_at(rsdp, 16)?), b"RSDT")?, 4),
        };
        Some(Self {
            memory,
            root,
            address_len,
        })
    }

    /// The first table of that signature.
    pub(crate) fn get(&self, signature: &[u8; 4]) -> Option<&'m [u8]> {
        let addresses = self.root.get(HEADER_LEN..).unwrap_or(&[]);
        addresses
            .chunks_exact(self.address_len)
            .take(MAX_TABLES)
            .filter_map(|bytes| match self.address_len {
                8 => u64_at(bytes, 0),
                _ => u32_at(bytes, 0).map(u64::from),
            })
            .find_map(|address| table(self.memory, address, signature))
    }

    /// The table at an address, if it has that signature.
    pub(crate) fn at(&self, address: u64, signature: &[u8; 4]) -> Option<&'m [u8]> {
        table(self.memory, address, signature)
    }
}

/// All bytes of the table at an address.
fn table<'m>(memory: &'m impl Memory, address: u64, signature: &[u8; 4]) -> Option<&'m [u8]> {
    let header = memory.bytes(address, HEADER_LEN)?;
    let len = u32_at(header, 4)? as usize;
    if !header.starts_with(signature) || !(HEADER_LEN..=MAX_TABLE_LEN).contains(&len) {
        return None;
    }
    memory.bytes(address, len)
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

#[cfg(test)]
mod tests;
