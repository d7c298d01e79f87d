//! What happens when the guest traps.
//!
//! [`vmexit_handler`] is called by the trap assembly with the guest's caller-saved registers in memory and all else still in the
//! hardware. It answers what concerns the CPU alone, and most [accesses to devices](device). For an access by a register that is not in
//! memory the assembly brings the others there too and calls [`device_handler`]. The rest is described in [`RISCVVCpu::exit`](RISCVVCpu) and
//! leaves the loop. Every branch ends in a call in tail position, so that the frequent ones carry no stack frame.

mod device;

use axvcpu::{AxVCpuExitReason, AxVCpuHal, DeviceAccess, Mailbox, MmioWindow, RawExit};

use crate::{
    ExitKind, RISCVVCpu,
    csr::{HSTATUS, SCAUSE, SEPC, SSTATUS, STVAL, VSIE, VSIP, hstatus, interrupt, sstatus},
    exception::{Exception, cause},
    insn,
    percpu::DELEGATED_EXCEPTIONS,
    regs::TrapCsrs,
    sbi,
    trap::{self, Next},
};

pub(crate) use device::{Decoded, device_handler};

/// What the vCPU reaches of its VM while its loop runs.
pub(crate) struct Context<'a, D: DeviceAccess> {
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) devices: &'a D,
    /// The device that the last load met.
    load: Option<MmioWindow<'a, D::Registers>>,
    /// The device that the last store met.
    store: Option<MmioWindow<'a, D::Registers>>,
}

impl<'a, D: DeviceAccess> Context<'a, D> {
    #[inline(always)]
    pub(crate) const fn new(mailbox: &'a Mailbox, devices: &'a D) -> Self {
        Self {
            mailbox,
            devices,
            load: None,
            store: None,
        }
    }
}

/// Serves one trap of the guest.
pub(crate) extern "C" fn vmexit_handler<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &mut Context<'_, D>,
) -> Next {
    match SCAUSE.read() {
        cause::CALL_FROM_VS => sbi::call(vcpu, context),
        cause::LOAD_GUEST_PAGE_FAULT => device::load_fault(vcpu, context),
        cause::STORE_GUEST_PAGE_FAULT => device::store_fault(vcpu, context),
        scause => less_frequent(vcpu, context, scause),
    }
}

#[inline(never)]
fn less_frequent<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &mut Context<'_, D>,
    scause: u64,
) -> Next {
    match scause {
        cause::INSTRUCTION_GUEST_PAGE_FAULT => device::undecoded(vcpu, context),
        cause::VIRTUAL_INSTRUCTION => virtual_instruction(vcpu),
        _ if scause & interrupt::FLAG != 0 => host_interrupt(vcpu, scause),
        _ => rare(vcpu, scause),
    }
}

/// A host interrupt: the host's handler serves it, out there.
fn host_interrupt<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    vcpu.account.count(match scause & !interrupt::FLAG {
        interrupt::SUPERVISOR_SOFT => ExitKind::HostSoft,
        interrupt::SUPERVISOR_TIMER => ExitKind::HostTimer,
        interrupt::SUPERVISOR_EXTERNAL => ExitKind::HostExternal,
        _ => ExitKind::HostOther,
    });
    vcpu.leave(AxVCpuExitReason::ExternalInterrupt {
        vector: scause as usize,
    })
}

/// What the guest tried, as the fault that its own hardware would raise.
fn access_fault(scause: u64, stval: u64) -> Exception {
    let cause = match scause {
        cause::INSTRUCTION_GUEST_PAGE_FAULT => cause::INSTRUCTION_ACCESS_FAULT,
        cause::STORE_GUEST_PAGE_FAULT => cause::STORE_ACCESS_FAULT,
        _ => cause::LOAD_ACCESS_FAULT,
    };
    Exception {
        cause,
        value: stval,
    }
}

/// The guest's instruction at `pc`; `None` if it cannot be read.
fn fetch(pc: u64) -> Option<u32> {
    let low = trap::fetch_halfword(pc)?;
    let high = match insn::is_standard(low) {
        true => trap::fetch_halfword(pc.wrapping_add(2))?,
        false => 0,
    };
    Some(u32::from(high) << 16 | u32::from(low))
}

/// An instruction that HS-mode has and the guest has not, or that it is not to run now.
fn virtual_instruction<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let word = match STVAL.read() {
        // The hardware did not say which.
        0 => match fetch(SEPC.read()) {
            Some(word) => word,
            None => return Next::Resume,
        },
        bits => bits as u32,
    };
    match word {
        insn::WFI if SSTATUS.read() & sstatus::SPP != 0 => {
            vcpu.account.count(ExitKind::Wfi);
            vcpu.advance(4);
            vcpu.halt()
        }
        insn::WRS_NTO => {
            vcpu.account.count(ExitKind::Wfi);
            vcpu.advance(4);
            Next::Resume
        }
        _ => {
            vcpu.account.count(ExitKind::VirtualInstruction);
            Exception {
                cause: cause::ILLEGAL_INSTRUCTION,
                value: u64::from(word),
            }
            .raise();
            Next::Resume
        }
    }
}

/// What is not expected of any guest.
#[cold]
fn rare<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    let csrs = TrapCsrs::read();
    let raw = RawExit {
        reason: scause,
        info1: csrs.stval,
        info2: csrs.htval,
        pc: SEPC.read(),
    };
    if HSTATUS.read() & hstatus::SPV == 0 {
        trap::abandon(&vcpu.regs);
        panic!("the hypervisor faulted while it served a guest's exit: {raw}");
    }
    vcpu.regs.trap_csrs = csrs;
    // This hardware does not delegate it, or not always.
    if scause < u64::from(u64::BITS) && DELEGATED_EXCEPTIONS >> scause & 1 == 1 {
        return vcpu.suffer(Exception {
            cause: scause,
            value: csrs.stval,
        });
    }
    vcpu.account.count(ExitKind::Unknown);
    vcpu.leave(AxVCpuExitReason::Unknown(raw))
}

impl<H: AxVCpuHal> RISCVVCpu<H> {
    /// Leaves the loop.
    #[inline(always)]
    pub(crate) fn leave(&mut self, why: AxVCpuExitReason) -> Next {
        self.exit = why;
        Next::Leave
    }

    /// Moves the program counter on by `bytes`.
    #[inline(always)]
    pub(crate) fn advance(&self, bytes: u64) {
        SEPC.write(SEPC.read().wrapping_add(bytes));
    }

    /// Waits for an interrupt, unless one that would end the wait is pending.
    pub(crate) fn halt(&mut self) -> Next {
        if VSIP.read() & VSIE.read() != 0 {
            return Next::Resume;
        }
        self.leave(AxVCpuExitReason::Halt)
    }

    /// Gives the guest an exception.
    fn suffer(&mut self, exception: Exception) -> Next {
        self.account.count(ExitKind::Exception);
        exception.raise();
        Next::Resume
    }
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;
