//! What happens when the guest traps.
//!
//! [`vmexit_handler`] is called by the trap assembly with the guest's caller-saved registers in memory and all else still in the
//! hardware. It answers what concerns the CPU alone. For an access to a device the assembly brings the other registers to memory too and
//! calls [`device_handler`], which asks the VM's devices. The rest is described in [`RISCVVCpu::exit`](RISCVVCpu) and leaves the loop.
//! Every branch ends in a call in tail position, so that the frequent ones carry no stack frame.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{AxVCpuExitReason, AxVCpuHal, DeviceAccess, Mailbox, RawExit};

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

/// What the vCPU reaches of its VM while its loop runs.
pub(crate) struct Context<'a> {
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) devices: &'a dyn DeviceAccess,
}

/// A load or store of a device, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceStep {
    pub(crate) addr: GuestPhysAddr,
    pub(crate) access: Access,
}

/// The last access that was decoded, and the `htinst` that it was decoded from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub(crate) htinst: u64,
    pub(crate) access: Access,
}

impl Decoded {
    /// Of no instruction: `htinst` never has all bits set.
    pub(crate) const NONE: Self = Self {
        htinst: u64::MAX,
        access: Access::NONE,
    };
}

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

/// The nested table does not allow an access: RAM that is not there yet, or a device.
fn guest_page_fault<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    let decoded = vcpu.decoded;
    // A guest that polls or fills a register runs the same instruction again and again.
    if HTINST.read() == decoded.htinst {
        let step = DeviceStep {
            addr: GuestPhysAddr::new(HTVAL.read() << 2 | STVAL.read() & 0b11),
            access: decoded.access,
        };
        if !vcpu.is_ram(step.addr) {
            return device_access(vcpu, step, scause);
        }
    }
    undecoded_page_fault(vcpu, scause)
}

/// As [`guest_page_fault`], where the instruction is another than last time.
#[inline(never)]
fn undecoded_page_fault<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, scause: u64) -> Next {
    let (stval, pc, htinst) = (STVAL.read(), SEPC.read(), HTINST.read());
    let trapped = insn::decode_trap_instruction(htinst);
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

    if vcpu.is_ram(addr) {
        vcpu.account.count(ExitKind::NestedFault);
        vcpu.regs.trap_csrs = TrapCsrs::read();
        let fault = access_fault(scause, stval);
        vcpu.last_access = Some(LastAccess { pc, fault });
        return vcpu.leave(AxVCpuExitReason::NestedPageFault {
            addr,
            access_flags: tried,
        });
    }
    let access = match trapped {
        TrapInstruction::Access(access) => {
            vcpu.decoded = Decoded { htinst, access };
            access
        }
        TrapInstruction::Absent if scause != cause::INSTRUCTION_GUEST_PAGE_FAULT => {
            match fetch(pc).map(insn::decode) {
                // Its code is gone since: let it fault on that itself.
                None => return Next::Resume,
                Some(None) => return vcpu.suffer(access_fault(scause, stval)),
                Some(Some(access)) => access,
            }
        }
        TrapInstruction::Absent
        | TrapInstruction::Other
        | TrapInstruction::PageTableRead
        | TrapInstruction::PageTableWrite => return vcpu.suffer(access_fault(scause, stval)),
    };
    device_access(vcpu, DeviceStep { addr, access }, scause)
}

/// A load or store outside of RAM.
#[inline(always)]
fn device_access<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, step: DeviceStep, scause: u64) -> Next {
    let operation = step.access.operation;
    let expected = match operation {
        Operation::Load(_) => cause::LOAD_GUEST_PAGE_FAULT,
        Operation::Store(_) => cause::STORE_GUEST_PAGE_FAULT,
    };
    // The code may have been changed between the fault and our look at it.
    if scause != expected || !step.addr.is_aligned(operation.width().bytes() as u64) {
        return vcpu.suffer(access_fault(scause, STVAL.read()));
    }
    vcpu.step = step;
    Next::Device
}

/// Asks the VM's devices, with all of the guest's registers in memory. What they do not answer leaves the loop.
pub(crate) extern "C" fn device_handler<H: AxVCpuHal>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_>,
) -> Next {
    let DeviceStep { addr, access } = vcpu.step;
    let x = &mut vcpu.regs.guest_regs.x;
    match access.operation {
        Operation::Load(load) => {
            vcpu.account.count(ExitKind::MmioRead);
            match context.devices.mmio_read(addr, load.width) {
                Some(value) => load.to.write(x, load.extend(value)),
                None => {
                    vcpu.pending = Pending::Load(load);
                    let width = load.width;
                    return leave_for_device(vcpu, AxVCpuExitReason::MmioRead { addr, width });
                }
            }
        }
        Operation::Store(store) => {
            vcpu.account.count(ExitKind::MmioWrite);
            let (width, data) = (store.width, store.from.read(x) & store.width.mask());
            if context.devices.mmio_write(addr, width, data).is_none() {
                let exit = AxVCpuExitReason::MmioWrite { addr, width, data };
                return leave_for_device(vcpu, exit);
            }
        }
    }
    vcpu.advance(access.length);
    // The device may have moved a line of this very vCPU.
    if context.mailbox.has_changed_from(vcpu.lines) {
        vcpu.open(context.mailbox.take());
    }
    Next::Resume
}

#[cold]
fn leave_for_device<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, exit: AxVCpuExitReason) -> Next {
    let fault = access_fault(SCAUSE.read(), STVAL.read());
    let pc = SEPC.read();
    vcpu.last_access = Some(LastAccess { pc, fault });
    vcpu.advance(vcpu.step.access.length);
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
            vcpu.account.count(ExitKind::Wfi);
            vcpu.advance(4);
            vcpu.wait()
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
    pub(crate) fn wait(&mut self) -> Next {
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
