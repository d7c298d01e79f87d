//! Why an entry failed: the checks that the processor makes on the guest's state (SDM vol. 3, 27.3.1), in its order.
//!
//! The processor says only that the state is invalid; this says which rule it breaks first. Guests here are unrestricted, never in
//! system-management mode and never inject but from [`Event`](crate::event::Event), so that checks for the rest are left out.

/// Breaks off with the rule that is broken.
macro_rules! rule {
    ($holds:expr, $words:literal) => {
        if !$holds {
            return Err($words);
        }
    };
}

mod segments;
#[cfg(test)]
mod tests;

use super::{caps::FixedBits, guest_state::Interruptibility};
use crate::{
    cr::{cr0, cr4, efer},
    event::{InterruptInfo, InterruptKind},
    msr,
    regs::{SegmentName, rflags},
};

pub(crate) use segments::RawSegment;
use segments::access;

/// The guest's state, and of the controls what the checks need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestSnapshot {
    /// Of the processor: the bits of CR0 and CR4 that VMX fixes, and of a physical address those that it has.
    pub(crate) cr0_fixed: FixedBits,
    pub(crate) cr4_fixed: FixedBits,
    pub(crate) physical_bits: u32,

    /// Whether the entry is to IA-32e mode.
    pub(crate) ia32e: bool,
    pub(crate) injected: Option<InterruptInfo>,
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) pat: u64,
    pub(crate) dr7: u64,
    pub(crate) debugctl: u64,
    pub(crate) sysenter_esp: u64,
    pub(crate) sysenter_eip: u64,
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
    /// In the order of [`SegmentName`].
    pub(crate) segments: [RawSegment; 8],
    pub(crate) gdtr: (u64, u32),
    pub(crate) idtr: (u64, u32),
    pub(crate) activity: u32,
    pub(crate) interruptibility: u32,
    pub(crate) pending_debug: u64,
    pub(crate) link_pointer: u64,
    pub(crate) pdptes: [u64; 4],
}

/// Bits that may be set, and such as have no name elsewhere.
mod bits {
    use crate::cr::efer;

    pub(super) const CR4_CET: u64 = 1 << 23;
    pub(super) const EFER: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;
    pub(super) const DEBUGCTL: u64 = 0xffc7;
    pub(super) const DEBUGCTL_BTF: u64 = 1 << 1;
    pub(super) const RFLAGS: u64 = 0x3f_7fd7;
    pub(super) const PENDING_DEBUG: u64 = 0x1_500f;
    pub(super) const PENDING_DEBUG_BS: u64 = 1 << 14;
}

