//! A guest's loads and stores of devices.
//!
//! A guest that polls, or fills a register, runs the same instruction at the same device again and again. So the last one is remembered
//! decoded, by what the hardware says of it ([`Decoded`]); then the access is answered with no more of the guest's registers in memory than
//! the trap stored. The rest takes the longer way: [`undecoded`], and [`device_handler`] with all registers in memory.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{AxVCpuExitReason, AxVCpuHal, DeviceAccess};

use super::{Context, access_fault, fetch};
use crate::{
    ExitKind, RISCVVCpu,
    csr::{HTINST, HTVAL, SCAUSE, SEPC, STVAL},
    exception::cause,
    insn::{self, Access, Operation, TrapInstruction},
    regs::TrapCsrs,
    trap::{Next, Stored},
    vcpu::{LastAccess, Pending},
};

/// A load or store of a device, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceStep {
    pub(crate) addr: GuestPhysAddr,
    pub(crate) access: Access,
}

impl DeviceStep {
    /// Stands where there was none yet.
    pub(crate) const NONE: Self = Self {
        addr: GuestPhysAddr::new(0),
        access: Access::NONE,
    };
}

/// The last access that was decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    /// What it was decoded from. Its opcode says whether it loads or stores, as the cause does.
    htinst: u64,
    /// The page that it was in, in which there is no RAM.
    page: u64,
    /// The bits of an address that it is not aligned with.
    misaligned: u64,
    access: Access,
    /// Where its register is while the trap is served.
    register: Stored,
}

impl Decoded {
    /// Of no instruction: `htinst` never has all bits set.
    pub(crate) const NONE: Self = Self {
        htinst: u64::MAX,
        page: 0,
        misaligned: 0,
        access: Access::NONE,
        register: Stored::Later,
    };
}

/// How far `htval`, an address without its two lowest bits, is to be shifted to give a page.
const HTVAL_PAGE_SHIFT: u32 = 12 - 2;

/// A load or store that the nested table does not allow.
#[inline(never)]
pub(super) fn page_fault<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
) -> Next {
    let decoded = &vcpu.decoded;
    let (htval, low_bits) = (HTVAL.read(), STVAL.read() & 0b11);
    let addr = htval << 2 | low_bits;
    if HTINST.read() != decoded.htinst
        || htval >> HTVAL_PAGE_SHIFT != decoded.page
        || addr & decoded.misaligned != 0
    {
        return undecoded(vcpu);
    }
    let step = DeviceStep {
        addr: GuestPhysAddr::new(addr),
        access: decoded.access,
    };
    match decoded.register {
        Stored::AtTrap => perform(vcpu, context, step),
        Stored::Later => {
            vcpu.step = step;
            Next::Device
        }
    }
}

/// As [`page_fault`], where the instruction or the place is another than last time; also fetches.
#[cold]
#[inline(never)]
pub(super) fn undecoded<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let (scause, stval, pc, htinst) = (SCAUSE.read(), STVAL.read(), SEPC.read(), HTINST.read());
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
    let htval = HTVAL.read();
    let addr = GuestPhysAddr::new(htval << 2 | low_bits);

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
        TrapInstruction::Access(access) => access,
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
    let operation = access.operation;
    let expected = match operation {
        Operation::Load(_) => cause::LOAD_GUEST_PAGE_FAULT,
        Operation::Store(_) => cause::STORE_GUEST_PAGE_FAULT,
    };
    let misaligned = operation.width().bytes() as u64 - 1;
    // The code may have been changed between the fault and our look at it.
    if scause != expected || addr.as_u64() & misaligned != 0 {
        return vcpu.suffer(access_fault(scause, stval));
    }
    if let TrapInstruction::Access(access) = trapped {
        vcpu.decoded = Decoded {
            htinst,
            page: htval >> HTVAL_PAGE_SHIFT,
            misaligned,
            access,
            register: Stored::of(operation.register()),
        };
    }
    vcpu.step = DeviceStep { addr, access };
    Next::Device
}

/// Asks the VM's devices, with all of the guest's registers in memory.
pub(crate) extern "C" fn device_handler<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
) -> Next {
    let step = vcpu.step;
    perform(vcpu, context, step)
}

/// Asks the VM's devices. The access's register is in memory. What they do not answer leaves the loop.
#[inline(always)]
fn perform<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
    step: DeviceStep,
) -> Next {
    let DeviceStep { addr, access } = step;
    match access.operation {
        Operation::Load(load) => {
            vcpu.account.count(ExitKind::MmioRead);
            let Some(value) = context.devices.mmio_read(addr, load.width) else {
                return unanswered(vcpu, step);
            };
            load.to
                .write(&mut vcpu.regs.guest_regs.x, load.extend(value));
        }
        Operation::Store(store) => {
            vcpu.account.count(ExitKind::MmioWrite);
            let (width, data) = (store.width, store.data(&vcpu.regs.guest_regs.x));
            if context.devices.mmio_write(addr, width, data).is_none() {
                return unanswered(vcpu, step);
            }
        }
    }
    vcpu.advance(access.length);
    // The device may have moved a line of this very vCPU.
    if context.mailbox.has_changed_from(vcpu.lines) {
        open(vcpu, context)
    } else {
        Next::Resume
    }
}

#[inline(never)]
fn open<H: AxVCpuHal, D>(vcpu: &mut RISCVVCpu<H>, context: &Context<'_, D>) -> Next {
    vcpu.open(context.mailbox.take());
    Next::Resume
}

/// No device answers in the loop: the VM decides.
#[cold]
#[inline(never)]
fn unanswered<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, step: DeviceStep) -> Next {
    let DeviceStep { addr, access } = step;
    let fault = access_fault(SCAUSE.read(), STVAL.read());
    let pc = SEPC.read();
    vcpu.last_access = Some(LastAccess { pc, fault });
    vcpu.advance(access.length);
    let exit = match access.operation {
        Operation::Load(load) => {
            vcpu.pending = Pending::Load(load);
            let width = load.width;
            AxVCpuExitReason::MmioRead { addr, width }
        }
        Operation::Store(store) => {
            let (width, data) = (store.width, store.data(&vcpu.regs.guest_regs.x));
            AxVCpuExitReason::MmioWrite { addr, width, data }
        }
    };
    vcpu.leave(exit)
}
