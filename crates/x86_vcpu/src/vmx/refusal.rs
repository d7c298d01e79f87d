//! What is said of a guest that could not be entered. The VMCS is current.

use axvcpu::{AxVCpuHal, FailReason, RawExit};

use super::{
    controls::entry,
    entry_check::GuestSnapshot,
    exit,
    exit_info::VmxExitKind,
    exit_reason::VmxExitReason,
    fields::{VmcsControl32, VmcsGuest32, VmcsGuest64, VmcsGuestNW},
    vcpu::VmxVcpu,
    vmcs::VmFail,
};
use crate::{
    backend::{Exit, ExitInfo},
    event::InterruptInfo,
    hardware,
    regs::{Register, SegmentName},
};

/// How many bits a physical address has (CPUID, leaf 0x8000_0008).
fn physical_bits() -> u32 {
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    match hardware::cpuid(ADDRESS_SIZES, 0).eax & 0xff {
        0 => 36,
        bits => bits.min(52),
    }
}

impl<H: AxVCpuHal> VmxVcpu<H> {
    /// VMLAUNCH or VMRESUME failed.
    #[cold]
    pub(super) fn failure(&self, failure: VmFail) -> FailReason {
        FailReason {
            what: failure.words(),
            raw: RawExit {
                reason: u64::from(failure.number()),
                info1: 0,
                info2: 0,
                pc: self.register(Register::Rip),
            },
        }
    }

    /// What `exit` says where the guest was not entered, or left for no known reason.
    #[cold]
    #[inline(never)]
    pub(super) fn no_exit(&self, kind: VmxExitKind) -> ExitInfo {
        let (exit, interrupted) = match kind {
            // Whether the VMCS counts as launched now no longer matters: it is cleared before the guest's next life.
            VmxExitKind::EntryFailure(reason) => (Exit::Refused(self.refusal(reason)), None),
            VmxExitKind::Exit(_) | VmxExitKind::Unknown => (Exit::Unknown, exit::interrupted()),
        };
        ExitInfo {
            exit,
            length: None,
            interrupted,
        }
    }

    /// Why the processor refused the guest, in words.
    fn refusal(&self, reason: VmxExitReason) -> &'static str {
        if reason != VmxExitReason::InvalidGuestState {
            return reason.words();
        }
        match self.snapshot().check() {
            Err(rule) => rule,
            Ok(()) => match exit::qualification() {
                2 => "the PDPTEs could not be loaded",
                3 => "an NMI was injected where it cannot be",
                4 => "the VMCS link pointer is not valid",
                _ => "the guest's state breaks a rule that is not among those checked here",
            },
        }
    }

    fn snapshot(&self) -> GuestSnapshot {
        let (guest, capabilities) = (&self.guest, &self.capabilities);
        let natural = |field: VmcsGuestNW| guest.read(field);
        let word = |field: VmcsGuest32| guest.read(field);
        let long = |field: VmcsGuest64| guest.read(field);
        GuestSnapshot {
            cr0_fixed: capabilities.cr0,
            cr4_fixed: capabilities.cr4,
            physical_bits: physical_bits(),
            ia32e: VmcsControl32::EntryControls.read() & entry::IA32E_MODE_GUEST != 0,
            injected: InterruptInfo::decode(VmcsControl32::EntryInterruptInfo.read(), || {
                VmcsControl32::EntryExceptionErrorCode.read()
            }),
            cr0: natural(VmcsGuestNW::Cr0),
            cr3: natural(VmcsGuestNW::Cr3),
            cr4: natural(VmcsGuestNW::Cr4),
            efer: long(VmcsGuest64::Efer),
            pat: long(VmcsGuest64::Pat),
            dr7: natural(VmcsGuestNW::Dr7),
            debugctl: long(VmcsGuest64::DebugCtl),
            sysenter_esp: natural(VmcsGuestNW::SysenterEsp),
            sysenter_eip: natural(VmcsGuestNW::SysenterEip),
            rip: natural(VmcsGuestNW::Rip),
            rflags: natural(VmcsGuestNW::Rflags),
            segments: SegmentName::ALL.map(|name| guest.raw_segment(name)),
            gdtr: (natural(VmcsGuestNW::GdtrBase), word(VmcsGuest32::GdtrLimit)),
            idtr: (natural(VmcsGuestNW::IdtrBase), word(VmcsGuest32::IdtrLimit)),
            activity: word(VmcsGuest32::ActivityState),
            interruptibility: word(VmcsGuest32::Interruptibility),
            pending_debug: natural(VmcsGuestNW::PendingDebugExceptions),
            link_pointer: long(VmcsGuest64::LinkPointer),
            pdptes: [
                VmcsGuest64::Pdpte0,
                VmcsGuest64::Pdpte1,
                VmcsGuest64::Pdpte2,
                VmcsGuest64::Pdpte3,
            ]
            .map(long),
        }
    }
}
