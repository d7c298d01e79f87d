//! Accesses that leave the vCPU for a device: ports, memory outside of RAM, system registers; and their completion once the device has answered.
//!
//! The instruction pointer is past the instruction when the access leaves, but for string instructions: those move on element by element, and
//! simply exit again for the next one ([`string`](crate::string)).

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axdevice::LocalApic;
use axerrno::{AxResult, ax_err};
use axvcpu::{AccessWidth, AxVCpuExitReason, AxVCpuHal, DeviceAccess};

use crate::{
    ExitKind, X86VCpu,
    alu::{self, Operator},
    backend::{Direction, IoExit, IoKind, NestedFault, NestedPurpose},
    decode::{
        self, Extend, Keep, MemoryInstruction, Operation, Part, Source, StringForm, accumulator,
    },
    exit::{Next, Step},
    regs::{Register, gpr},
    walk::Access,
};

/// What the last exit leaves to be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nothing.
    Nothing,
    /// A hypercall's answer.
    Hypercall,
    /// IN.
    PortRead { width: AccessWidth },
    /// INS, at this instruction.
    PortReadString {
        width: AccessWidth,
        form: StringForm,
        length: u8,
    },
    /// OUT, OUTS.
    PortWrite,
    /// A load from a device's memory by this instruction.
    MmioRead {
        instruction: MemoryInstruction,
        addr: GuestPhysAddr,
    },
    /// A store.
    MmioWrite,
    /// RDMSR at `rip`.
    SystemRegisterRead { rip: u64 },
    /// WRMSR at `rip`.
    SystemRegisterWrite { rip: u64 },
    /// RDMSR or WRMSR at `rip`, to which nothing answered.
    Refused { rip: u64 },
}

impl Pending {
    /// Whether it waits for a value.
    pub(crate) const fn is_read(self) -> bool {
        match self {
            Self::PortRead { .. }
            | Self::PortReadString { .. }
            | Self::MmioRead { .. }
            | Self::SystemRegisterRead { .. } => true,
            Self::Nothing
            | Self::Hypercall
            | Self::PortWrite
            | Self::MmioWrite
            | Self::SystemRegisterWrite { .. }
            | Self::Refused { .. } => false,
        }
    }
}

impl<H: AxVCpuHal> X86VCpu<H> {
    /// Nothing answers the last access.
    pub(crate) fn refuse_access(&mut self) -> AxResult {
        match self.pending {
            Pending::SystemRegisterRead { rip } | Pending::SystemRegisterWrite { rip } => {
                self.pending = Pending::Refused { rip };
            }
            Pending::PortRead { .. }
            | Pending::PortReadString { .. }
            | Pending::MmioRead { .. } => {
                self.answer = Some(u64::MAX);
            }
            Pending::PortWrite | Pending::MmioWrite => self.pending = Pending::Nothing,
            Pending::Nothing | Pending::Hypercall | Pending::Refused { .. } => {
                return ax_err!(BadState, "the last exit was no access");
            }
        }
        Ok(())
    }

    /// Before the guest runs again: what the last exit left. The vCPU is in the hardware.
    #[inline]
    pub(crate) fn complete(&mut self) -> Next {
        if matches!(self.pending, Pending::Nothing) {
            return Next::Resume;
        }
        let pending = core::mem::replace(&mut self.pending, Pending::Nothing);
        let value = self.answer.take();
        self.finish(pending, value.unwrap_or(u64::MAX))
            .unwrap_or_else(|next| next)
    }

