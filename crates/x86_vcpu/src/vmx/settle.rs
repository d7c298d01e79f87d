//! What an exit leaves behind besides its reason: windows that are shut again, NMIs that are blocked or not, debug registers.

use axvcpu::AxVCpuHal;

use super::{
    exit,
    exit_info::{VmxExitInfo, VmxExitKind, interrupted_iret, undid_nmi_blocking},
    exit_reason::VmxExitReason,
    fields::{VmcsGuestNW, VmcsReadOnly32},
    guest_state::Interruptibility,
    vcpu::VmxVcpu,
};
use crate::{
    backend::{Exit, ExitInfo, Window},
    event::{Event, vector},
    hardware,
    regs::{dr6, dr7},
};

/// What the qualification of a debug exception has in its place in DR6.
const DR6_EVENTS: u64 = dr6::BREAKPOINTS | dr6::REGISTER_ACCESS | dr6::SINGLE_STEP;

impl<H: AxVCpuHal> VmxVcpu<H> {
    /// What an exit is.
    pub(super) fn settled_exit(&mut self, raw: u32) -> ExitInfo {
        let info = VmxExitInfo::decode(raw);
        let VmxExitKind::Exit(reason) = info.kind else {
            return self.no_exit(info.kind);
        };
        let exit = match exit::decode(reason) {
            Exit::Deadline => self.timer.exit(),
            exit => exit,
        };
        let interrupted = exit::interrupted();
        self.settle(reason, exit, interrupted);
        ExitInfo {
            exit,
            length: exit.is_instruction().then(exit::instruction_length),
            interrupted,
        }
    }

    /// Takes note of it.
    fn settle(&mut self, reason: VmxExitReason, exit: Exit, interrupted: Option<Event>) {
        match exit {
            Exit::InterruptWindow => self.primary.ignore(Window::Interrupt),
            Exit::NmiWindow => self.primary.ignore(Window::Nmi),
            Exit::Exception { vector, .. } => {
                if vector == vector::DEBUG {
                    self.take_debug_event();
                }
                if interrupted.is_none()
                    && undid_nmi_blocking(VmcsReadOnly32::ExitInterruptInfo.read())
                {
                    self.block_nmis_again();
                }
            }
            Exit::Nested(_) => {
                if reason == VmxExitReason::EptViolation
                    && interrupted.is_none()
                    && interrupted_iret(exit::qualification())
                {
                    self.block_nmis_again();
                }
            }
            Exit::HostNmi => exit::for_the_host().map_or((), hardware::host_event),
            Exit::HostInterrupt
            | Exit::Deadline
            | Exit::TripleFault
            | Exit::Instruction(_)
            | Exit::Msr(_)
            | Exit::Control(_)
            | Exit::ControlInstruction
            | Exit::Io(_)
            | Exit::LocalWrite(_)
            | Exit::LocalEnd(_)
            | Exit::TaskPriority
            | Exit::TaskSwitch
            | Exit::Refused(_)
            | Exit::Unknown => {}
        }
        if interrupted == Some(Event::Nmi) {
            // Its delivery had begun, and begins again (SDM vol. 3, 33.7.1.2 "Resuming Guest Software after Handling an Exception").
            let blocking = self.guest.interruptibility();
            self.guest
                .set_interruptibility(blocking.difference(Interruptibility::NMI));
        }
    }

    #[cold]
    fn block_nmis_again(&mut self) {
        let blocking = self.guest.interruptibility();
        self.guest
            .set_interruptibility(blocking.union(Interruptibility::NMI));
    }

    /// A debug exception that exits has not changed DR6 and DR7 (SDM vol. 3, 28.1): the guest is to find them changed.
    fn take_debug_event(&mut self) {
        let events = exit::qualification() & DR6_EVENTS;
        hardware::write_dr6(hardware::read_dr6() & !dr6::BREAKPOINTS | events);
        let dr7 = self.guest.read(VmcsGuestNW::Dr7);
        self.guest
            .write(VmcsGuestNW::Dr7, dr7 & !dr7::GENERAL_DETECT);
        // INT1 raises it as a trap, but exits before it is done (SDM vol. 3, 28.2.2 and 28.2.5).
        if exit::is_int1() {
            let next = self
                .guest
                .read(VmcsGuestNW::Rip)
                .wrapping_add(exit::instruction_length().into());
            self.guest.write(VmcsGuestNW::Rip, next);
        }
    }
}
