//! A guest's loads and stores of devices.
//!
//! A guest that polls, or fills a register, runs the same instruction at the same device again and again. So the last load and the last store
//! are remembered decoded, by what the hardware says of them ([`Decoded`]), and with the device that they met ([`MmioWindow`]); then the access is
//! answered with no more of the guest's registers in memory than the trap stored. The rest takes the longer way: [`undecoded`], and [`device_handler`] with all registers in memory.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axvcpu::{
    AccessWidth, AxVCpuExitReason, AxVCpuHal, DeviceAccess, Mailbox, MmioRegisters, MmioWindow,
};

use super::{Context, access_fault, fetch};
use crate::{
    ExitKind, RISCVVCpu,
    csr::{HTINST, HTVAL, SCAUSE, SEPC, STVAL},
    exception::cause,
    insn::{self, Access, Extension, Load, Operation, Store, TrapInstruction, Unused},
    regs::TrapCsrs,
    trap::{Next, Stored},
    vcpu::{LastAccess, Pending},
};

/// The last load, or the last store, that was decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded<T> {
    /// What it was decoded from; [`NOTHING`] where it has to be decoded again.
    htinst: u64,
    /// The bits of an address that it is not aligned with.
    misaligned: u64,
    /// How far the program counter moves past it.
    length: u64,
    access: T,
    /// What it leaves of its register.
    unused: Unused,
    /// Where its register is while the trap is served.
    register: Stored,
}

/// `htinst` never has all bits set: an odd one is an instruction of 32 bits, with zeros above it (privileged specification, "Transformed Instruction or
/// Pseudoinstruction for mtinst or htinst").
const NOTHING: u64 = u64::MAX;

impl<T> Decoded<T> {
    /// Where nothing was decoded yet, `access` may be any.
    const fn none(access: T) -> Self {
        Self {
            htinst: NOTHING,
            misaligned: 0,
            length: 0,
            access,
            unused: Unused::of(AccessWidth::Byte),
            register: Stored::Later,
        }
    }

    /// What the present trap is to the device in `window`, if it is of this instruction and meets that device. Its opcode says whether it loads or
    /// stores, as the cause does.
    #[inline(always)]
    fn again<'a, R: ?Sized>(&self, window: &Option<MmioWindow<'a, R>>) -> Option<(&'a R, u64)> {
        let window = window.as_ref()?;
        let stval = STVAL.read();
        if HTINST.read() != self.htinst || stval & self.misaligned != 0 {
            return None;
        }
        let offset = window.offset(target(HTVAL.read(), stval))?;
        Some((window.registers(), offset))
    }
}

impl Decoded<Load> {
    pub(crate) const NONE: Self = Self::none(Load::NONE);
}

impl Decoded<Store> {
    pub(crate) const NONE: Self = Self::none(Store::NONE);
}

/// What the present trap tried to reach, if it was not the guest's page table: `htval` is the address without its two lowest bits.
#[inline(always)]
fn target(htval: u64, stval: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(htval << 2 | stval & 0b11)
}

/// A load that the nested table does not allow.
#[inline(never)]
pub(super) fn load_fault<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &mut Context<'_, D>,
) -> Next {
    let Some((registers, offset)) = vcpu.load.again(&context.load) else {
        return undecoded(vcpu, context);
    };
    match vcpu.load.register {
        Stored::AtTrap => load(vcpu, context.mailbox, registers, offset),
        Stored::Later => Next::Device,
    }
}

/// A store that the nested table does not allow.
#[inline(never)]
pub(super) fn store_fault<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &mut Context<'_, D>,
) -> Next {
    let Some((registers, offset)) = vcpu.store.again(&context.store) else {
        return undecoded(vcpu, context);
    };
    match vcpu.store.register {
        Stored::AtTrap => store(vcpu, context.mailbox, registers, offset),
        Stored::Later => Next::Device,
    }
}

