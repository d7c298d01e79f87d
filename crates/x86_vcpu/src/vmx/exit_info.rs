//! What the processor tells about an exit, decoded (SDM vol. 3, 28.2 "Recording VM-Exit Information and Updating VM-entry Control Fields").
//!
//! Plain functions from words to values; nothing here touches a VMCS.

use axvcpu::AccessWidth;

use super::exit_reason::VmxExitReason;

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

/// What kind of event an interruption-information field describes (25.9.2, 25.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptKind {
    /// An interrupt from outside.
    External = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// An exception of the processor's.
    HardwareException = 3,
    /// INT n.
    Software = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
    /// No event in the IDT's sense.
    Other = 7,
}

/// An event, as the exit-interruption, IDT-vectoring and entry-interruption information fields tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxInterruptInfo {
    /// Its vector.
    pub vector: u8,
    /// Its kind.
    pub kind: InterruptKind,
    /// What it pushes.
    pub error_code: Option<u32>,
}

impl VmxInterruptInfo {
    const VECTOR: u32 = 0xff;
    const KIND_SHIFT: u32 = 8;
    const KIND: u32 = 0b111;
    const HAS_ERROR_CODE: u32 = 1 << 11;
    /// There is an event.
    pub(super) const VALID: u32 = 1 << 31;

    /// Decodes a field; `None` if it says that there is nothing.
    #[must_use]
    pub fn decode(raw: u32, error_code: impl FnOnce() -> u32) -> Option<Self> {
        if raw & Self::VALID == 0 {
            return None;
        }
        Some(Self {
            vector: (raw & Self::VECTOR) as u8,
            kind: match raw >> Self::KIND_SHIFT & Self::KIND {
                0 => InterruptKind::External,
                2 => InterruptKind::Nmi,
                3 => InterruptKind::HardwareException,
                4 => InterruptKind::Software,
                5 => InterruptKind::PrivilegedSoftwareException,
                6 => InterruptKind::SoftwareException,
                _ => InterruptKind::Other,
            },
            error_code: (raw & Self::HAS_ERROR_CODE != 0).then(error_code),
        })
    }

    /// The word for the entry-interruption field.
    #[must_use]
    pub const fn encode(self) -> u32 {
        let error_code = match self.error_code {
            Some(_) => Self::HAS_ERROR_CODE,
            None => 0,
        };
        Self::VALID | error_code | (self.kind as u32) << Self::KIND_SHIFT | self.vector as u32
    }

    /// Whether the event comes from an instruction, which is then past once the event is delivered.
    #[must_use]
    pub const fn is_software(self) -> bool {
        match self.kind {
            InterruptKind::Software
            | InterruptKind::PrivilegedSoftwareException
            | InterruptKind::SoftwareException => true,
            InterruptKind::External
            | InterruptKind::Nmi
            | InterruptKind::HardwareException
            | InterruptKind::Other => false,
        }
    }
}

/// Which way a port access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDirection {
    /// IN, INS.
    In,
    /// OUT, OUTS.
    Out,
}

/// Whether a port access moves a register or a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoForm {
    /// IN or OUT, with the accumulator.
    Register,
    /// INS or OUTS, once.
    String,
    /// INS or OUTS with a REP prefix.
    RepeatedString,
}

/// A port access (table 28-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxIoExitInfo {
    /// Which port.
    pub port: u16,
    /// How wide.
    pub width: AccessWidth,
    /// Which way.
    pub direction: IoDirection,
    /// A register or a string.
    pub form: IoForm,
}

impl VmxIoExitInfo {
    const SIZE: u64 = 0b111;
    const IN: u64 = 1 << 3;
    const STRING: u64 = 1 << 4;
    const REP: u64 = 1 << 5;
    const PORT_SHIFT: u32 = 16;

    /// Decodes the exit qualification.
    #[inline]
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        Self {
            port: (qualification >> Self::PORT_SHIFT) as u16,
            // 0, 1 and 3: one less than the bytes. No other occurs.
            width: match qualification & Self::SIZE {
                0 => AccessWidth::Byte,
                1 => AccessWidth::Word,
                _ => AccessWidth::Dword,
            },
            direction: if qualification & Self::IN != 0 {
                IoDirection::In
            } else {
                IoDirection::Out
            },
            form: if qualification & Self::STRING == 0 {
                IoForm::Register
            } else if qualification & Self::REP == 0 {
                IoForm::String
            } else {
                IoForm::RepeatedString
            },
        }
    }
}

