//! Why an entry failed: the checks that the processor makes on the guest's state (SDM vol. 3, 27.3.1), in its order.
//!
//! The processor says only that the state is invalid; this says which rule it breaks first. Guests here are unrestricted, never in
//! system-management mode and never inject but from [`Event`](crate::event::Event), so that checks for the rest are left out.

use super::{
    caps::FixedBits,
    exit_info::{InterruptKind, VmxInterruptInfo},
    guest_state::Interruptibility,
};
use crate::{
    cr::{cr0, cr4, efer},
    msr,
    regs::{SegmentName, rflags},
};

/// A segment register as the VMCS holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawSegment {
    pub(crate) selector: u16,
    pub(crate) base: u64,
    pub(crate) limit: u32,
    pub(crate) access: u32,
}

/// The guest's state, and of the controls what the checks need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestSnapshot {
    /// Of the processor: the bits of CR0 and CR4 that VMX fixes, and of a physical address those that it has.
    pub(crate) cr0_fixed: FixedBits,
    pub(crate) cr4_fixed: FixedBits,
    pub(crate) physical_bits: u32,

    /// Whether the entry is to IA-32e mode.
    pub(crate) ia32e: bool,
    pub(crate) injected: Option<VmxInterruptInfo>,
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

/// Bits of a segment's access rights.
mod access {
    pub(super) const TYPE: u32 = 0xf;
    pub(super) const ACCESSED: u32 = 1 << 0;
    pub(super) const READABLE: u32 = 1 << 1;
    pub(super) const CODE: u32 = 1 << 3;
    pub(super) const CODE_OR_DATA: u32 = 1 << 4;
    pub(super) const PRESENT: u32 = 1 << 7;
    pub(super) const LONG: u32 = 1 << 13;
    pub(super) const BIG: u32 = 1 << 14;
    pub(super) const GRANULAR: u32 = 1 << 15;
    pub(super) const UNUSABLE: u32 = 1 << 16;
    pub(super) const RESERVED: u32 = 0xfffe_0f00;
    pub(super) const VIRTUAL_8086: u32 = 0xf3;
}

const SELECTOR_LOCAL: u16 = 1 << 2;

impl RawSegment {
    const fn kind(self) -> u32 {
        self.access & access::TYPE
    }

    const fn has(self, bit: u32) -> bool {
        self.access & bit != 0
    }

    const fn dpl(self) -> u32 {
        self.access >> 5 & 0b11
    }

    const fn is_usable(self) -> bool {
        !self.has(access::UNUSABLE)
    }

    /// The limit fits the granularity: pages end in ones, bytes need no more than 20 bits.
    const fn has_consistent_limit(self) -> bool {
        if self.has(access::GRANULAR) {
            self.limit & 0xfff == 0xfff
        } else {
            self.limit >> 20 == 0
        }
    }
}

