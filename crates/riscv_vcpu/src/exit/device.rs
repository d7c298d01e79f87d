//! A guest's loads and stores of devices.
//!
//! A guest that polls, or fills a register, runs the same instruction at the same device again and again. So the last load and the last store
//! are remembered decoded, by what the hardware says of them ([`Decoded`]); then the access is answered with no more of the guest's registers
//! in memory than the trap stored. The rest takes the longer way: [`undecoded`], and [`device_handler`] with all registers in memory.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{AxVCpuExitReason, AxVCpuHal, DeviceAccess};

use super::{Context, access_fault, fetch};
use crate::{
    ExitKind, RISCVVCpu,
    csr::{HTINST, HTVAL, SCAUSE, SEPC, STVAL},
    exception::cause,
    insn::{self, Load, Operation, Store, TrapInstruction},
    regs::TrapCsrs,
    trap::{Next, Stored},
    vcpu::{LastAccess, Pending},
};

/// The last load, or the last store, that was decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded<T> {
    /// What it was decoded from; [`NOTHING`] where the hardware did not say, so that it has to be decoded again.
    htinst: u64,
    /// The page that it was in, in which there is no RAM.
    page: u64,
    /// The bits of an address that it is not aligned with.
    misaligned: u64,
    /// How far the program counter moves past it.
    length: u64,
    access: T,
    /// Where its register is while the trap is served.
    register: Stored,
}

/// `htinst` never has all bits set.
const NOTHING: u64 = u64::MAX;

impl<T> Decoded<T> {
    /// Where nothing was decoded yet, `access` may be any.
    const fn none(access: T) -> Self {
        Self {
            htinst: NOTHING,
            page: 0,
            misaligned: 0,
            length: 0,
            access,
            register: Stored::Later,
        }
    }

    /// Whether the present trap is of this instruction, at a place that it can be at. Its opcode says whether it loads or stores, as the cause does.
    #[inline(always)]
    fn traps(&self) -> bool {
        HTINST.read() == self.htinst
            && HTVAL.read() >> HTVAL_PAGE_SHIFT == self.page
            && STVAL.read() & self.misaligned == 0
    }
}

/// How far `htval`, an address without its two lowest bits, is to be shifted to give a page.
const HTVAL_PAGE_SHIFT: u32 = 12 - 2;

impl Decoded<Load> {
    pub(crate) const NONE: Self = Self::none(Load::NONE);
}

impl Decoded<Store> {
    pub(crate) const NONE: Self = Self::none(Store::NONE);
}

/// What the present trap tried to reach.
#[inline(always)]
fn target() -> GuestPhysAddr {
    GuestPhysAddr::new(HTVAL.read() << 2 | STVAL.read() & 0b11)
}

/// A load that the nested table does not allow.
#[inline(never)]
pub(super) fn load_fault<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
) -> Next {
    if !vcpu.load.traps() {
        return undecoded(vcpu);
    }
    match vcpu.load.register {
        Stored::AtTrap => load(vcpu, context),
        Stored::Later => Next::Device,
    }
}

/// A store that the nested table does not allow.
#[inline(never)]
pub(super) fn store_fault<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
) -> Next {
    if !vcpu.store.traps() {
        return undecoded(vcpu);
    }
    match vcpu.store.register {
        Stored::AtTrap => store(vcpu, context),
        Stored::Later => Next::Device,
    }
}

/// As [`load_fault`] and [`store_fault`], where the instruction or the place is another than last time; also fetches.
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
    let width = access.operation.width().bytes() as u64;
    let expected = match access.operation {
        Operation::Load(_) => cause::LOAD_GUEST_PAGE_FAULT,
        Operation::Store(_) => cause::STORE_GUEST_PAGE_FAULT,
    };
    // The code may have been changed between the fault and our look at it.
    if scause != expected || !addr.is_aligned(width) {
        return vcpu.suffer(access_fault(scause, stval));
    }
    let htinst = match trapped {
        TrapInstruction::Access(_) => htinst,
        TrapInstruction::Absent
        | TrapInstruction::Other
        | TrapInstruction::PageTableRead
        | TrapInstruction::PageTableWrite => NOTHING,
    };
    let (page, length) = (htval >> HTVAL_PAGE_SHIFT, access.length);
    match access.operation {
        Operation::Load(access) => {
            vcpu.load = Decoded {
                htinst,
                page,
                misaligned: width - 1,
                length,
                access,
                register: Stored::of(access.to),
            }
        }
        Operation::Store(access) => {
            vcpu.store = Decoded {
                htinst,
                page,
                misaligned: width - 1,
                length,
                access,
                register: Stored::of(access.from),
            }
        }
    }
    Next::Device
}

/// Asks the VM's devices, with all of the guest's registers in memory.
pub(crate) extern "C" fn device_handler<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
) -> Next {
    match SCAUSE.read() {
        cause::LOAD_GUEST_PAGE_FAULT => load(vcpu, context),
        _ => store(vcpu, context),
    }
}

/// The load that was decoded, whose register is in memory. What the devices do not answer leaves the loop.
#[inline(always)]
fn load<H: AxVCpuHal, D: DeviceAccess>(vcpu: &mut RISCVVCpu<H>, context: &Context<'_, D>) -> Next {
    vcpu.account.count(ExitKind::MmioRead);
    let answer = context.devices.mmio_read(target(), vcpu.load.access.width);
    let Some(value) = answer else {
        return unanswered_load(vcpu);
    };
    let access = &vcpu.load.access;
    let (to, value) = (access.to, access.extend(value));
    to.write(&mut vcpu.regs.guest_regs.x, value);
    answered(vcpu, context, vcpu.load.length)
}

/// The store likewise.
#[inline(always)]
fn store<H: AxVCpuHal, D: DeviceAccess>(vcpu: &mut RISCVVCpu<H>, context: &Context<'_, D>) -> Next {
    vcpu.account.count(ExitKind::MmioWrite);
    let access = &vcpu.store.access;
    let (width, data) = (access.width, access.data(&vcpu.regs.guest_regs.x));
    if context.devices.mmio_write(target(), width, data).is_none() {
        return unanswered_store(vcpu);
    }
    answered(vcpu, context, vcpu.store.length)
}

/// Past the instruction, and back.
#[inline(always)]
fn answered<H: AxVCpuHal, D>(
    vcpu: &mut RISCVVCpu<H>,
    context: &Context<'_, D>,
    length: u64,
) -> Next {
    vcpu.advance(length);
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
fn unanswered_load<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let Decoded { access, length, .. } = vcpu.load;
    vcpu.pending = Pending::Load(access);
    let exit = AxVCpuExitReason::MmioRead {
        addr: target(),
        width: access.width,
    };
    leave_past(vcpu, length, exit)
}

#[cold]
#[inline(never)]
fn unanswered_store<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let Decoded { access, length, .. } = vcpu.store;
    let exit = AxVCpuExitReason::MmioWrite {
        addr: target(),
        width: access.width,
        data: access.data(&vcpu.regs.guest_regs.x),
    };
    leave_past(vcpu, length, exit)
}

fn leave_past<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, length: u64, exit: AxVCpuExitReason) -> Next {
    let fault = access_fault(SCAUSE.read(), STVAL.read());
    let pc = SEPC.read();
    vcpu.last_access = Some(LastAccess { pc, fault });
    vcpu.advance(length);
    vcpu.leave(exit)
}
