//! Memory that is no RAM: loads and stores that the nested table does not allow, answered at once where the instruction is known and simple.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axdevice::LocalApic;
use axvcpu::{AccessWidth, AxVCpuExitReason, AxVCpuHal, DeviceAccess};

use crate::{
    ExitKind,
    alu::{self, Operator},
    backend::{NestedFault, NestedPurpose, VendorVcpu},
    decode::{Extend, Keep, MemoryInstruction, Operation, Part, accumulator},
    device::Pending,
    exit::{Next, Step},
    regs::{Register, gpr},
    vcpu::VCpu,
    walk::Access,
};

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
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
            || !is_own && self.ram.contains_after_all(gpa)
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
        if self.ram.contains(gpa) {
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
        let writes = access.contains(MappingFlags::WRITE);
        let purpose = if writes { Access::Write } else { Access::Read };
        self.check_next_page(gpa, &instruction, purpose)?;
        if writes {
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
    pub(crate) fn finish_load(
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
