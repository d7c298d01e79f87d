//! Which rule of the architecture a guest's state breaks, in words.
//!
//! A processor that does not enter a guest says only that its state is not valid; this says what is wrong with it. Intel's processors keep guests to all of
//! these rules, and in this order (SDM vol. 3, 27.3.1); AMD's refuse what breaks those of the control registers (APM 2, "Canonicalization and Consistency
//! Checks"). What only one vendor demands, its own part checks.

/// Breaks off with the rule that is broken.
macro_rules! rule {
    ($holds:expr, $words:literal) => {
        if !$holds {
            return Err($words);
        }
    };
}
pub(crate) use rule;

mod segments;
#[cfg(test)]
pub(crate) mod tests;

use crate::{
    backend::VendorVcpu,
    cr::{ControlRegisters, cr0, cr4, efer},
    hardware, msr,
    regs::{DescriptorTable, Register, Segment, SegmentName, TableName, rflags},
};

/// Said of a guest that was refused though it breaks none of the rules.
pub(crate) const NO_RULE: &str =
    "the processor refused the guest's state for a rule that is not among those checked here";

/// How many bits a physical address has (CPUID, leaf 0x8000_0008).
fn physical_bits() -> u32 {
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    match hardware::cpuid(ADDRESS_SIZES, 0).eax & 0xff {
        0 => 36,
        bits => bits.min(52),
    }
}

/// A guest's state, as far as there are rules for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestState {
    /// Of the processor.
    pub(crate) physical_bits: u32,

    pub(crate) control: ControlRegisters,
    pub(crate) pat: u64,
    pub(crate) dr6: u64,
    pub(crate) dr7: u64,
    pub(crate) sysenter_esp: u64,
    pub(crate) sysenter_eip: u64,
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
    pub(crate) privilege: u8,
    /// In the order of [`SegmentName`].
    pub(crate) segments: [Segment; 8],
    pub(crate) gdtr: DescriptorTable,
    pub(crate) idtr: DescriptorTable,
}

impl GuestState {
    /// What `vcpu` is to be entered with.
    pub(crate) fn of(vcpu: &impl VendorVcpu) -> Self {
        Self {
            physical_bits: physical_bits(),
            control: ControlRegisters {
                cr0: vcpu.get(Register::Cr0),
                cr3: vcpu.get(Register::Cr3),
                cr4: vcpu.get(Register::Cr4),
                efer: vcpu.get(Register::Efer),
            },
            pat: vcpu.get(Register::Pat),
            dr6: vcpu.get(Register::Dr6),
            dr7: vcpu.get(Register::Dr7),
            sysenter_esp: vcpu.get(Register::SysenterEsp),
            sysenter_eip: vcpu.get(Register::SysenterEip),
            rip: vcpu.get(Register::Rip),
            rflags: vcpu.get(Register::Rflags),
            privilege: vcpu.privilege(),
            segments: SegmentName::ALL.map(|name| vcpu.segment(name)),
            gdtr: vcpu.table(TableName::Gdtr),
            idtr: vcpu.table(TableName::Idtr),
        }
    }

    /// The first rule that the state breaks, in words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.check_control_registers()?;
        self.check_segments()?;
        self.check_addresses()?;
        self.check_rip_and_rflags()
    }

    fn has_cr0(&self, bits: u64) -> bool {
        self.control.cr0 & bits != 0
    }

    fn has_cr4(&self, bits: u64) -> bool {
        self.control.cr4 & bits != 0
    }

    fn has_efer(&self, bits: u64) -> bool {
        self.control.efer & bits != 0
    }

    pub(crate) fn is_long(&self) -> bool {
        self.has_efer(efer::LMA)
    }

    fn is_virtual_8086(&self) -> bool {
        self.rflags & rflags::VIRTUAL_8086 != 0
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.segments[name as usize]
    }

    fn is_canonical(&self, address: u64) -> bool {
        msr::is_canonical(address, if self.has_cr4(cr4::LA57) { 57 } else { 48 })
    }

    fn check_control_registers(&self) -> Result<(), &'static str> {
        rule!(self.control.cr0 >> 32 == 0, "CR0 has bits above 31");
        rule!(
            !self.has_cr0(cr0::NW) || self.has_cr0(cr0::CD),
            "CR0.NW is set without CR0.CD"
        );
        rule!(
            !self.has_cr0(cr0::PG) || self.has_cr0(cr0::PE),
            "CR0.PG is set without CR0.PE"
        );
        rule!(
            !self.has_cr4(cr4::CET) || self.has_cr0(cr0::WP),
            "CR4.CET is set without CR0.WP"
        );
        rule!(
            !self.has_cr0(cr0::PG) || self.has_efer(efer::LME) == self.is_long(),
            "EFER.LME differs from LMA while paging is on"
        );
        if self.is_long() {
            rule!(self.has_cr0(cr0::PG), "long mode without CR0.PG");
            rule!(self.has_cr4(cr4::PAE), "long mode without CR4.PAE");
        } else {
            rule!(!self.has_cr4(cr4::PCIDE), "CR4.PCIDE outside long mode");
        }
        rule!(
            self.control.cr3 >> self.physical_bits == 0,
            "CR3 is beyond physical addresses"
        );
        rule!(self.dr6 >> 32 == 0, "DR6 has bits above 31");
        rule!(self.dr7 >> 32 == 0, "DR7 has bits above 31");
        rule!(
            msr::is_valid_pat(self.pat),
            "the PAT has a memory type that does not exist"
        );
        let cs = self.segment(SegmentName::Cs).rights;
        rule!(
            !(self.is_long() && cs.is_long() && cs.is_big()),
            "CS is both 64-bit and 32-bit"
        );
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), &'static str> {
        rule!(
            self.is_canonical(self.sysenter_esp),
            "SYSENTER_ESP is not canonical"
        );
        rule!(
            self.is_canonical(self.sysenter_eip),
            "SYSENTER_EIP is not canonical"
        );
        rule!(
            self.is_canonical(self.gdtr.base),
            "GDTR's base is not canonical"
        );
        rule!(
            self.is_canonical(self.idtr.base),
            "IDTR's base is not canonical"
        );
        Ok(())
    }

    fn check_rip_and_rflags(&self) -> Result<(), &'static str> {
        if self.is_long() && self.segment(SegmentName::Cs).rights.is_long() {
            rule!(self.is_canonical(self.rip), "RIP is not canonical");
        } else {
            rule!(
                self.rip >> 32 == 0,
                "RIP is above 4 GiB outside 64-bit mode"
            );
        }
        rule!(self.rflags & !rflags::ALL == 0, "RFLAGS has reserved bits");
        rule!(
            self.rflags & rflags::ALWAYS != 0,
            "RFLAGS lacks the bit that is always set"
        );
        rule!(
            !self.is_virtual_8086() || (!self.is_long() && self.has_cr0(cr0::PE)),
            "RFLAGS.VM is set in long or real mode"
        );
        Ok(())
    }
}
