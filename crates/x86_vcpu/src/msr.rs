//! Model-specific registers: which a guest has, and what each is.
//!
//! One table says it. What is not in the table, the guest has not: #GP. None of these accesses reaches the processor's own register, but for those
//! that are the guest's while it runs ([`PASS_THROUGH`]) and TSC_AUX.

pub(crate) mod permissions;

use crate::regs::Register;

/// Numbers of MSRs (Intel SDM 4; AMD APM 2, "MSR Cross-Reference").
pub(crate) mod number {
    pub(crate) const SYSENTER_CS: u32 = 0x174;
    pub(crate) const SYSENTER_ESP: u32 = 0x175;
    pub(crate) const SYSENTER_EIP: u32 = 0x176;
    pub(crate) const MICROCODE_REVISION: u32 = 0x8b;
    pub(crate) const EFER: u32 = 0xc000_0080;
    pub(crate) const STAR: u32 = 0xc000_0081;
    pub(crate) const LSTAR: u32 = 0xc000_0082;
    pub(crate) const CSTAR: u32 = 0xc000_0083;
    pub(crate) const SFMASK: u32 = 0xc000_0084;
    pub(crate) const FS_BASE: u32 = 0xc000_0100;
    pub(crate) const GS_BASE: u32 = 0xc000_0101;
    pub(crate) const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub(crate) const TSC_AUX: u32 = 0xc000_0103;
}

use number::{
    CSTAR, EFER, FS_BASE, GS_BASE, KERNEL_GS_BASE, LSTAR, MICROCODE_REVISION, SFMASK, STAR,
    SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP, TSC_AUX,
};

/// The MSRs that a guest reads and writes without an exit: both vendors' bitmaps let these and no others through. They are the guest's while it runs.
pub(crate) const PASS_THROUGH: [u32; 10] = [
    SYSENTER_CS,
    SYSENTER_ESP,
    SYSENTER_EIP,
    STAR,
    LSTAR,
    CSTAR,
    SFMASK,
    FS_BASE,
    GS_BASE,
    KERNEL_GS_BASE,
];

/// Those of them that no VMCS holds. The host does not use them, so VMX switches them at `load` and `save`; VMLOAD and VMSAVE know them.
pub(crate) const SWITCHED: [u32; 5] = [STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE];

/// What becomes of a write that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnWrite {
    /// It is ignored, as by hardware that has no such switch.
    Ignore,
    /// #GP: the register can only be read.
    Fault,
}

/// What an MSR is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MsrKind {
    /// A register of the backend's, whose new value must be canonical: an address.
    Address(Register),
    /// One that takes any value.
    Plain(Register),
    /// EFER, whose rules are those of control registers.
    Efer,
    /// The page attribute table, whose bytes must be memory types.
    Pat,
    /// The base of FS or GS.
    FsBase,
    GsBase,
    /// The counter itself. It is the same for all vCPUs, so a write is ignored.
    Tsc,
    /// What RDTSCP and RDPID read.
    TscAux,
    /// The host's microcode revision.
    Microcode,
    /// A device's: the local APIC.
    Device,
    /// Kept in [`MsrStorage`], in this place; a write must not set other bits than these.
    Stored {
        place: usize,
        writable: u64,
    },
    /// Always this.
    Constant(u64, OnWrite),
}

/// Places in [`MsrStorage`]: memory type ranges first.
const VARIABLE_RANGES: u32 = 8;
const FIXED_PLACE: usize = 2 * VARIABLE_RANGES as usize;
const DEFAULT_TYPE_PLACE: usize = FIXED_PLACE + FIXED_RANGES.len();
const MISC_ENABLE_PLACE: usize = DEFAULT_TYPE_PLACE + 1;
const HWCR_PLACE: usize = MISC_ENABLE_PLACE + 1;
const PLACES: usize = HWCR_PLACE + 1;

const MTRR_FIRST_VARIABLE: u32 = 0x200;
/// The MSRs of the fixed memory type ranges.
const FIXED_RANGES: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
/// IA32_MTRRCAP: the ranges above, and write combining.
const MTRR_CAPABILITIES: u64 = VARIABLE_RANGES as u64 | 1 << 8 | 1 << 10;

/// IA32_MISC_ENABLE: fast strings on; no branch trace, no precise events.
const MISC_ENABLE: u64 = 1 << 0 | 1 << 11 | 1 << 12;
/// HWCR: the TSC counts at the frequency of the highest performance state.
const HWCR: u64 = 1 << 24;
/// IA32_FEATURE_CONTROL: locked, with nothing enabled.
const FEATURE_CONTROL: u64 = 1;
/// DE_CFG: LFENCE serializes.
const DE_CFG: u64 = 1 << 1;

