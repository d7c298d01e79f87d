//! Why an entry failed: the checks that only VMX makes on the guest's state (SDM vol. 3, 27.3.1), beside [those of the architecture](crate::legal).
//!
//! Guests here are unrestricted, never in system-management mode and never inject but from [`Event`](crate::event::Event), so that checks for the rest are
//! left out.

#[cfg(test)]
mod tests;

use super::{caps::FixedBits, guest_state::Interruptibility};
use crate::{
    cr::{cr0, efer},
    event::{InterruptInfo, InterruptKind},
    legal::{GuestState, rule},
    regs::rflags,
};

/// The guest's state, and of the controls what the checks need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestSnapshot {
    pub(crate) state: GuestState,

    /// Of the processor: the bits of CR0 and CR4 that VMX fixes.
    pub(crate) cr0_fixed: FixedBits,
    pub(crate) cr4_fixed: FixedBits,
    /// As the processor is to hold them.
    pub(crate) cr0: u64,
    pub(crate) cr4: u64,

    /// Whether the entry is to IA-32e mode.
    pub(crate) ia32e: bool,
    pub(crate) injected: Option<InterruptInfo>,
    pub(crate) debugctl: u64,
    pub(crate) activity: u32,
    pub(crate) interruptibility: u32,
    pub(crate) pending_debug: u64,
    pub(crate) link_pointer: u64,
    pub(crate) pdptes: [u64; 4],
}

/// Bits that may be set, and such as have no name elsewhere.
mod bits {
    use crate::cr::efer;

    pub(super) const EFER: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;
    pub(super) const DEBUGCTL: u64 = 0xffc7;
    pub(super) const DEBUGCTL_BTF: u64 = 1 << 1;
    pub(super) const PENDING_DEBUG: u64 = 0x1_500f;
    pub(super) const PENDING_DEBUG_BS: u64 = 1 << 14;
}

impl GuestSnapshot {
    /// The first rule that the state breaks, in words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.check_control_registers()?;
        self.state.check()?;
        self.check_injection()?;
        self.check_non_register_state()?;
        self.check_pdptes()
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
            self.cr4_fixed.violated_by(self.cr4) == 0,
            "CR4 breaks bits that VMX fixes"
        );
        rule!(
            self.debugctl & !bits::DEBUGCTL == 0,
            "IA32_DEBUGCTL has reserved bits"
        );
        let efer = self.state.control.efer;
        rule!(efer & !bits::EFER == 0, "EFER has reserved bits");
        rule!(
            (efer & efer::LMA != 0) == self.ia32e,
            "EFER.LMA differs from the entry's mode"
        );
        Ok(())
    }

    fn takes_interrupts(&self) -> bool {
        self.state.rflags & rflags::INTERRUPT != 0
    }

    fn injects(&self, kind: InterruptKind) -> bool {
        self.injected.is_some_and(|event| event.kind == kind)
    }

    /// 27.3.1.4 and 27.3.1.5.
    fn check_injection(&self) -> Result<(), &'static str> {
        let blocking = Interruptibility::from_bits_retain(self.interruptibility);
        if self.injects(InterruptKind::External) {
            rule!(
                self.takes_interrupts(),
                "an interrupt is injected while RFLAGS.IF is clear"
            );
            rule!(
                !blocking.intersects(Interruptibility::SHADOW),
                "an interrupt is injected while STI or MOV SS blocks"
            );
        }
        if self.injects(InterruptKind::Nmi) {
            rule!(
                !blocking.contains(Interruptibility::MOV_SS),
                "an NMI is injected while MOV SS blocks"
            );
            rule!(
                !blocking.contains(Interruptibility::NMI),
                "an NMI is injected while NMIs are blocked"
            );
        }
        Ok(())
    }

    /// 27.3.1.5.
    fn check_non_register_state(&self) -> Result<(), &'static str> {
        const ACTIVE: u32 = 0;
        const HLT: u32 = 1;
        let blocking = Interruptibility::from_bits_retain(self.interruptibility);
        rule!(self.activity <= 3, "the activity state does not exist");
        rule!(
            self.activity != HLT || self.state.privilege == 0,
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
            !blocking.contains(Interruptibility::SMI),
            "SMIs are blocked outside system-management mode"
        );
        rule!(
            self.pending_debug & !bits::PENDING_DEBUG == 0,
            "the pending debug exceptions have reserved bits"
        );
        if shadow || self.activity == HLT {
            let steps =
                self.state.rflags & rflags::TRAP != 0 && self.debugctl & bits::DEBUGCTL_BTF == 0;
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
        rule!(
            !self.state.control.is_pae()
                || self.pdptes.iter().all(|entry| {
                    entry & PRESENT == 0
                        || entry & RESERVED == 0 && entry >> self.state.physical_bits == 0
                }),
            "a PDPTE has reserved bits"
        );
        Ok(())
    }
}