    /// Has the VM's devices answer the exit, if it is an access to one, and completes it.
    pub(crate) fn ask(&mut self, devices: &dyn DeviceAccess) -> Next {
        loop {
            let done = |()| 0;
            let answer = match self.exit {
                AxVCpuExitReason::MmioRead { addr, width } => devices.mmio_read(addr, width),
                AxVCpuExitReason::MmioWrite { addr, width, data } => {
                    devices.mmio_write(addr, width, data).map(done)
                }
                AxVCpuExitReason::IoRead { port, width } => devices.port_read(port, width),
                AxVCpuExitReason::IoWrite { port, width, data } => {
                    devices.port_write(port, width, data).map(done)
                }
                AxVCpuExitReason::SysRegRead { addr } => devices.sys_reg_read(addr),
                AxVCpuExitReason::SysRegWrite { addr, value } => {
                    devices.sys_reg_write(addr, value).map(done)
                }
                AxVCpuExitReason::Nothing
                | AxVCpuExitReason::Hypercall { .. }
                | AxVCpuExitReason::Console(_)
                | AxVCpuExitReason::NestedPageFault { .. }
                | AxVCpuExitReason::ExternalInterrupt { .. }
                | AxVCpuExitReason::CpuUp { .. }
                | AxVCpuExitReason::CpuStatus { .. }
                | AxVCpuExitReason::CpuDown
                | AxVCpuExitReason::SendIPI { .. }
                | AxVCpuExitReason::RemoteFence { .. }
                | AxVCpuExitReason::Halt
                | AxVCpuExitReason::SystemDown { .. }
                | AxVCpuExitReason::FailEntry { .. }
                | AxVCpuExitReason::Unknown(_) => None,
            };
            let Some(value) = answer else {
                return Next::Leave;
            };
            self.answer = Some(value);
            if devices.wants_exit() {
                return self.leave(AxVCpuExitReason::Nothing);
            }
            // An instruction that reads and writes has another access to make.
            if self.complete() != Next::Leave {
                return Next::Look;
            }
        }
    }

    fn finish(&mut self, pending: Pending, value: u64) -> Step<Next> {
        match pending {
            Pending::Nothing
            | Pending::Hypercall
            | Pending::PortWrite
            | Pending::MmioWrite
            | Pending::SystemRegisterWrite { .. } => {}
            Pending::PortRead { width } => self.set_part(accumulator(width), value),
            Pending::PortReadString {
                width,
                form,
                length,
            } => {
                let operand = self.locate(self.destination(form), width.bytes(), Access::Write)?;
                self.write_operand(operand, value)?;
                return Ok(self.step_string(form, width, &[gpr::RDI], length));
            }
            Pending::MmioRead { instruction, addr } => {
                return self.finish_load(instruction, addr, value);
            }
            Pending::SystemRegisterRead { .. } => self.set_edx_eax(value),
            Pending::Refused { rip } => {
                self.backend.set(Register::Rip, rip);
                return Ok(self.general_protection());
            }
        }
        Ok(Next::Resume)
    }

    /// IN, OUT, INS, OUTS.
    #[inline(always)]
    pub(crate) fn port_access(
        &mut self,
        length: Option<u8>,
        io: IoExit,
        devices: &dyn DeviceAccess,
    ) -> Step<Next> {
        let IoExit {
            port,
            width,
            direction,
            kind,
        } = io;
        self.counters.count(match direction {
            Direction::Read => ExitKind::PortRead,
            Direction::Write => ExitKind::PortWrite,
        });
        if kind == IoKind::String {
            return self.port_string(io);
        }
        let length = match length {
            Some(length) => length,
            None => self.decoded(decode::any_length)?,
        };
        let (pending, exit) = match direction {
            Direction::Read => {
                if let Some(value) = devices.port_read(port, width) {
                    let rax = &mut self.regs.gpr[gpr::RAX];
                    *rax = accumulator(width).write(*rax, value);
                    return Ok(self.answered(length));
                }
                (
                    Pending::PortRead { width },
                    AxVCpuExitReason::IoRead { port, width },
                )
            }
            Direction::Write => {
                let data = self.regs.gpr[gpr::RAX] & width.mask();
                if devices.port_write(port, width, data).is_some() {
                    return Ok(self.answered(length));
                }
                (
                    Pending::PortWrite,
                    AxVCpuExitReason::IoWrite { port, width, data },
                )
            }
        };
        Ok(self.leave_for_device(length, pending, exit))
    }

    /// Past the instruction, whose access a device has answered.
    #[inline]
    pub(crate) fn answered(&mut self, length: u8) -> Next {
        match self.advance(length) {
            Next::Resume | Next::Look => Next::Look,
            Next::Leave => Next::Leave,
        }
    }

    /// Past the instruction, and out to a device.
    fn leave_for_device(&mut self, length: u8, pending: Pending, exit: AxVCpuExitReason) -> Next {
        match self.advance(length) {
            Next::Resume | Next::Look => {
                self.pending = pending;
                self.leave(exit)
            }
            Next::Leave => Next::Leave,
        }
    }

    /// An access that the nested table does not allow: RAM that is not there yet, or a device.
    #[inline]
    pub(crate) fn nested_fault(
        &mut self,
        fault: NestedFault,
        devices: &dyn DeviceAccess,
    ) -> Step<Next> {
        match self.simple_access(fault, devices) {
            Some(next) => Ok(next),
            None => self.any_nested_fault(fault),
        }
    }

