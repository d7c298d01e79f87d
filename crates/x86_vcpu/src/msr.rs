//! Model-specific registers: which a guest has, and what each is.
//!
//! One table says it. What is not in the table, the guest has not: #GP. None of these accesses reaches the processor's own register, but for those
//! that are the guest's while it runs ([`PASS_THROUGH`]) and TSC_AUX.

pub(crate) mod permissions;

use crate::regs::Register;

/// Numbers of MSRs, by the manuals' names without `IA32_` and `MSR_`.
pub(crate) mod number {
    // Intel SDM volume 4, chapter 2, "Architectural MSRs", but for SMI_COUNT and PLATFORM_INFO, which are of the models that have them.
    pub(super) const TIME_STAMP_COUNTER: u32 = 0x10;
    pub(super) const PLATFORM_ID: u32 = 0x17;
    pub(super) const APIC_BASE: u32 = 0x1b;
    pub(super) const SMI_COUNT: u32 = 0x34;
    pub(super) const FEATURE_CONTROL: u32 = 0x3a;
    pub(super) const TSC_ADJUST: u32 = 0x3b;
    /// `IA32_BIOS_SIGN_ID`; AMD's is in the same place.
    pub(crate) const MICROCODE_REVISION: u32 = 0x8b;
    pub(super) const PLATFORM_INFO: u32 = 0xce;
    pub(super) const MTRRCAP: u32 = 0xfe;
    pub(crate) const SYSENTER_CS: u32 = 0x174;
    pub(crate) const SYSENTER_ESP: u32 = 0x175;
    pub(crate) const SYSENTER_EIP: u32 = 0x176;
    pub(super) const MCG_CAP: u32 = 0x179;
    pub(super) const MCG_STATUS: u32 = 0x17a;
    pub(super) const MCG_CTL: u32 = 0x17b;
    pub(super) const MISC_ENABLE: u32 = 0x1a0;
    pub(super) const DEBUGCTL: u32 = 0x1d9;
    /// Each range has a base and then a mask.
    pub(super) const MTRR_PHYSBASE0: u32 = 0x200;
    pub(super) const MTRR_FIX64K_00000: u32 = 0x250;
    pub(super) const MTRR_FIX16K_80000: u32 = 0x258;
    pub(super) const MTRR_FIX16K_A0000: u32 = 0x259;
    pub(super) const MTRR_FIX4K_C0000: u32 = 0x268;
    pub(super) const MTRR_FIX4K_C8000: u32 = 0x269;
    pub(super) const MTRR_FIX4K_D0000: u32 = 0x26a;
    pub(super) const MTRR_FIX4K_D8000: u32 = 0x26b;
    pub(super) const MTRR_FIX4K_E0000: u32 = 0x26c;
    pub(super) const MTRR_FIX4K_E8000: u32 = 0x26d;
    pub(super) const MTRR_FIX4K_F0000: u32 = 0x26e;
    pub(super) const MTRR_FIX4K_F8000: u32 = 0x26f;
    pub(crate) const PAT: u32 = 0x277;
    pub(super) const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub(super) const TSC_DEADLINE: u32 = 0x6e0;
    /// The local APIC's registers in x2APIC mode begin here (Intel SDM volume 3, 12.12.1.2).
    pub(super) const X2APIC: u32 = 0x800;

    // Both vendors' (AMD APM volume 2, "MSR Cross-Reference").
    pub(crate) const EFER: u32 = 0xc000_0080;
    pub(crate) const STAR: u32 = 0xc000_0081;
    pub(crate) const LSTAR: u32 = 0xc000_0082;
    pub(crate) const CSTAR: u32 = 0xc000_0083;
    pub(crate) const SFMASK: u32 = 0xc000_0084;
    pub(crate) const FS_BASE: u32 = 0xc000_0100;
    pub(crate) const GS_BASE: u32 = 0xc000_0101;
    pub(crate) const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub(crate) const TSC_AUX: u32 = 0xc000_0103;