/// An access to a control register (table 28-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccessInfo {
    /// MOV to a control register.
    Write {
        /// Its number.
        cr: u8,
        /// The general register's number.
        gpr: u8,
    },
    /// MOV from a control register.
    Read {
        /// Its number.
        cr: u8,
        /// The general register's number.
        gpr: u8,
    },
    /// CLTS.
    Clts,
    /// LMSW.
    Lmsw {
        /// The new low word of CR0.
        source: u16,
    },
}

impl CrAccessInfo {
    const CR: u64 = 0xf;
    const KIND_SHIFT: u32 = 4;
    const KIND: u64 = 0b11;
    const GPR_SHIFT: u32 = 8;
    const GPR: u64 = 0xf;
    const LMSW_SHIFT: u32 = 16;

    /// Decodes the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        let cr = (qualification & Self::CR) as u8;
        let gpr = (qualification >> Self::GPR_SHIFT & Self::GPR) as u8;
        match qualification >> Self::KIND_SHIFT & Self::KIND {
            0 => Self::Write { cr, gpr },
            1 => Self::Read { cr, gpr },
            2 => Self::Clts,
            _ => Self::Lmsw {
                source: (qualification >> Self::LMSW_SHIFT) as u16,
            },
        }
    }
}

/// What an EPT violation was about (table 28-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolationInfo(u64);

impl EptViolationInfo {
    const READ: u64 = 1 << 0;
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 2;
    const LINEAR_VALID: u64 = 1 << 7;
    const OF_THE_ACCESS: u64 = 1 << 8;
    const NMI_UNBLOCKED: u64 = 1 << 12;

    /// Wraps the exit qualification.
    #[must_use]
    pub const fn new(qualification: u64) -> Self {
        Self(qualification)
    }

    /// The guest loaded, or a walk of its page tables did.
    #[must_use]
    pub const fn is_read(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// The guest stored, or a walk of its page tables set a bit there.
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// The guest fetched an instruction.
    #[must_use]
    pub const fn is_fetch(self) -> bool {
        self.0 & Self::FETCH != 0
    }

    /// The exit interrupted an IRET after that had unblocked NMIs: they must be blocked again before the IRET is repeated (28.2.3).
    #[must_use]
    pub const fn interrupted_iret(self) -> bool {
        self.0 & Self::NMI_UNBLOCKED != 0
    }

    /// The address is that of a page-table entry, which a walk of the guest's page tables reached for.
    #[must_use]
    pub const fn is_page_walk(self) -> bool {
        self.0 & Self::LINEAR_VALID != 0 && self.0 & Self::OF_THE_ACCESS == 0
    }
}

/// An access to the APIC-access page that the processor does not virtualize, with its offset in that page (table 28-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicAccessInfo {
    /// An instruction loads.
    Read {
        /// Where.
        offset: u16,
    },
    /// An instruction stores.
    Write {
        /// Where.
        offset: u16,
    },
    /// It is an instruction's own bytes.
    Fetch {
        /// Where.
        offset: u16,
    },
    /// An event's delivery loads or stores.
    Delivery {
        /// Where.
        offset: u16,
    },
    /// By a guest-physical address, as a walk of the guest's page tables does: nobody says where.
    Physical,
    /// What the manual does not have.
    Unknown,
}

impl ApicAccessInfo {
    const OFFSET: u64 = 0xfff;
    const KIND_SHIFT: u32 = 12;
    const KIND: u64 = 0xf;

    /// Decodes the exit qualification.
    #[must_use]
    pub const fn decode(qualification: u64) -> Self {
        let offset = (qualification & Self::OFFSET) as u16;
        match qualification >> Self::KIND_SHIFT & Self::KIND {
            0 => Self::Read { offset },
            1 => Self::Write { offset },
            2 => Self::Fetch { offset },
            3 => Self::Delivery { offset },
            10 | 15 => Self::Physical,
            _ => Self::Unknown,
        }
    }
}

/// Whether an exception interrupted an IRET after that had unblocked NMIs, as [`EptViolationInfo::interrupted_iret`] says of an EPT violation.
///
/// `raw` is the exit-interruption field.
#[must_use]
pub const fn undid_nmi_blocking(raw: u32) -> bool {
    const UNBLOCKED_BY_IRET: u32 = 1 << 12;
    const DOUBLE_FAULT: u32 = 8;
    raw & VmxInterruptInfo::VALID != 0
        && raw & UNBLOCKED_BY_IRET != 0
        && raw & VmxInterruptInfo::VECTOR != DOUBLE_FAULT
}

#[cfg(test)]
mod tests;