    /// A load or store that was seen before, and that a device answers at once. `None`: nothing has happened.
    #[inline]
    fn simple_access(&mut self, fault: NestedFault, devices: &dyn DeviceAccess) -> Option<Next> {
        let NestedFault { gpa, access, .. } = fault;
        let is_own = gpa.align_down(LocalApic::PAGE_SIZE) == LocalApic::PAGE;
        if fault.purpose == NestedPurpose::PageWalk
            || self.events.is_delivering()
            || !is_own && self.is_ram(gpa)
        {
            return None;
        }
        let &MemoryInstruction {
            ref operation,
            width,
            length,
        } = self.known_instruction()?;
        match *operation {
            Operation::Load { to, extend } if access == MappingFlags::READ => {
                let value = if is_own {
                    self.local.load(gpa, width)?
                } else {
                    devices.mmio_read(gpa, width)?
                };
                self.counters.count(ExitKind::MmioRead);
                self.set_part(to, extended(value, width, extend));
            }
            Operation::Store { from } if access == MappingFlags::WRITE => {
                let data = self.value(from) & width.mask();
                if is_own {
                    let schedule = self.local.store(gpa, width, data)?;
                    self.follow(schedule);
                } else {
                    devices.mmio_write(gpa, width, data)?;
                }
                self.counters.count(ExitKind::MmioWrite);
            }
            _ => return None,
        }
        Some(self.answered(length))
    }

    #[cold]
    fn any_nested_fault(&mut self, fault: NestedFault) -> Step<Next> {
        let NestedFault {
            gpa,
            access,
            purpose,
        } = fault;
        if self.is_ram(gpa) {
            self.counters.count(ExitKind::NestedFault);
            return Ok(self.leave(AxVCpuExitReason::NestedPageFault {
                addr: gpa,
                access_flags: access,
            }));
        }
        if purpose == NestedPurpose::PageWalk {
            return Ok(self.fail("the guest's page tables lie outside of its RAM"));
        }
        if access.contains(MappingFlags::EXECUTE) {
            return Ok(self.fail("the guest's code lies outside of its RAM"));
        }
        if self.events.is_delivering() {
            return Ok(
                self.fail("the guest's stack or tables for interrupts lie outside of its RAM")
            );
        }
        let instruction = self.memory_instruction()?;
        if access.contains(MappingFlags::WRITE) {
            self.device_write(instruction, gpa)
        } else {
            Ok(self.device_read(instruction, gpa))
        }
    }

    /// The device's part of an instruction that only reads it, or reads it first.
    fn device_read(&mut self, instruction: MemoryInstruction, addr: GuestPhysAddr) -> Next {
        self.counters.count(ExitKind::MmioRead);
        let pending = Pending::MmioRead { instruction, addr };
        let exit = AxVCpuExitReason::MmioRead {
            addr,
            width: instruction.width,
        };
        match instruction.operation {
            Operation::Load { .. }
            | Operation::Exchange { .. }
            | Operation::Update { .. }
            | Operation::Combine { .. }
            | Operation::TestBit { .. } => self.leave_for_device(instruction.length, pending, exit),
            Operation::Move(_) | Operation::Fetch(_) => {
                self.pending = pending;
                self.leave(exit)
            }
            // They do not read memory: the code was changed.
            Operation::Store { .. }
            | Operation::Fill(_)
            | Operation::Input(_)
            | Operation::Output(_) => Next::Resume,
        }
    }

    /// The device's part of an instruction that writes it.
    fn device_write(&mut self, instruction: MemoryInstruction, addr: GuestPhysAddr) -> Step<Next> {
        let MemoryInstruction {
            operation,
            width,
            length,
        } = instruction;
        let store = |data| AxVCpuExitReason::MmioWrite {
            addr,
            width,
            data: data & width.mask(),
        };
        match operation {
            Operation::Store { from } => {
                self.counters.count(ExitKind::MmioWrite);
                let exit = store(self.value(from));
                Ok(self.leave_for_device(length, Pending::MmioWrite, exit))
            }
            Operation::Fill(form) => {
                self.counters.count(ExitKind::MmioWrite);
                let exit = store(self.regs.gpr[gpr::RAX]);
                let next = self.step_string(form, width, &[gpr::RDI], length);
                Ok(self.then_leave(next, exit))
            }
            Operation::Move(form) => {
                self.counters.count(ExitKind::MmioWrite);
                let operand = self.locate(self.source(form), width.bytes(), Access::Read)?;
                let exit = store(self.read_operand(operand)?);
                let next = self.step_string(form, width, &[gpr::RSI, gpr::RDI], length);
                Ok(self.then_leave(next, exit))
            }
            // The hardware tells of the write, but they read first.
            Operation::Exchange { .. } | Operation::Update { .. } => {
                Ok(self.device_read(instruction, addr))
            }
            // They do not write memory, or not this memory: the code was changed.
            Operation::Load { .. }
            | Operation::Combine { .. }
            | Operation::TestBit { .. }
            | Operation::Fetch(_)
            | Operation::Input(_)
            | Operation::Output(_) => Ok(Next::Resume),
        }
    }

