//! What the processor tells about an exit, decoded (SDM vol. 3, 28.2 "Recording VM-Exit Information and Updating VM-entry Control Fields").
//!
//! Plain functions from words to values; nothing here touches a VMCS.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axdevice::LocalApic;

use super::exit_reason::VmxExitReason;
use crate::{
    backend::{
        ControlAccess, ControlRegister, Direction, IO_WIDTHS, IoExit, IoKind, NestedFault,
        NestedPurpose,
    },
    event::InterruptInfo,
};

/// The exit-reason field (25.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxExitInfo {
    /// The field as it is.
    pub raw: u32,
    /// Whether the guest ran at all.
    pub kind: VmxExitKind,
}

/// Whether an exit came from the guest or from a failed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmxExitKind {
    /// The guest ran and left.
    Exit(VmxExitReason),
    /// The guest was not entered.
    EntryFailure(VmxExitReason),
    /// The processor names a reason that the manual did not have.
    Unknown,
}

const ENTRY_FAILURE: u32 = 1 << 31;

impl VmxExitInfo {
    /// Decodes the exit-reason field.
    #[inline]
    #[must_use]
    pub const fn decode(raw: u32) -> Self {
        let kind = match VmxExitReason::from_number(raw as u16) {
            None => VmxExitKind::Unknown,
            Some(reason) if raw & ENTRY_FAILURE != 0 => VmxExitKind::EntryFailure(reason),
            Some(reason) => VmxExitKind::Exit(reason),
        };
        Self { raw, kind }
    }
}

impl IoExit {
    /// Decodes VMX's exit qualification (table 28-5).
    #[inline]
    #[must_use]
    pub const fn of_qualification(qualification: u64) -> Self {
        const SIZE: u64 = 0b11;
        const IN: u64 = 1 << 3;
        const STRING: u64 = 1 << 4;
        const PORT_SHIFT: u32 = 16;
        Self {
            port: (qualification >> PORT_SHIFT) as u16,
            // 0, 1 and 3: one less than the bytes.
            width: IO_WIDTHS[(qualification & SIZE) as usize],
            direction: if qualification & IN != 0 {
                Direction::Read
            } else {
                Direction::Write
            },
            kind: if qualification & STRING != 0 {
                IoKind::String
            } else {
                IoKind::Register
            },
        }
    }
}

impl ControlAccess {
    /// Decodes VMX's exit qualification (table 28-3); `None` if it names a register whose accesses do not exit.
    #[must_use]
    pub fn of_qualification(qualification: u64) -> Option<Self> {
        const NUMBER: u64 = 0xf;
        const KIND_SHIFT: u32 = 4;
        const KIND: u64 = 0b11;
        const GPR_SHIFT: u32 = 8;
        const LMSW_SHIFT: u32 = 16;
        let register = ControlRegister::of_number((qualification & NUMBER) as u8);
        let gpr = (qualification >> GPR_SHIFT & NUMBER) as u8;
        match qualification >> KIND_SHIFT & KIND {
            0 => register.map(|register| Self::Write { register, gpr }),
            1 => register.map(|register| Self::Read { register, gpr }),
            2 => Some(Self::Clts),
            _ => Some(Self::Lmsw {
                source: (qualification >> LMSW_SHIFT) as u16,
            }),
        }
    }
}

impl NestedFault {
    /// Decodes VMX's exit qualification (table 28-7), for an address that it does not hold.
    #[inline]
    pub(super) fn of_qualification(qualification: u64, gpa: GuestPhysAddr) -> Self {
        const READ: u64 = 1 << 0;
        const WRITE: u64 = 1 << 1;
        const FETCH: u64 = 1 << 2;
        const LINEAR_VALID: u64 = 1 << 7;
        const OF_THE_ACCESS: u64 = 1 << 8;
        let mut access = MappingFlags::empty();
        access.set(MappingFlags::READ, qualification & READ != 0);
        access.set(MappingFlags::WRITE, qualification & WRITE != 0);
        access.set(MappingFlags::EXECUTE, qualification & FETCH != 0);
        Self {
            gpa,
            access,
            purpose: if qualification & (LINEAR_VALID | OF_THE_ACCESS) == LINEAR_VALID {
                NestedPurpose::PageWalk
            } else {
                NestedPurpose::Access
            },
        }
    }

    /// Decodes VMX's exit qualification for an access to the APIC-access page that is not virtualized (table 28-6): it is one to a device.
    /// `None` for a kind that the manual does not have.
    pub(super) fn of_apic_access(qualification: u64) -> Option<Self> {
        const OFFSET: u64 = 0xfff;
        const KIND_SHIFT: u32 = 12;
        const KIND: u64 = 0xf;
        let access = |access| Some((qualification & OFFSET, access, NestedPurpose::Access));
        let (offset, access, purpose) = match qualification >> KIND_SHIFT & KIND {
            // That of an event's delivery is not told from an instruction's: what was being delivered goes with it, and says so.
            0 | 3 => access(MappingFlags::READ),
            1 => access(MappingFlags::WRITE),
            2 => access(MappingFlags::EXECUTE),
            // By a guest-physical address, as a walk of the guest's page tables does: nobody says where.
            10 | 15 => Some((0, MappingFlags::READ, NestedPurpose::PageWalk)),
            _ => None,
        }?;
        Some(Self {
            gpa: GuestPhysAddr::new(LocalApic::PAGE.as_u64() + offset),
            access,
            purpose,
        })
    }
}

/// Whether an EPT violation interrupted an IRET after that had unblocked NMIs: they must be blocked again before the IRET is repeated (28.2.3).
///
/// `qualification` is the exit's.
#[must_use]
pub const fn interrupted_iret(qualification: u64) -> bool {
    const NMI_UNBLOCKED: u64 = 1 << 12;
    qualification & NMI_UNBLOCKED != 0
}

/// Whether an exception interrupted an IRET after that had unblocked NMIs, as [`interrupted_iret`] says of an EPT violation.
///
/// `raw` is the exit-interruption field.
#[must_use]
pub const fn undid_nmi_blocking(raw: u32) -> bool {
    const UNBLOCKED_BY_IRET: u32 = 1 << 12;
    const DOUBLE_FAULT: u32 = 8;
    InterruptInfo::is_valid(raw)
        && raw & UNBLOCKED_BY_IRET != 0
        && raw & InterruptInfo::VECTOR != DOUBLE_FAULT
}

#[cfg(test)]
mod tests;
