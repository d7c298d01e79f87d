//! String instructions that move between devices and memory, element by element: INS, OUTS, and MOVS, STOS, LODS on a device's memory.

use axvcpu::{AccessWidth, AxVCpuExitReason, AxVCpuHal};

use crate::{
    backend::{Direction, IoExit, VendorVcpu},
    decode::{Operation, Part, Repeat, StringForm},
    device::Pending,
    exit::{Next, Step},
    operand::Linear,
    regs::{Register, SegmentName, gpr, rflags},
    vcpu::VCpu,
    walk::Access,
};

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// One element of INS or OUTS. Apart from IN and OUT, which would make room for it.
    #[cold]
    #[inline(never)]
    pub(crate) fn port_string(&mut self) -> Step<Next> {
        let IoExit {
            port,
            width,
            direction,
            kind: _,
        } = self.backend.io();
        let instruction = self.memory_instruction()?;
        let length = instruction.length;
        if let Operation::Input(form) | Operation::Output(form) = instruction.operation
            && self.is_over(form)
        {
            return Ok(self.advance(length));
        }
        match (instruction.operation, direction) {
            (Operation::Input(form), Direction::Read) => {
                // Before the device has lost what it gives.
                self.locate(self.destination(form), width.bytes(), Access::Write)?;
                self.pending = Pending::PortReadString {
                    width,
                    form,
                    length,
                };
                Ok(self.leave(AxVCpuExitReason::IoRead { port, width }))
            }
            (Operation::Output(form), Direction::Write) => {
                let operand = self.locate(self.source(form), width.bytes(), Access::Read)?;
                let data = self.read_operand(operand)?;
                match self.step_string(form, width, &[gpr::RSI], length) {
                    Next::Resume | Next::Look => {
                        self.pending = Pending::PortWrite;
                        Ok(self.leave(AxVCpuExitReason::IoWrite { port, width, data }))
                    }
                    Next::Leave => Ok(Next::Leave),
                }
            }
            // The code was changed between the exit and our look at it.
            _ => Ok(Next::Resume),
        }
    }

    /// Whether it is to be repeated no times, which not every processor sees before it exits.
    fn is_over(&self, form: StringForm) -> bool {
        match form.repeat {
            Repeat::Once => false,
            Repeat::ByCount => self.regs.gpr[gpr::RCX] & form.address_width.mask() == 0,
        }
    }

    /// The linear address of a string instruction's source.
    pub(crate) fn source(&self, form: StringForm) -> Linear {
        let segment = SegmentName::of_number(form.source_segment);
        self.linear(segment, self.regs.gpr[gpr::RSI], form)
    }

    /// And of its destination.
    pub(crate) fn destination(&self, form: StringForm) -> Linear {
        self.linear(SegmentName::Es, self.regs.gpr[gpr::RDI], form)
    }

    fn linear(&self, name: SegmentName, offset: u64, form: StringForm) -> Linear {
        self.linear_address(name, offset & form.address_width.mask())
    }

    /// One element of a string instruction is done: its registers move on, and after the last one so does the instruction pointer.
    pub(crate) fn step_string(
        &mut self,
        form: StringForm,
        width: AccessWidth,
        pointers: &[usize],
        length: u8,
    ) -> Next {
        let down = self.backend.get(Register::Rflags) & rflags::DIRECTION != 0;
        let step = width.bytes() as u64;
        let step = if down { step.wrapping_neg() } else { step };
        for &pointer in pointers {
            self.add_to(pointer, step, form);
        }
        match form.repeat {
            Repeat::Once => self.advance(length),
            Repeat::ByCount => {
                let left = self.add_to(gpr::RCX, u64::MAX, form);
                if left == 0 {
                    self.advance(length)
                } else {
                    Next::Resume
                }
            }
        }
    }

    /// Adds within the width of addresses; the sum.
    fn add_to(&mut self, number: usize, what: u64, form: StringForm) -> u64 {
        let part = Part::low(number, form.address_width);
        let sum = self.part(part).wrapping_add(what) & form.address_width.mask();
        self.set_part(part, sum);
        sum
    }
}
