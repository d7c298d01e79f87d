//! Operands in the guest's memory that the hypervisor reads or writes for an instruction: where they are, and what is there.

use axaddrspace::GuestPhysAddr;
use axvcpu::{AccessWidth, AxVCpuHal};
use iced_x86::{Instruction, Register as Name};

use crate::{
    backend::VendorVcpu,
    cr::efer,
    decode::{self, CodeMode, MemoryInstruction, Operation, width_of},
    event::{Exception, vector},
    exit::{Next, Step},
    regs::{Register, SegmentName},
    vcpu::VCpu,
    walk::{Access, WalkFailure},
};

/// What an instruction says of where its operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOperand {
    segment: SegmentName,
    base: Base,
    index: Option<u8>,
    scale: u8,
    displacement: u64,
    address_width: AccessWidth,
}

/// What an address is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Nothing,
    Register(u8),
    /// RIP at the start of the instruction, whose length is in the displacement.
    Instruction,
}

impl MemoryOperand {
    /// That of `instruction`, if it has one in memory.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        let number = |name: Name| name.is_gpr().then(|| name.full_register().number() as u8);
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let bytes = [
            base.size(),
            index.size(),
            instruction.memory_displ_size() as usize,
        ];
        Some(Self {
            segment: SegmentName::of_number(instruction.memory_segment().number() as u8),
            base: match number(base) {
                Some(number) => Base::Register(number),
                None if instruction.is_ip_rel_memory_operand() => Base::Instruction,
                None => Base::Nothing,
            },
            index: number(index),
            scale: instruction.memory_index_scale() as u8,
            displacement: instruction.memory_displacement64(),
            address_width: width_of(bytes.into_iter().find(|&bytes| bytes != 0)?)?,
        })
    }
}

/// A linear address, and the segment that it was reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    segment: SegmentName,
    address: u64,
}

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

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// The linear address of an operand.
    pub(crate) fn address_of(&self, operand: MemoryOperand) -> Linear {
        let base = match operand.base {
            Base::Nothing => 0,
            Base::Register(number) => self.gpr(number),
            Base::Instruction => self.backend.get(Register::Rip),
        };
        let index = operand.index.map_or(0, |number| self.gpr(number));
        let offset = index
            .wrapping_mul(operand.scale.into())
            .wrapping_add(base)
            .wrapping_add(operand.displacement);
        self.linear_address(operand.segment, offset & operand.address_width.mask())
    }

    /// In 64-bit mode only FS and GS have bases. Segment limits are not checked: the guest's hardware did when it began the instruction.
    pub(crate) fn linear_address(&self, name: SegmentName, offset: u64) -> Linear {
        let base = self.backend.segment(name).base;
        let address = match (self.code_mode(), name) {
            (CodeMode::Bits64, SegmentName::Fs | SegmentName::Gs) => base.wrapping_add(offset),
            (CodeMode::Bits64, _) => offset,
            (CodeMode::Bits16 | CodeMode::Bits32, _) => base.wrapping_add(offset) & 0xffff_ffff,
        };
        Linear {
            segment: name,
            address,
        }
    }

    /// Where `len` bytes at a linear address of a segment lie, if the guest may access them so.
    pub(crate) fn locate(
        &mut self,
        Linear { segment, address }: Linear,
        len: usize,
        access: Access,
    ) -> Step<Operand> {
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
        found.map_err(|failure| self.operand_failed(segment, failure))
    }

    /// An operand's address led nowhere: one on the stack that is not canonical is #SS(0) (SDM 1, "Canonical Addressing").
    fn operand_failed(&mut self, segment: SegmentName, failure: WalkFailure) -> Next {
        match (segment, failure) {
            (SegmentName::Ss, WalkFailure::NotCanonical) => self.raise(Exception {
                vector: vector::STACK,
                error_code: Some(0),
            }),
            _ => self.walk_failed(failure),
        }
    }

    /// A device's register that reaches into the next page is accessed only if the guest may access that page too. The hardware has found the first
    /// one, at `gpa`, and had no occasion to look at the second.
    pub(crate) fn check_next_page(
        &mut self,
        gpa: GuestPhysAddr,
        instruction: &MemoryInstruction,
        access: Access,
    ) -> Step<()> {
        if (gpa.as_u64() & 0xfff) + instruction.width.bytes() as u64 <= 0x1000 {
            return Ok(());
        }
        let place = match (instruction.operation, access) {
            (Operation::Fill(form), _) | (Operation::Move(form), Access::Write) => {
                self.destination(form)
            }
            (Operation::Fetch(form) | Operation::Move(form), _) => self.source(form),
            // Whoever serves it finds that the code was changed.
            (Operation::Input(_) | Operation::Output(_), _) => return Ok(()),
            (
                Operation::Load { .. }
                | Operation::Store { .. }
                | Operation::Exchange { .. }
                | Operation::Update { .. }
                | Operation::Combine { .. }
                | Operation::TestBit { .. },
                _,
            ) => {
                let operand = self.decoded(decode::memory_operand)?;
                self.address_of(operand)
            }
        };
        let Linear { segment, address } = place;
        let next = Linear {
            segment,
            address: self.wrap((address | 0xfff).wrapping_add(1)),
        };
        self.locate(next, 1, access).map(|_| ())
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
            Err(self.fail("an operand lies outside of the guest's RAM, beside one that is a device's or a register"))
        }
    }

    /// What is RAM and cannot be written may only be read: #GP, as for a store.
    pub(crate) fn write_operand(&mut self, operand: Operand, value: u64) -> Step<()> {
        let bytes = value.to_le_bytes();
        let bytes = bytes.get(..operand.len).unwrap_or(&[]);
        let (first, second) = bytes.split_at(operand.split.min(bytes.len()));
        let written = self.memory.write(operand.first, first)
            && (second.is_empty() || self.memory.write(operand.second, second));
        if written {
            Ok(())
        } else if self.ram.contains(operand.first) && self.ram.contains(operand.second) {
            Err(self.general_protection())
        } else {
            Err(self.fail("an operand lies outside of the guest's RAM, beside one that is a device's or a register"))
        }
    }
}