    // AMD's (the same appendix; from NB_CFG on, the PPRs of its processors).
    pub(super) const SYSCFG: u32 = 0xc001_0010;
    pub(super) const HWCR: u32 = 0xc001_0015;
    pub(super) const TOP_MEM: u32 = 0xc001_001a;
    pub(super) const TOP_MEM2: u32 = 0xc001_001d;
    pub(super) const NB_CFG: u32 = 0xc001_001f;
    pub(super) const INTERRUPT_PENDING: u32 = 0xc001_0055;
    pub(super) const MMIO_CONFIGURATION_BASE: u32 = 0xc001_0058;
    pub(super) const DE_CFG: u32 = 0xc001_1029;
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

/// The first MSR past those of the variable memory type ranges.
const VARIABLE_END: u32 = number::MTRR_PHYSBASE0 + 2 * VARIABLE_RANGES;
/// The MSRs of the fixed memory type ranges.
const FIXED_RANGES: [u32; 11] = [
    number::MTRR_FIX64K_00000,
    number::MTRR_FIX16K_80000,
    number::MTRR_FIX16K_A0000,
    number::MTRR_FIX4K_C0000,
    number::MTRR_FIX4K_C8000,
    number::MTRR_FIX4K_D0000,
    number::MTRR_FIX4K_D8000,
    number::MTRR_FIX4K_E0000,
    number::MTRR_FIX4K_E8000,
    number::MTRR_FIX4K_F0000,
    number::MTRR_FIX4K_F8000,
];
/// The last MSR of a local APIC.
const X2APIC_LAST: u32 = number::X2APIC + 0xff;
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
    (number::TIME_STAMP_COUNTER, MsrKind::Tsc),
    (number::PLATFORM_ID, MsrKind::Constant(0, OnWrite::Fault)),
    (number::APIC_BASE, MsrKind::Device),
    (number::SMI_COUNT, MsrKind::Constant(0, OnWrite::Fault)),
    (
        number::FEATURE_CONTROL,
        MsrKind::Constant(FEATURE_CONTROL, OnWrite::Fault),
    ),
    // All vCPUs have the same TSC.
    (number::TSC_ADJUST, MsrKind::Constant(0, OnWrite::Ignore)),
    (MICROCODE_REVISION, MsrKind::Microcode),
    (number::PLATFORM_INFO, MsrKind::Constant(0, OnWrite::Fault)),
    (
        number::MTRRCAP,
        MsrKind::Constant(MTRR_CAPABILITIES, OnWrite::Fault),
    ),
    (SYSENTER_CS, MsrKind::Plain(Register::SysenterCs)),
    (SYSENTER_ESP, MsrKind::Address(Register::SysenterEsp)),
    (SYSENTER_EIP, MsrKind::Address(Register::SysenterEip)),
    // There are no banks.
    (number::MCG_CAP, MsrKind::Constant(0, OnWrite::Fault)),
    (number::MCG_STATUS, MsrKind::Constant(0, OnWrite::Ignore)),
    (number::MCG_CTL, MsrKind::Constant(0, OnWrite::Ignore)),
    (
        number::MISC_ENABLE,
        MsrKind::Stored {
            place: MISC_ENABLE_PLACE,
            writable: u64::MAX,
        },
    ),
    // No branch records.
    (number::DEBUGCTL, MsrKind::Constant(0, OnWrite::Ignore)),
    (number::PAT, MsrKind::Pat),
    (
        number::MTRR_DEF_TYPE,
        MsrKind::Stored {
            place: DEFAULT_TYPE_PLACE,
            writable: 0xcff,
        },
    ),
    (number::TSC_DEADLINE, MsrKind::Device),
    (EFER, MsrKind::Efer),
    (STAR, MsrKind::Plain(Register::Star)),
    (LSTAR, MsrKind::Address(Register::Lstar)),
    (CSTAR, MsrKind::Address(Register::Cstar)),
    (SFMASK, MsrKind::Plain(Register::Sfmask)),
    (FS_BASE, MsrKind::FsBase),
    (GS_BASE, MsrKind::GsBase),
    (KERNEL_GS_BASE, MsrKind::Address(Register::KernelGsBase)),
    (TSC_AUX, MsrKind::TscAux),
    (number::SYSCFG, MsrKind::Constant(0, OnWrite::Ignore)),
    (
        number::HWCR,
        MsrKind::Stored {
            place: HWCR_PLACE,
            writable: u64::MAX,
        },
    ),
    (number::TOP_MEM, MsrKind::Constant(0, OnWrite::Ignore)),
    (number::TOP_MEM2, MsrKind::Constant(0, OnWrite::Ignore)),
    (number::NB_CFG, MsrKind::Constant(0, OnWrite::Ignore)),
    (
        number::INTERRUPT_PENDING,
        MsrKind::Constant(0, OnWrite::Ignore),
    ),
    (
        number::MMIO_CONFIGURATION_BASE,
        MsrKind::Constant(0, OnWrite::Ignore),
    ),
    (number::DE_CFG, MsrKind::Constant(DE_CFG, OnWrite::Ignore)),
];

/// What MSR `number` is; `None`: the guest has not got it.
pub(crate) fn kind(number: u32) -> Option<MsrKind> {
    let stored = |place| MsrKind::Stored {
        place,
        writable: u64::MAX,
    };
    match number {
        number::X2APIC..=X2APIC_LAST => return Some(MsrKind::Device),
        number::MTRR_PHYSBASE0..VARIABLE_END => {
            return Some(stored((number - number::MTRR_PHYSBASE0) as usize));
        }
        number::MTRR_FIX64K_00000..=number::MTRR_FIX4K_F8000 => {
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
