//! The rules of the control registers: which values a guest may write, and what follows from them (Intel SDM 3A, "Control Registers"; AMD APM 2,
//! "System-Control Registers").
//!
//! Where the hardware keeps these rules itself, the guest's writes do not come here.

use crate::{
    cpuid::{CpuidTable, Leaf},
    event::Exception,
    xsave::XCR0_ALWAYS,
};

/// Bits of CR0.
pub(crate) mod cr0 {
    pub(crate) const PE: u64 = 1 << 0;
    pub(crate) const MP: u64 = 1 << 1;
    pub(crate) const EM: u64 = 1 << 2;
    pub(crate) const TS: u64 = 1 << 3;
    pub(crate) const ET: u64 = 1 << 4;
    pub(crate) const NE: u64 = 1 << 5;
    pub(crate) const WP: u64 = 1 << 16;
    pub(crate) const AM: u64 = 1 << 18;
    pub(crate) const NW: u64 = 1 << 29;
    pub(crate) const CD: u64 = 1 << 30;
    pub(crate) const PG: u64 = 1 << 31;
    /// At reset.
    pub(crate) const RESET: u64 = CD | NW | ET;
    /// All that can be written; the others are ignored, but above bit 31.
    pub(crate) const WRITABLE: u64 = PE | MP | EM | TS | NE | WP | AM | NW | CD | PG;
}

/// Bits of CR4.
pub(crate) mod cr4 {
    pub(crate) const VME: u64 = 1 << 0;
    pub(crate) const PVI: u64 = 1 << 1;
    pub(crate) const TSD: u64 = 1 << 2;
    pub(crate) const DE: u64 = 1 << 3;
    pub(crate) const PSE: u64 = 1 << 4;
    pub(crate) const PAE: u64 = 1 << 5;
    pub(crate) const MCE: u64 = 1 << 6;
    pub(crate) const PGE: u64 = 1 << 7;
    pub(crate) const PCE: u64 = 1 << 8;
    pub(crate) const OSFXSR: u64 = 1 << 9;
    pub(crate) const OSXMMEXCPT: u64 = 1 << 10;
    pub(crate) const UMIP: u64 = 1 << 11;
    pub(crate) const LA57: u64 = 1 << 12;
    /// The host's alone.
    pub(crate) const VMXE: u64 = 1 << 13;
    pub(crate) const FSGSBASE: u64 = 1 << 16;
    pub(crate) const PCIDE: u64 = 1 << 17;
    pub(crate) const OSXSAVE: u64 = 1 << 18;
    pub(crate) const SMEP: u64 = 1 << 20;
    pub(crate) const SMAP: u64 = 1 << 21;
    pub(crate) const CET: u64 = 1 << 23;
}

/// Bits of EFER.
pub(crate) mod efer {
    pub(crate) const SCE: u64 = 1 << 0;
    pub(crate) const LME: u64 = 1 << 8;
    pub(crate) const LMA: u64 = 1 << 10;
    pub(crate) const NXE: u64 = 1 << 11;
    pub(crate) const FFXSR: u64 = 1 << 14;
}

/// The registers that say how the guest's addresses are translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlRegisters {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
}

impl ControlRegisters {
    /// Paging with the four entries that the processor loads with CR3 (SDM 3A, "PAE Paging").
    pub(crate) const fn is_pae(&self) -> bool {
        self.cr0 & cr0::PG != 0 && self.cr4 & cr4::PAE != 0 && self.efer & efer::LMA == 0
    }
}

/// What the guest's CS says of the code that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeSize {
    /// 16 or 32 bits.
    Legacy,
    /// 64 bits.
    Long,
}

const FAULT: Exception = Exception::GENERAL_PROTECTION;

/// What the registers are after `value` is written to CR0.
pub(crate) fn write_cr0(
    now: ControlRegisters,
    code: CodeSize,
    value: u64,
) -> Result<ControlRegisters, Exception> {
    let has = |bit| value & bit != 0;
    if value >> 32 != 0 || has(cr0::PG) && !has(cr0::PE) || has(cr0::NW) && !has(cr0::CD) {
        return Err(FAULT);
    }
    let mut next = ControlRegisters {
        cr0: value & cr0::WRITABLE | cr0::ET,
        ..now
    };
    match (now.cr0 & cr0::PG != 0, has(cr0::PG)) {
        (false, true) if now.efer & efer::LME != 0 => {
            if now.cr4 & cr4::PAE == 0 || code == CodeSize::Long {
                return Err(FAULT);
            }
            next.efer |= efer::LMA;
        }
        (true, false) => {
            if code == CodeSize::Long || now.cr4 & cr4::PCIDE != 0 {
                return Err(FAULT);
            }
            next.efer &= !efer::LMA;
        }
        (false, true) | (false, false) | (true, true) => {}
    }
    Ok(next)
}