/// As [`load_fault`] and [`store_fault`], where the instruction or the device is another than last time; also fetches.
#[cold]
#[inline(never)]
pub(super) fn undecoded<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &mut Context<'_, D>,
) -> Next {
    let (scause, stval, htinst) = (SCAUSE.read(), STVAL.read(), HTINST.read());
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

    let Some(gap) = vcpu.gap_in_ram(addr) else {
        vcpu.account.count(ExitKind::NestedFault);
        vcpu.regs.trap_csrs = TrapCsrs::read();
        vcpu.last_access = Some(LastAccess {
            pc: SEPC.read(),
            fault: access_fault(scause, stval),
        });
        return vcpu.leave(AxVCpuExitReason::NestedPageFault {
            addr,
            access_flags: tried,
        });
    };
    let access = match trapped {
        TrapInstruction::Access(access) => access,
        TrapInstruction::Absent if scause != cause::INSTRUCTION_GUEST_PAGE_FAULT => {
            match fetch_access(SEPC.read()) {
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
    let width = access.operation.width();
    let misaligned = width.bytes() as u64 - 1;
    let expected = match access.operation {
        Operation::Load(_) => cause::LOAD_GUEST_PAGE_FAULT,
        Operation::Store(_) => cause::STORE_GUEST_PAGE_FAULT,
    };
    // The code may have been changed between the fault and our look at it.
    if scause != expected || addr.as_u64() & misaligned != 0 {
        return vcpu.suffer(access_fault(scause, stval));
    }
    let window = context.devices.mmio_window(addr, width);
    let htinst = match (trapped, &window) {
        (TrapInstruction::Access(_), Some(window)) if window.starts_in(&gap) => htinst,
        // The next time is not known by what the hardware says of it, or it may be RAM.
        (
            TrapInstruction::Access(_)
            | TrapInstruction::Absent
            | TrapInstruction::Other
            | TrapInstruction::PageTableRead
            | TrapInstruction::PageTableWrite,
            _,
        ) => NOTHING,
    };
    let length = access.length;
    let register = match access.operation {
        Operation::Load(access) => {
            let register = Stored::of(access.to);
            context.load = window;
            vcpu.load = Decoded {
                htinst,
                misaligned,
                length,
                access,
                unused: Unused::of(width),
                register,
            };
            register
        }
        Operation::Store(access) => {
            let register = Stored::of(access.from);
            context.store = window;
            vcpu.store = Decoded {
                htinst,
                misaligned,
                length,
                access,
                unused: Unused::of(width),
                register,
            };
            register
        }
    };
    match register {
        Stored::AtTrap => device_handler(vcpu, context),
        Stored::Later => Next::Device,
    }
}

/// The load or store at `pc`, if it is one; `None` if it cannot be read. Apart, as it takes registers that what `htinst` says does not.
#[cold]
#[inline(never)]
fn fetch_access(pc: u64) -> Option<Option<Access>> {
    fetch(pc).map(insn::decode)
}

/// Asks the device that was found for the instruction that was decoded, whose register is in memory.
pub(crate) extern "C" fn device_handler<H: AxVCpuHal, D: DeviceAccess>(
    vcpu: &mut RISCVVCpu<H>,
    context: &mut Context<'_, D>,
) -> Next {
    fn found<'a, R: ?Sized>(window: &Option<MmioWindow<'a, R>>) -> Option<(&'a R, u64)> {
        let window = window.as_ref()?;
        let offset = window.offset(target(HTVAL.read(), STVAL.read()))?;
        Some((window.registers(), offset))
    }
    match SCAUSE.read() {
        cause::LOAD_GUEST_PAGE_FAULT => match found(&context.load) {
            Some((registers, offset)) => load(vcpu, context.mailbox, registers, offset),
            None => unanswered_load(vcpu),
        },
        _ => match found(&context.store) {
            Some((registers, offset)) => store(vcpu, context.mailbox, registers, offset),
            None => unanswered_store(vcpu),
        },
    }
}

/// The load that was decoded, whose register is in memory. What the device does not answer leaves the loop.
#[inline(always)]
fn load<H: AxVCpuHal, R: MmioRegisters + ?Sized>(
    vcpu: &mut RISCVVCpu<H>,
    mailbox: &Mailbox,
    registers: &R,
    offset: u64,
) -> Next {
    let Some(value) = registers.load(offset, vcpu.load.access.width) else {
        return unanswered_load(vcpu);
    };
    let Decoded { access, unused, .. } = &vcpu.load;
    let value = unused.extend(access.extension, value);
    access.to.write(&mut vcpu.regs.guest_regs.x, value);
    vcpu.account.count(ExitKind::MmioRead);
    answered(vcpu, mailbox, vcpu.load.length)
}

/// The store likewise.
#[inline(always)]
fn store<H: AxVCpuHal, R: MmioRegisters + ?Sized>(
    vcpu: &mut RISCVVCpu<H>,
    mailbox: &Mailbox,
    registers: &R,
    offset: u64,
) -> Next {
    let Decoded { access, unused, .. } = &vcpu.store;
    let data = unused.extend(Extension::Zero, access.from.read(&vcpu.regs.guest_regs.x));
    if registers.store(offset, access.width, data).is_none() {
        return unanswered_store(vcpu);
    }
    vcpu.account.count(ExitKind::MmioWrite);
    answered(vcpu, mailbox, vcpu.store.length)
}

/// Past the instruction, and back.
#[inline(always)]
fn answered<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, mailbox: &Mailbox, length: u64) -> Next {
    vcpu.advance(length);
    // The device may have moved a line of this very vCPU.
    if mailbox.has_changed_from(vcpu.lines) {
        open(vcpu, mailbox)
    } else {
        Next::Resume
    }
}

#[inline(never)]
fn open<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, mailbox: &Mailbox) -> Next {
    vcpu.open(mailbox.take());
    Next::Resume
}

/// No device answers in the loop: the VM decides.
#[cold]
#[inline(never)]
fn unanswered_load<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    vcpu.account.count(ExitKind::MmioRead);
    let Decoded { access, length, .. } = vcpu.load;
    vcpu.pending = Pending::Load(access);
    let exit = AxVCpuExitReason::MmioRead {
        addr: target(HTVAL.read(), STVAL.read()),
        width: access.width,
    };
    leave_past(vcpu, length, exit)
}

#[cold]
#[inline(never)]
fn unanswered_store<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    vcpu.account.count(ExitKind::MmioWrite);
    let Decoded { access, length, .. } = vcpu.store;
    let exit = AxVCpuExitReason::MmioWrite {
        addr: target(HTVAL.read(), STVAL.read()),
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
