//! String instructions that move between devices and memory, element by element: INS, OUTS, and MOVS, STOS, LODS on a device's memory.

use axaddrspace::GuestPhysAddr;
use axvcpu::{AccessWidth, AxVCpuExitReason, AxVCpuHal};

use crate::{
    X86VCpu,
    backend::{Direction, IoExit},
    cr::efer,
    decode::{CodeMode, Operation, Part, Repeat, StringForm},
    device::Pending,
    exit::{Next, Step},
    regs::{Register, SegmentName, gpr, rflags},
    walk::Access,
};

/// The longest operand in memory.
const MAX_OPERAND: usize = 8;

/// Guest memory that an operand lies in: in one page or two.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    first: GuestPhysAddr,
    /// Bytes there; the rest is at `second`.
    split: usize,
    second: GuestPhysAddr,
    len: usize,
}

impl<H: AxVCpuHal> X86VCpu<H> {
    /// One element of INS or OUTS.
    pub(crate) fn port_string(&mut self, io: IoExit) -> Step<Next> {
        let IoExit { port, width, .. } = io;
        let instruction = self.memory_instruction()?;
        let length = instruction.length;
        if let Operation::Input(form) | Operation::Output(form) = instruction.operation
            && self.is_over(form)
        {
            return Ok(self.advance(length));
        }
        match (instruction.operation, io.direction) {
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
    pub(crate) fn source(&self, form: StringForm) -> u64 {
        let segment = SegmentName::of_number(form.source_segment);
        self.linear(segment, self.regs.gpr[gpr::RSI], form)
    }

    /// And of its destination.
    pub(crate) fn destination(&self, form: StringForm) -> u64 {
        self.linear(SegmentName::Es, self.regs.gpr[gpr::RDI], form)
    }

    /// In 64-bit mode only FS and GS have bases. Segment limits are not checked: the guest's hardware did when it began the instruction.
    fn linear(&self, name: SegmentName, offset: u64, form: StringForm) -> u64 {
        let offset = offset & form.address_width.mask();
        let base = self.backend.segment(name).base;
        match (self.code_mode(), name) {
            (CodeMode::Bits64, SegmentName::Fs | SegmentName::Gs) => base.wrapping_add(offset),
            (CodeMode::Bits64, _) => offset,
            (CodeMode::Bits16 | CodeMode::Bits32, _) => base.wrapping_add(offset) & 0xffff_ffff,
        }
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

    /// Where `len` bytes at a linear address lie, if the guest may access them so.
    pub(crate) fn locate(&mut self, address: u64, len: usize, access: Access) -> Step<Operand> {
        let paging = self.paging(self.privilege());
        let translate = |address| paging.translate(&*self.memory, address, access);
        let in_page = (0x1000 - (address & 0xfff)) as usize;
        let split = len.min(in_page);
        let found = translate(address).and_then(|first| {
            let second = if split < len {
                translate(self.wrap(address.wrapping_add(split as u64)))?
            } else {
                first
            };
            Ok(Operand {
                first,
                split,
                second,
                len,
            })
        });
        found.map_err(|failure| self.walk_failed(failure))
    }

    /// Addresses outside of long mode have 32 bits.
    fn wrap(&self, address: u64) -> u64 {
        if self.backend.get(Register::Efer) & efer::LMA == 0 {
            address & 0xffff_ffff
        } else {
            address
        }
    }

    pub(crate) fn read_operand(&mut self, operand: Operand) -> Step<u64> {
        let mut bytes = [0; MAX_OPERAND];
        let (first, second) = bytes.split_at_mut(operand.split.min(MAX_OPERAND));
        let rest = operand.len.saturating_sub(operand.split);
        let read = self.memory.read(operand.first, first)
            && second
                .get_mut(..rest)
                .is_some_and(|second| rest == 0 || self.memory.read(operand.second, second));
        if read {
            Ok(u64::from_le_bytes(bytes))
        } else {
            Err(self.fail("a string instruction moves from one device to another"))
        }
    }

    pub(crate) fn write_operand(&mut self, operand: Operand, value: u64) -> Step<()> {
        let bytes = value.to_le_bytes();
        let bytes = bytes.get(..operand.len).unwrap_or(&[]);
        let (first, second) = bytes.split_at(operand.split.min(bytes.len()));
        let written = self.memory.write(operand.first, first)
            && (second.is_empty() || self.memory.write(operand.second, second));
        if written {
            Ok(())
        } else {
            Err(self.fail("a string instruction moves from one device to another"))
        }
    }
}
