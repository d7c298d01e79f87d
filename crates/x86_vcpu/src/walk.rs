//! The guest's own page tables, walked in software (Intel SDM 3A, "Paging"; AMD APM 2, "Page Translation and Protection").
//!
//! For instructions that must be read, and for the operands of those that move memory. Accessed and dirty bits are left alone: what the guest
//! executes and its string instructions touch has been used by the hardware just before, or will be.

use axaddrspace::GuestPhysAddr;

use crate::{
    GuestBytes,
    cr::{ControlRegisters, cr0, cr4, efer},
    event::{Exception, vector},
    regs::rflags,
};

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
}

/// Who accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    Supervisor,
    User,
}

/// How the guest's addresses are translated now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    pub(crate) registers: ControlRegisters,
    pub(crate) rflags: u64,
    pub(crate) privilege: Privilege,
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkFailure {
    /// The guest's own page fault; CR2 is the address.
    PageFault { address: u64, error_code: u32 },
    /// The address is not canonical: #GP.
    NotCanonical,
    /// A page table does not lie in RAM.
    TableOutsideRam(GuestPhysAddr),
}

impl WalkFailure {
    /// The exception that it is, with CR2, if it is one.
    pub(crate) const fn exception(self) -> Option<(Exception, Option<u64>)> {
        match self {
            Self::PageFault {
                address,
                error_code,
            } => Some((
                Exception {
                    vector: vector::PAGE_FAULT,
                    error_code: Some(error_code),
                },
                Some(address),
            )),
            Self::NotCanonical => Some((Exception::GENERAL_PROTECTION, None)),
            Self::TableOutsideRam(_) => None,
        }
    }
}

/// Bits of the error code of a page fault.
mod error {
    pub(super) const PRESENT: u32 = 1 << 0;
    pub(super) const WRITE: u32 = 1 << 1;
    pub(super) const USER: u32 = 1 << 2;
    pub(super) const RESERVED: u32 = 1 << 3;
    pub(super) const FETCH: u32 = 1 << 4;
}

/// Bits of entries.
mod entry {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITABLE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const LARGE: u64 = 1 << 7;
    pub(super) const NO_EXECUTE: u64 = 1 << 63;
    pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// The shape of the tables.
#[derive(Clone, Copy)]
struct Shape {
    levels: u32,
    index_bits: u32,
    entry_bytes: usize,
}

impl Paging {
    const fn has(&self, register: u64, bit: u64) -> bool {
        register & bit != 0
    }

    const fn is_on(&self) -> bool {
        self.has(self.registers.cr0, cr0::PG)
    }

    const fn is_long(&self) -> bool {
        self.has(self.registers.efer, efer::LMA)
    }

    /// Whether entries have eight bytes.
    pub(crate) const fn has_long_entries(&self) -> bool {
        self.shape().entry_bytes == 8
    }

    /// How many bits a canonical address has.
    pub(crate) const fn address_bits(&self) -> u32 {
        if self.has(self.registers.cr4, cr4::LA57) {
            57
        } else {
            48
        }
    }

    const fn shape(&self) -> Shape {
        let (levels, index_bits, entry_bytes) = if self.is_long() {
            ((self.address_bits() - 12) / 9, 9, 8)
        } else if self.has(self.registers.cr4, cr4::PAE) {
            (3, 9, 8)
        } else {
            (2, 10, 4)
        };
        Shape {
            levels,
            index_bits,
            entry_bytes,
        }
    }

    /// Where `address` leads.
    pub(crate) fn translate(
        &self,
        memory: &dyn GuestBytes,
        address: u64,
        access: Access,
    ) -> Result<GuestPhysAddr, WalkFailure> {
        self.translate_noting(memory, address, access, |_, _| ())
    }

    /// The same; `note` is told of each entry of a table on the way: where it is, and what it was.
    pub(crate) fn translate_noting(
        &self,
        memory: &dyn GuestBytes,
        address: u64,
        access: Access,
        note: impl FnMut(GuestPhysAddr, u64),
    ) -> Result<GuestPhysAddr, WalkFailure> {
        if !self.is_on() {
            return Ok(GuestPhysAddr::new(address & 0xffff_ffff));
        }
        if self.is_long() && !crate::msr::is_canonical(address, self.address_bits()) {
            return Err(WalkFailure::NotCanonical);
        }
        self.walk(memory, address, access, note)
    }