    fn then_leave(&mut self, next: Next, exit: AxVCpuExitReason) -> Next {
        match next {
            Next::Resume | Next::Look => {
                self.pending = Pending::MmioWrite;
                self.leave(exit)
            }
            Next::Leave => Next::Leave,
        }
    }

    /// The device has given `value`.
    fn finish_load(
        &mut self,
        instruction: MemoryInstruction,
        addr: GuestPhysAddr,
        value: u64,
    ) -> Step<Next> {
        let MemoryInstruction {
            operation,
            width,
            length,
        } = instruction;
        let value = value & width.mask();
        let mut flags = self.backend.get(Register::Rflags);
        let mut write_back = None;
        match operation {
            Operation::Load { to, extend } => {
                self.set_part(to, extended(value, width, extend));
            }
            Operation::Exchange { with } => {
                write_back = Some(self.part(with));
                self.set_part(with, value);
            }
            Operation::Update {
                operator,
                right,
                keep,
            } => {
                let (result, after) =
                    alu::compute(operator, value, self.value(right), width, flags);
                flags = after;
                write_back = match keep {
                    Keep::Result => Some(result),
                    Keep::FlagsOnly => None,
                };
            }
            Operation::Combine { operator, to, keep } => {
                let (result, after) = self.combine(operator, to, value, flags);
                flags = after;
                match keep {
                    Keep::Result => self.set_part(to, result),
                    Keep::FlagsOnly => {}
                }
            }
            Operation::TestBit { bit } => {
                flags = alu::test_bit(value, self.value(bit), width, flags);
            }
            Operation::Move(form) => {
                let operand = self.locate(self.destination(form), width.bytes(), Access::Write)?;
                self.write_operand(operand, value)?;
                return Ok(self.step_string(form, width, &[gpr::RSI, gpr::RDI], length));
            }
            Operation::Fetch(form) => {
                self.set_part(accumulator(width), value);
                return Ok(self.step_string(form, width, &[gpr::RSI], length));
            }
            Operation::Store { .. }
            | Operation::Fill(_)
            | Operation::Input(_)
            | Operation::Output(_) => {}
        }
        self.backend.set(Register::Rflags, flags);
        Ok(match write_back {
            None => Next::Resume,
            Some(data) => {
                self.counters.count(ExitKind::MmioWrite);
                let data = data & width.mask();
                self.then_leave(
                    Next::Resume,
                    AxVCpuExitReason::MmioWrite { addr, width, data },
                )
            }
        })
    }

    fn combine(&self, operator: Operator, to: Part, value: u64, flags: u64) -> (u64, u64) {
        alu::compute(operator, self.part(to), value, to.width, flags)
    }

    pub(crate) fn part(&self, part: Part) -> u64 {
        part.read(self.gpr(part.number))
    }

    pub(crate) fn set_part(&mut self, part: Part, value: u64) {
        let whole = self.gpr(part.number);
        self.set_gpr(part.number, part.write(whole, value));
    }

    fn value(&self, source: Source) -> u64 {
        match source {
            Source::Register(part) => self.part(part),
            Source::Immediate(value) => value,
        }
    }
}

/// A value of `width` that was loaded, as wide as a register.
const fn extended(value: u64, width: AccessWidth, extend: Extend) -> u64 {
    match extend {
        Extend::Zero => value & width.mask(),
        Extend::Sign => {
            let unused = 64 - 8 * width.bytes() as u32;
            ((value << unused) as i64 >> unused) as u64
        }
    }
}

#[cfg(test)]
mod loop_tests;
#[cfg(test)]
mod tests;