/// What the registers are after `value`, of which `allowed` may be set, is written to CR4.
pub(crate) fn write_cr4(
    now: ControlRegisters,
    allowed: u64,
    value: u64,
) -> Result<ControlRegisters, Exception> {
    let long = now.efer & efer::LMA != 0;
    let changed = now.cr4 ^ value;
    if value & !allowed != 0
        || long && (value & cr4::PAE == 0 || changed & cr4::LA57 != 0)
        || changed & value & cr4::PCIDE != 0 && (!long || now.cr3 & 0xfff != 0)
    {
        return Err(FAULT);
    }
    Ok(ControlRegisters { cr4: value, ..now })
}

/// EFER after `value`, of which `allowed` may be set, is written to it.
pub(crate) fn write_efer(
    now: ControlRegisters,
    allowed: u64,
    value: u64,
) -> Result<u64, Exception> {
    let value = value & !efer::LMA;
    if value & !allowed != 0 || now.cr0 & cr0::PG != 0 && (now.efer ^ value) & efer::LME != 0 {
        return Err(FAULT);
    }
    Ok(value | now.efer & efer::LMA)
}

/// Whether XCR0 may hold `value`, of which `allowed` may be set (SDM 1, "Enabling the XSAVE Feature Set").
pub(crate) const fn xcr0_is_valid(allowed: u64, value: u64) -> bool {
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    const AVX512: u64 = 0b111 << 5;
    value & XCR0_ALWAYS != 0
        && value & !allowed == 0
        && (value & AVX == 0 || value & SSE != 0)
        && (value & AVX512 == 0 || value & AVX512 == AVX512 && value & AVX != 0)
}

/// What LMSW of `source` writes to CR0: the low four bits, of which PE is never cleared.
pub(crate) const fn lmsw(cr0: u64, source: u16) -> u64 {
    cr0 & !0xe | source as u64 & 0xf
}

/// The bits of CR4 that a CPU with these features has.
pub(crate) fn cr4_of(leaf: impl Fn(Leaf) -> u32) -> u64 {
    let mut bits = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::TSD | cr4::PCE;
    for &(from, mask, bit) in CR4_FEATURES {
        if leaf(from) & mask != 0 {
            bits |= bit;
        }
    }
    bits
}

/// Which feature brings which bits of CR4.
const CR4_FEATURES: &[(Leaf, u32, u64)] = &[
    (Leaf::Edx1, 1 << 1, cr4::VME | cr4::PVI),
    (Leaf::Edx1, 1 << 2, cr4::DE),
    (Leaf::Edx1, 1 << 3, cr4::PSE),
    (Leaf::Edx1, 1 << 6, cr4::PAE),
    (Leaf::Edx1, 1 << 7, cr4::MCE),
    (Leaf::Edx1, 1 << 13, cr4::PGE),
    (Leaf::Ecx1, 1 << 17, cr4::PCIDE),
    (Leaf::Ecx1, 1 << 26, cr4::OSXSAVE),
    (Leaf::Ebx7, 1 << 0, cr4::FSGSBASE),
    (Leaf::Ebx7, 1 << 7, cr4::SMEP),
    (Leaf::Ebx7, 1 << 20, cr4::SMAP),
    (Leaf::Ecx7, 1 << 2, cr4::UMIP),
    (Leaf::Ecx7, 1 << 16, cr4::LA57),
];

/// The bits of EFER that a guest with this table has.
pub(crate) fn efer_of(table: &CpuidTable) -> u64 {
    let edx = table.feature(Leaf::ExtendedEdx1);
    let mut bits = 0;
    for (feature, bit) in [
        (1 << 11, efer::SCE),
        (1 << 20, efer::NXE),
        (1 << 25, efer::FFXSR),
        (1 << 29, efer::LME),
    ] {
        if edx & feature != 0 {
            bits |= bit;
        }
    }
    bits
}

#[cfg(test)]
mod tests;