    fn walk(
        &self,
        memory: &dyn GuestBytes,
        address: u64,
        access: Access,
        mut note: impl FnMut(GuestPhysAddr, u64),
    ) -> Result<GuestPhysAddr, WalkFailure> {
        let shape = self.shape();
        let fault = |bits| self.fault(address, access, bits);
        let mut table = match shape.levels {
            // PAE: a table of 32 bytes.
            3 => self.registers.cr3 & 0xffff_ffe0,
            2 => self.registers.cr3 & 0xffff_f000,
            _ => self.registers.cr3 & entry::ADDRESS,
        };
        let mut rights = entry::WRITABLE | entry::USER;
        for level in (0..shape.levels).rev() {
            let shift = 12 + level * shape.index_bits;
            let index = address >> shift & ((1 << shape.index_bits) - 1);
            // The root of PAE paging has four entries, with neither rights nor the NX bit.
            let is_pae_root = shape.levels == 3 && level == 2;
            let index = if is_pae_root { index & 3 } else { index };
            let at = GuestPhysAddr::new(table + index * shape.entry_bytes as u64);
            let mut bytes = [0; 8];
            let read = bytes
                .get_mut(..shape.entry_bytes)
                .is_some_and(|bytes| memory.read(at, bytes));
            if !read {
                return Err(WalkFailure::TableOutsideRam(at));
            }
            let word = u64::from_le_bytes(bytes);
            note(at, word);
            if word & entry::PRESENT == 0 {
                return Err(fault(0));
            }
            if !is_pae_root {
                rights = rights & word | rights & entry::NO_EXECUTE | word & entry::NO_EXECUTE;
            }
            if word & entry::NO_EXECUTE != 0 && !self.has(self.registers.efer, efer::NXE) {
                return Err(fault(error::PRESENT | error::RESERVED));
            }
            let is_large = level > 0 && !is_pae_root && word & entry::LARGE != 0;
            if is_large && !self.may_be_large(level) {
                if shape.entry_bytes == 8 {
                    return Err(fault(error::PRESENT | error::RESERVED));
                }
            } else if is_large || level == 0 {
                let offset_mask = (1u64 << shift) - 1;
                let page = if is_large && shape.entry_bytes == 4 {
                    // 4 MiB: bits 39 to 32 of the address are in bits 20 to 13 (PSE-36).
                    word & 0xffc0_0000 | (word >> 13 & 0xff) << 32
                } else {
                    word & entry::ADDRESS & !offset_mask
                };
                self.check(rights, access, fault)?;
                return Ok(GuestPhysAddr::new(page | address & offset_mask));
            }
            table = word & entry::ADDRESS;
        }
        // The last level returns.
        Err(fault(0))
    }

    /// Whether an entry at `level`, above the lowest, may be a leaf.
    const fn may_be_large(&self, level: u32) -> bool {
        match (self.is_long(), level) {
            (true, 1 | 2) => true,
            (true, _) => false,
            (false, _) => {
                self.has(self.registers.cr4, cr4::PAE) || self.has(self.registers.cr4, cr4::PSE)
            }
        }
    }

    /// Whether `rights`, those of all levels together, allow the access.
    fn check(
        &self,
        rights: u64,
        access: Access,
        fault: impl Fn(u32) -> WalkFailure,
    ) -> Result<(), WalkFailure> {
        let registers = &self.registers;
        let user_page = rights & entry::USER != 0;
        let user = self.privilege == Privilege::User;
        let smap =
            self.has(registers.cr4, cr4::SMAP) && !self.has(self.rflags, rflags::ALIGNMENT_CHECK);
        let allowed = match access {
            Access::Read => !user || user_page,
            Access::Write => {
                let writable = rights & entry::WRITABLE != 0;
                if user {
                    user_page && writable
                } else {
                    writable || !self.has(registers.cr0, cr0::WP)
                }
            }
            Access::Execute => {
                rights & entry::NO_EXECUTE == 0
                    && if user {
                        user_page
                    } else {
                        !user_page || !self.has(registers.cr4, cr4::SMEP)
                    }
            }
        };
        let kept_out = !user && user_page && access != Access::Execute && smap;
        if allowed && !kept_out {
            Ok(())
        } else {
            Err(fault(error::PRESENT))
        }
    }

    fn fault(&self, address: u64, access: Access, bits: u32) -> WalkFailure {
        let access = match access {
            Access::Read => 0,
            Access::Write => error::WRITE,
            Access::Execute
                if self.has(self.registers.efer, efer::NXE)
                    || self.has(self.registers.cr4, cr4::SMEP) =>
            {
                error::FETCH
            }
            Access::Execute => 0,
        };
        let user = match self.privilege {
            Privilege::User => error::USER,
            Privilege::Supervisor => 0,
        };
        WalkFailure::PageFault {
            address,
            error_code: bits | access | user,
        }
    }
}

#[cfg(test)]
mod tests;