/// Breaks off with the rule that is broken.
macro_rules! rule {
    ($holds:expr, $words:literal) => {
        if !$holds {
            return Err($words);
        }
    };
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

    /// 27.3.1.2.
    fn check_segments(&self) -> Result<(), &'static str> {
        use SegmentName::{Cs, Ds, Es, Fs, Gs, Ldtr, Ss, Tr};
        let (cs, ss) = (self.segment(Cs), self.segment(Ss));
        let (ldtr, tr) = (self.segment(Ldtr), self.segment(Tr));
        rule!(
            tr.selector & SELECTOR_LOCAL == 0,
            "TR's selector is of the LDT"
        );
        rule!(
            !ldtr.is_usable() || ldtr.selector & SELECTOR_LOCAL == 0,
            "LDTR's selector is of the LDT"
        );
        let usual = [Cs, Ss, Ds, Es, Fs, Gs].map(|name| self.segment(name));
        if self.is_virtual_8086() {
            rule!(
                usual.iter().all(|s| s.base == u64::from(s.selector) << 4),
                "a segment's base is not its selector times 16 in virtual-8086 mode"
            );
        }
        rule!(self.is_canonical(tr.base), "TR's base is not canonical");
        rule!(
            self.is_canonical(self.segment(Fs).base),
            "FS's base is not canonical"
        );
        rule!(
            self.is_canonical(self.segment(Gs).base),
            "GS's base is not canonical"
        );
        rule!(
            !ldtr.is_usable() || self.is_canonical(ldtr.base),
            "LDTR's base is not canonical"
        );
        rule!(cs.base >> 32 == 0, "CS's base is above 4 GiB");
        let data = [Ss, Ds, Es].map(|name| self.segment(name));
        rule!(
            data.iter().all(|s| !s.is_usable() || s.base >> 32 == 0),
            "the base of SS, DS or ES is above 4 GiB"
        );
        if self.is_virtual_8086() {
            rule!(
                usual.iter().all(|s| s.limit == 0xffff),
                "a segment's limit is not 64 KiB in virtual-8086 mode"
            );
            rule!(
                usual.iter().all(|s| s.access == access::VIRTUAL_8086),
                "a segment's access rights are not those of virtual-8086 mode"
            );
        } else {
            self.check_code(cs, ss)?;
            self.check_stack(cs, ss)?;
            for name in [Ds, Es, Fs, Gs] {
                check_data(self.segment(name))?;
            }
        }
        self.check_tr(tr)?;
        check_ldtr(ldtr)
    }

    fn check_code(&self, cs: RawSegment, ss: RawSegment) -> Result<(), &'static str> {
        match cs.kind() {
            3 => rule!(
                cs.dpl() == 0,
                "CS holds a data segment with a DPL other than 0"
            ),
            9 | 11 => rule!(cs.dpl() == ss.dpl(), "CS's DPL differs from SS's"),
            13 | 15 => rule!(
                cs.dpl() <= ss.dpl(),
                "CS is conforming with a DPL above SS's"
            ),
            _ => return Err("CS's type is not that of accessed code"),
        }
        rule!(cs.has(access::CODE_OR_DATA), "CS holds a system segment");
        rule!(cs.has(access::PRESENT), "CS is not present");
        rule!(
            cs.access & access::RESERVED == 0,
            "CS's access rights have reserved bits"
        );
        rule!(
            !(self.ia32e && cs.has(access::LONG) && cs.has(access::BIG)),
            "CS is both 64-bit and 32-bit"
        );
        rule!(
            cs.has_consistent_limit(),
            "CS's limit does not fit its granularity"
        );
        Ok(())
    }

    fn check_stack(&self, cs: RawSegment, ss: RawSegment) -> Result<(), &'static str> {
        rule!(
            ss.dpl() == 0 || cs.kind() != 3 && self.has_cr0(cr0::PE),
            "SS's DPL is not 0 in real mode"
        );
        if !ss.is_usable() {
            return Ok(());
        }
        rule!(
            matches!(ss.kind(), 3 | 7),
            "SS's type is not that of accessed writable data"
        );
        check_code_or_data(ss)
    }

    fn check_tr(&self, tr: RawSegment) -> Result<(), &'static str> {
        rule!(
            tr.kind() == 11 || tr.kind() == 3 && !self.ia32e,
            "TR's type is not that of a busy TSS"
        );
        rule!(
            !tr.has(access::CODE_OR_DATA),
            "TR does not hold a system segment"
        );
        rule!(tr.has(access::PRESENT), "TR is not present");
        rule!(
            tr.access & access::RESERVED == 0,
            "TR's access rights have reserved bits"
        );
        rule!(
            tr.has_consistent_limit(),
            "TR's limit does not fit its granularity"
        );
        rule!(tr.is_usable(), "TR is unusable");
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

fn check_data(segment: RawSegment) -> Result<(), &'static str> {
    if !segment.is_usable() {
        return Ok(());
    }
    rule!(
        segment.has(access::ACCESSED),
        "a data segment is not accessed"
    );
    rule!(
        !segment.has(access::CODE) || segment.has(access::READABLE),
        "a data segment register holds code that is not readable"
    );
    check_code_or_data(segment)
}

/// What holds for SS and the data segments, being usable.
fn check_code_or_data(segment: RawSegment) -> Result<(), &'static str> {
    rule!(
        segment.has(access::CODE_OR_DATA),
        "a data segment register holds a system segment"
    );
    rule!(
        segment.has(access::PRESENT),
        "a data segment is not present"
    );
    rule!(
        segment.access & access::RESERVED == 0,
        "a data segment's access rights have reserved bits"
    );
    rule!(
        segment.has_consistent_limit(),
        "a data segment's limit does not fit its granularity"
    );
    Ok(())
}

fn check_ldtr(ldtr: RawSegment) -> Result<(), &'static str> {
    if !ldtr.is_usable() {
        return Ok(());
    }
    rule!(ldtr.kind() == 2, "LDTR's type is not that of an LDT");
    rule!(
        !ldtr.has(access::CODE_OR_DATA),
        "LDTR does not hold a system segment"
    );
    rule!(ldtr.has(access::PRESENT), "LDTR is not present");
    rule!(
        ldtr.access & access::RESERVED == 0,
        "LDTR's access rights have reserved bits"
    );
    rule!(
        ldtr.has_consistent_limit(),
        "LDTR's limit does not fit its granularity"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