/// The single ones.
const TABLE: &[(u32, MsrKind)] = &[
    (0x10, MsrKind::Tsc),
    (0x17, MsrKind::Constant(0, OnWrite::Fault)), // PLATFORM_ID
    (0x1b, MsrKind::Device),                      // APIC_BASE
    (0x34, MsrKind::Constant(0, OnWrite::Fault)), // SMI_COUNT
    (0x3a, MsrKind::Constant(FEATURE_CONTROL, OnWrite::Fault)),
    (0x3b, MsrKind::Constant(0, OnWrite::Ignore)), // TSC_ADJUST: all vCPUs have the same TSC
    (MICROCODE_REVISION, MsrKind::Microcode),
    (0xce, MsrKind::Constant(0, OnWrite::Fault)), // PLATFORM_INFO
    (0xfe, MsrKind::Constant(MTRR_CAPABILITIES, OnWrite::Fault)),
    (SYSENTER_CS, MsrKind::Plain(Register::SysenterCs)),
    (SYSENTER_ESP, MsrKind::Address(Register::SysenterEsp)),
    (SYSENTER_EIP, MsrKind::Address(Register::SysenterEip)),
    (0x179, MsrKind::Constant(0, OnWrite::Fault)), // MCG_CAP: no banks
    (0x17a, MsrKind::Constant(0, OnWrite::Ignore)), // MCG_STATUS
    (0x17b, MsrKind::Constant(0, OnWrite::Ignore)), // MCG_CTL
    (
        0x1a0,
        MsrKind::Stored {
            place: MISC_ENABLE_PLACE,
            writable: u64::MAX,
        },
    ),
    (0x1d9, MsrKind::Constant(0, OnWrite::Ignore)), // DEBUGCTL: no branch records
    (0x277, MsrKind::Pat),
    (
        0x2ff,
        MsrKind::Stored {
            place: DEFAULT_TYPE_PLACE,
            writable: 0xcff,
        },
    ),
    (0x6e0, MsrKind::Device), // TSC_DEADLINE
    (EFER, MsrKind::Efer),
    (STAR, MsrKind::Plain(Register::Star)),
    (LSTAR, MsrKind::Address(Register::Lstar)),
    (CSTAR, MsrKind::Address(Register::Cstar)),
    (SFMASK, MsrKind::Plain(Register::Sfmask)),
    (FS_BASE, MsrKind::FsBase),
    (GS_BASE, MsrKind::GsBase),
    (KERNEL_GS_BASE, MsrKind::Address(Register::KernelGsBase)),
    (TSC_AUX, MsrKind::TscAux),
    (0xc001_0010, MsrKind::Constant(0, OnWrite::Ignore)), // SYSCFG
    (
        0xc001_0015,
        MsrKind::Stored {
            place: HWCR_PLACE,
            writable: u64::MAX,
        },
    ),
    (0xc001_001a, MsrKind::Constant(0, OnWrite::Ignore)), // TOP_MEM
    (0xc001_001d, MsrKind::Constant(0, OnWrite::Ignore)), // TOP_MEM2
    (0xc001_001f, MsrKind::Constant(0, OnWrite::Ignore)), // NB_CFG
    (0xc001_0055, MsrKind::Constant(0, OnWrite::Ignore)), // interrupt pending message
    (0xc001_0058, MsrKind::Constant(0, OnWrite::Ignore)), // MMIO configuration base
    (0xc001_1029, MsrKind::Constant(DE_CFG, OnWrite::Ignore)),
];

/// What MSR `number` is; `None`: the guest has not got it.
pub(crate) fn kind(number: u32) -> Option<MsrKind> {
    let stored = |place| MsrKind::Stored {
        place,
        writable: u64::MAX,
    };
    match number {
        0x800..=0x8ff => return Some(MsrKind::Device), // x2APIC
        MTRR_FIRST_VARIABLE..0x210 => {
            return Some(stored((number - MTRR_FIRST_VARIABLE) as usize));
        }
        0x250..0x270 => {
            let place = FIXED_RANGES.iter().position(|&fixed| fixed == number)?;
            return Some(stored(FIXED_PLACE + place));
        }
        _ => {}
    }
    let place = TABLE
        .binary_search_by_key(&number, |&(number, _)| number)
        .ok()?;
    TABLE.get(place).map(|&(_, kind)| kind)
}

/// Those MSRs that only keep what is written to them.
#[derive(Clone, Debug)]
pub(crate) struct MsrStorage([u64; PLACES]);

impl MsrStorage {
    /// As at reset.
    pub(crate) const fn new() -> Self {
        let mut values = [0; PLACES];
        values[MISC_ENABLE_PLACE] = MISC_ENABLE;
        values[HWCR_PLACE] = HWCR;
        Self(values)
    }

    pub(crate) fn read(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }

    pub(crate) fn write(&mut self, place: usize, value: u64) {
        if let Some(stored) = self.0.get_mut(place) {
            *stored = value;
        }
    }
}

/// PAT at reset.
pub(crate) const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// Whether each byte is one of the memory types (SDM 3A, "IA32_PAT MSR").
pub(crate) fn is_valid_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .iter()
        .all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

/// Whether all bits from `bits - 1` up are the same.
pub(crate) const fn is_canonical(address: u64, bits: u32) -> bool {
    let shift = 64 - bits;
    ((address << shift) as i64 >> shift) as u64 == address
}

#[cfg(test)]
mod tests;
