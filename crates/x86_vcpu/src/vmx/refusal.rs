//! What is said of a guest that could not be entered. The VMCS is current.

use axvcpu::{AxVCpuHal, FailReason, RawExit};

use super::{
    controls::entry,
    entry_check::GuestSnapshot,
    exit,
    exit_info::VmxExitKind,
    exit_reason::VmxExitReason,
    fields::{VmcsControl32, VmcsGuest32, VmcsGuest64, VmcsGuestNW},
    guest_state::PDPTES,
    vcpu::VmxVcpu,
    vmcs::VmFail,
};
use crate::{
    backend::{Exit, ExitInfo, VendorVcpu},
    event::InterruptInfo,
    legal,
    regs::Register,
};

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
                _ => legal::NO_RULE,
            },
        }
    }

    fn snapshot(&self) -> GuestSnapshot {
        let (guest, capabilities) = (&self.guest, &self.capabilities);
        GuestSnapshot {
            state: self.state(),
            cr0_fixed: capabilities.cr0,
            cr4_fixed: capabilities.cr4,
            cr0: guest.read(VmcsGuestNW::Cr0),
            cr4: guest.read(VmcsGuestNW::Cr4),
            ia32e: VmcsControl32::EntryControls.read() & entry::IA32E_MODE_GUEST != 0,
            injected: InterruptInfo::decode(VmcsControl32::EntryInterruptInfo.read(), || {
                VmcsControl32::EntryExceptionErrorCode.read()
            }),
            debugctl: guest.read(VmcsGuest64::DebugCtl),
            activity: guest.read(VmcsGuest32::ActivityState),
            interruptibility: guest.read(VmcsGuest32::Interruptibility),
            pending_debug: guest.read(VmcsGuestNW::PendingDebugExceptions),
            link_pointer: guest.read(VmcsGuest64::LinkPointer),
            pdptes: PDPTES.map(|field| guest.read(field)),
        }
    }
}
