//! What happens when the guest traps.
//!
//! [`vmexit_handler`] is called by the trap assembly with the guest's caller-saved registers in memory and all else still in the
//! hardware. It answers what concerns the CPU alone; the rest it describes in [`RISCVVCpu::exit`](RISCVVCpu) and leaves the
//! loop. Every branch ends in a call in tail position, so that the frequent ones carry no stack frame.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{AxVCpuExitReason, AxVCpuHal, RawExit};

use crate::{
    ExitKind, RISCVVCpu,
    csr::{
        HSTATUS, HTINST, HTVAL, SCAUSE, SEPC, SSTATUS, STVAL, VSIE, VSIP, hstatus, interrupt,
        sstatus,
    },
    exception::{Exception, cause},
    insn::{self, Access, Operation, TrapInstruction},
    percpu::DELEGATED_EXCEPTIONS,
    regs::TrapCsrs,
    sbi,
    trap::{self, Next},
    vcpu::{LastAccess, Pending},
};

/// Serves one trap of the guest.
pub(crate) extern "C" fn vmexit_handler<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    match SCAUSE.read() {
        cause::CALL_FROM_VS => sbi::call(vcpu),
        scause => other_than_call(vcpu, scause),
    }
}

#[inline(never)]
fn other_than_call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    match scause {
        cause::LOAD_GUEST_PAGE_FAULT
        | cause::STORE_GUEST_PAGE_FAULT
        | cause::INSTRUCTION_GUEST_PAGE_FAULT => guest_page_fault(vcpu, scause),
        cause::VIRTUAL_INSTRUCTION => virtual_instruction(vcpu),
        _ if scause & interrupt::FLAG != 0 => host_interrupt(vcpu, scause),
        _ => rare(vcpu, scause),
    }
}

/// A host interrupt: the host's handler serves it, out there.
fn host_interrupt<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    vcpu.counters.count(match scause & !interrupt::FLAG {
        interrupt::SUPERVISOR_SOFT => ExitKind::HostSoft,
        interrupt::SUPERVISOR_TIMER => ExitKind::HostTimer,
        interrupt::SUPERVISOR_EXTERNAL => ExitKind::HostExternal,
        _ => ExitKind::HostOther,
    });
    vcpu.leave(AxVCpuExitReason::ExternalInterrupt {
        vector: scause as usize,
    })
}

/// What the guest tried, in the words of a fault that its own hardware would raise.
fn access_fault(scause: u64) -> u64 {
    match scause {
        cause::INSTRUCTION_GUEST_PAGE_FAULT => cause::INSTRUCTION_ACCESS_FAULT,
        cause::STORE_GUEST_PAGE_FAULT => cause::STORE_ACCESS_FAULT,
        _ => cause::LOAD_ACCESS_FAULT,
    }
}

/// The nested table does not allow an access: RAM that is not there yet, or a device.
fn guest_page_fault<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    let (stval, pc) = (STVAL.read(), SEPC.read());
    let trapped = insn::decode_trap_instruction(HTINST.read());
    let (low_bits, tried) = match trapped {
        // The guest's page table lies there; its entries are aligned, and the address in stval is not theirs.
        TrapInstruction::PageTableRead => (0, MappingFlags::READ),
        TrapInstruction::PageTableWrite => (0, MappingFlags::WRITE),
        TrapInstruction::Absent | TrapInstruction::Access(_) | TrapInstruction::Other => (
            stval & 0b11,
            match scause {
                cause::INSTRUCTION_GUEST_PAGE_FAULT => MappingFlags::EXECUTE,
                cause::STORE_GUEST_PAGE_FAULT => MappingFlags::WRITE,
                _ => MappingFlags::READ,
            },
        ),
    };
    let addr = GuestPhysAddr::new(HTVAL.read() << 2 | low_bits);
    let fault = Exception {
        cause: access_fault(scause),
        value: stval,
    };
    vcpu.last_access = Some(LastAccess { pc, fault });

    if vcpu.is_ram(addr) {
        vcpu.counters.count(ExitKind::NestedFault);
        vcpu.regs.trap_csrs = TrapCsrs::read();
        return vcpu.leave(AxVCpuExitReason::NestedPageFault {
            addr,
            access_flags: tried,
        });
    }
    let access = match trapped {
        TrapInstruction::Access(access) => access,
        TrapInstruction::Absent if scause != cause::INSTRUCTION_GUEST_PAGE_FAULT => {
            match fetch(pc).map(insn::decode) {
                // Its code is gone since: let it fault on that itself.
                None => return Next::Resume,
                Some(None) => return vcpu.suffer(fault),
                Some(Some(access)) => access,
            }
        }
        TrapInstruction::Absent
        | TrapInstruction::Other
        | TrapInstruction::PageTableRead
        | TrapInstruction::PageTableWrite => return vcpu.suffer(fault),
    };
    device_access(vcpu, access, addr, fault)
}

/// A load or store outside of RAM.
fn device_access<H: AxVCpuHal>(
    vcpu: &mut RISCVVCpu<H>,
    access: Access,
    addr: GuestPhysAddr,
    fault: Exception,
) -> Next {
    let width = access.operation.width();
    if !addr.is_aligned(width.bytes() as u64) {
        return vcpu.suffer(fault);
    }
    let (kind, pending, exit) = match (access.operation, fault.cause) {
        (Operation::Load(load), cause::LOAD_ACCESS_FAULT) => (
            ExitKind::MmioRead,
            Pending::Load(load),
            AxVCpuExitReason::MmioRead { addr, width },
        ),
        (Operation::Store(store), cause::STORE_ACCESS_FAULT) => (
            ExitKind::MmioWrite,
            Pending::Store(store),
            AxVCpuExitReason::MmioWrite {
                addr,
                width,
                data: 0,
            },
        ),
        // The code was changed between the fault and our look at it.
        (Operation::Load(_) | Operation::Store(_), _) => return vcpu.suffer(fault),
    };
    vcpu.counters.count(kind);
    vcpu.pending = pending;
    vcpu.advance(access.length);
    vcpu.leave(exit)
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
            vcpu.counters.count(ExitKind::Wfi);
            vcpu.advance(4);
            vcpu.wait()
        }
        insn::WRS_NTO => {
            vcpu.counters.count(ExitKind::Wfi);
            vcpu.advance(4);
            Next::Resume
        }
        _ => {
            vcpu.counters.count(ExitKind::VirtualInstruction);
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
    vcpu.counters.count(ExitKind::Unknown);
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
    pub(crate) fn wait(&mut self) -> Next {
        if VSIP.read() & VSIE.read() != 0 {
            return Next::Resume;
        }
        self.leave(AxVCpuExitReason::Halt)
    }

    /// Gives the guest an exception.
    fn suffer(&mut self, exception: Exception) -> Next {
        self.counters.count(ExitKind::Exception);
        exception.raise();
        Next::Resume
    }
}

#[cfg(test)]
mod tests;