impl GuestSnapshot {
    /// The first rule that the state breaks, in words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.check_control_registers()?;
        self.check_segments()?;
        self.check_tables()?;
        self.check_rip_and_rflags()?;
        self.check_non_register_state()?;
        self.check_pdptes()
    }

    fn has_cr0(&self, bits: u64) -> bool {
        self.cr0 & bits == bits
    }

    fn has_cr4(&self, bits: u64) -> bool {
        self.cr4 & bits == bits
    }

    fn is_virtual_8086(&self) -> bool {
        self.rflags & rflags::VIRTUAL_8086 != 0
    }

    fn segment(&self, name: SegmentName) -> RawSegment {
        self.segments[name as usize]
    }

    fn is_canonical(&self, address: u64) -> bool {
        msr::is_canonical(address, if self.has_cr4(cr4::LA57) { 57 } else { 48 })
    }

    /// 27.3.1.1.
    fn check_control_registers(&self) -> Result<(), &'static str> {
        // An unrestricted guest may be without protection and without paging.
        let free = cr0::PE | cr0::PG;
        let cr0_fixed = FixedBits {
            must_be_set: self.cr0_fixed.must_be_set & !free,
            ..self.cr0_fixed
        };
        rule!(
            cr0_fixed.violated_by(self.cr0) == 0,
            "CR0 breaks bits that VMX fixes"
        );
        rule!(
            !self.has_cr0(cr0::PG) || self.has_cr0(cr0::PE),
            "CR0.PG is set without CR0.PE"
        );
        rule!(
            self.cr4_fixed.violated_by(self.cr4) == 0,
            "CR4 breaks bits that VMX fixes"
        );
        rule!(
            !self.has_cr4(bits::CR4_CET) || self.has_cr0(cr0::WP),
            "CR4.CET is set without CR0.WP"
        );
        rule!(
            self.debugctl & !bits::DEBUGCTL == 0,
            "IA32_DEBUGCTL has reserved bits"
        );
        if self.ia32e {
            rule!(self.has_cr0(cr0::PG), "IA-32e mode without CR0.PG");
            rule!(self.has_cr4(cr4::PAE), "IA-32e mode without CR4.PAE");
        } else {
            rule!(!self.has_cr4(cr4::PCIDE), "CR4.PCIDE outside IA-32e mode");
        }
        rule!(
            self.cr3 >> self.physical_bits == 0,
            "CR3 is beyond physical addresses"
        );
        rule!(self.dr7 >> 32 == 0, "DR7 has bits above 31");
        rule!(
            self.is_canonical(self.sysenter_esp),
            "IA32_SYSENTER_ESP is not canonical"
        );
        rule!(
            self.is_canonical(self.sysenter_eip),
            "IA32_SYSENTER_EIP is not canonical"
        );
        rule!(
            msr::is_valid_pat(self.pat),
            "IA32_PAT has a memory type that does not exist"
        );
        rule!(self.efer & !bits::EFER == 0, "IA32_EFER has reserved bits");
        rule!(
            (self.efer & efer::LMA != 0) == self.ia32e,
            "IA32_EFER.LMA differs from the entry's mode"
        );
        rule!(
            !self.has_cr0(cr0::PG) || (self.efer & efer::LME != 0) == self.ia32e,
            "IA32_EFER.LME differs from LMA while paging is on"
        );
        Ok(())
    }

    /// 27.3.1.3.
    fn check_tables(&self) -> Result<(), &'static str> {
        rule!(
            self.is_canonical(self.gdtr.0),
            "GDTR's base is not canonical"
        );
        rule!(
            self.is_canonical(self.idtr.0),
            "IDTR's base is not canonical"
        );
        rule!(self.gdtr.1 >> 16 == 0, "GDTR's limit is above 64 KiB");
        rule!(self.idtr.1 >> 16 == 0, "IDTR's limit is above 64 KiB");
        Ok(())
    }

    /// 27.3.1.4.
    fn check_rip_and_rflags(&self) -> Result<(), &'static str> {
        if self.ia32e && self.segment(SegmentName::Cs).has(access::LONG) {
            rule!(self.is_canonical(self.rip), "RIP is not canonical");
        } else {
            rule!(
                self.rip >> 32 == 0,
                "RIP is above 4 GiB outside 64-bit mode"
            );
        }
        rule!(self.rflags & !bits::RFLAGS == 0, "RFLAGS has reserved bits");
        rule!(
            self.rflags & rflags::ALWAYS != 0,
            "RFLAGS lacks the bit that is always set"
        );
        rule!(
            !self.is_virtual_8086() || (!self.ia32e && self.has_cr0(cr0::PE)),
            "RFLAGS.VM is set in IA-32e or real mode"
        );
        rule!(
            !self.injects(InterruptKind::External) || self.takes_interrupts(),
            "an interrupt is injected while RFLAGS.IF is clear"
        );
        Ok(())
    }

    fn takes_interrupts(&self) -> bool {
        self.rflags & rflags::INTERRUPT != 0
    }

    fn injects(&self, kind: InterruptKind) -> bool {
        self.injected.is_some_and(|event| event.kind == kind)
    }

    /// 27.3.1.5.
    fn check_non_register_state(&self) -> Result<(), &'static str> {
        const ACTIVE: u32 = 0;
        const HLT: u32 = 1;
        let blocking = Interruptibility::from_bits_retain(self.interruptibility);
        rule!(self.activity <= 3, "the activity state does not exist");
        rule!(
            self.activity != HLT || self.segment(SegmentName::Ss).dpl() == 0,
            "HLT state outside privilege level 0"
        );
        let shadow = blocking.intersects(Interruptibility::SHADOW);
        rule!(
            self.activity == ACTIVE || !shadow,
            "a state other than active while STI or MOV SS blocks"
        );
        rule!(
            Interruptibility::all().contains(blocking),
            "the interruptibility state has reserved bits"
        );
        rule!(
            !blocking.contains(Interruptibility::SHADOW),
            "STI and MOV SS block both"
        );
        rule!(
            !blocking.contains(Interruptibility::STI) || self.takes_interrupts(),
            "STI blocks while RFLAGS.IF is clear"
        );
        rule!(
            !self.injects(InterruptKind::External) || !shadow,
            "an interrupt is injected while STI or MOV SS blocks"
        );
        rule!(
            !self.injects(InterruptKind::Nmi) || !blocking.contains(Interruptibility::MOV_SS),
            "an NMI is injected while MOV SS blocks"
        );
        rule!(
            !blocking.contains(Interruptibility::SMI),
            "SMIs are blocked outside system-management mode"
        );
        rule!(
            !self.injects(InterruptKind::Nmi) || !blocking.contains(Interruptibility::NMI),
            "an NMI is injected while NMIs are blocked"
        );
        rule!(
            self.pending_debug & !bits::PENDING_DEBUG == 0,
            "the pending debug exceptions have reserved bits"
        );
        if shadow || self.activity == HLT {
            let steps = self.rflags & rflags::TRAP != 0 && self.debugctl & bits::DEBUGCTL_BTF == 0;
            rule!(
                (self.pending_debug & bits::PENDING_DEBUG_BS != 0) == steps,
                "the pending single step does not agree with RFLAGS.TF"
            );
        }
        rule!(
            self.link_pointer == u64::MAX,
            "the VMCS link pointer is not all ones"
        );
        Ok(())
    }

    /// 27.3.1.6.
    fn check_pdptes(&self) -> Result<(), &'static str> {
        const PRESENT: u64 = 1 << 0;
        const RESERVED: u64 = 0x1e6;
        let uses_them = self.has_cr0(cr0::PG) && self.has_cr4(cr4::PAE) && !self.ia32e;
        rule!(
            !uses_them
                || self.pdptes.iter().all(|entry| {
                    entry & PRESENT == 0
                        || entry & RESERVED == 0 && entry >> self.physical_bits == 0
                }),
            "a PDPTE has reserved bits"
        );
        Ok(())
    }
}
