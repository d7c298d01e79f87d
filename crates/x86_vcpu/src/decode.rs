//! What a guest's instruction does to a device's memory, or with a control register.
//!
//! An instruction that moves device memory in a way that is not here (floating-point, vectors, atomics but XCHG and the arithmetic that takes LOCK) is
//! answered with #UD: the program that reached for a device with it learns so, and the VM lives.

use axvcpu::AccessWidth;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::{alu::Operator, operand::MemoryOperand, regs::gpr};

/// The longest instruction.
pub(crate) const MAX_LENGTH: usize = 15;

/// Which of the processor's modes the code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeMode {
    Bits16,
    Bits32,
    Bits64,
}

impl CodeMode {
    const fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// The bytes of an instruction, as far as they could be read, at most [`MAX_LENGTH`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// One more than an instruction has: two words.
    pub(crate) bytes: [u8; 16],
    pub(crate) count: usize,
}

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or(&[])
    }
}

/// A general register or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u8,
    pub(crate) width: AccessWidth,
    pub(crate) place: Place,
}

/// Where in its register a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Low,
    /// AH, CH, DH, BH.
    SecondByte,
}

impl Part {
    fn of(register: Register) -> Option<Self> {
        let high = matches!(
            register,
            Register::AH | Register::CH | Register::DH | Register::BH
        );
        if !register.is_gpr() {
            return None;
        }
        Some(Self {
            number: (register.full_register().number()) as u8,
            width: width_of(register.size())?,
            place: if high { Place::SecondByte } else { Place::Low },
        })
    }

    /// The whole of register `number`, as wide as `width`.
    pub(crate) const fn low(number: usize, width: AccessWidth) -> Self {
        Self {
            number: number as u8,
            width,
            place: Place::Low,
        }
    }

    /// Its value, where `whole` is the register's.
    pub(crate) const fn read(self, whole: u64) -> u64 {
        match self.place {
            Place::Low => whole & self.width.mask(),
            Place::SecondByte => whole >> 8 & 0xff,
        }
    }

    /// The register's value once `value` is written to the part of `whole`: 32 bits clear the upper half, 8 and 16 leave the rest.
    pub(crate) const fn write(self, whole: u64, value: u64) -> u64 {
        match (self.place, self.width) {
            (Place::SecondByte, _) => whole & !0xff00 | (value & 0xff) << 8,
            (Place::Low, AccessWidth::Byte | AccessWidth::Word) => {
                whole & !self.width.mask() | value & self.width.mask()
            }
            (Place::Low, AccessWidth::Dword | AccessWidth::Qword) => value & self.width.mask(),
        }
    }
}

/// Where an operand that is not memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Register(Part),
    Immediate(u64),
}

/// What is done with a value that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extend {
    Zero,
    Sign,
}

/// Whether an operation's result is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Result,
    /// CMP, TEST.
    FlagsOnly,
}

/// How a string instruction repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Once,
    /// While RCX is not zero.
    ByCount,
}

/// A string instruction's parts that are not in fixed registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StringForm {
    pub(crate) repeat: Repeat,
    /// The width of RSI, RDI and RCX.
    pub(crate) address_width: AccessWidth,
    /// The segment of the source: a number as in [`SegmentName`](crate::regs::SegmentName)'s order.
    pub(crate) source_segment: u8,
}

/// What an instruction does with its one operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// MOV, MOVZX, MOVSX from memory.
    Load { to: Part, extend: Extend },
    /// MOV to memory.
    Store { from: Source },
    /// XCHG.
    Exchange { with: Part },
    /// Arithmetic with memory as the first operand.
    Update {
        operator: Operator,
        right: Source,
        keep: Keep,
    },
    /// Arithmetic with memory as the second.
    Combine {
        operator: Operator,
        to: Part,
        keep: Keep,
    },
    /// BT.
    TestBit { bit: Source },
    /// MOVS: of the two, one is a device's.
    Move(StringForm),
    /// STOS.
    Fill(StringForm),
    /// LODS.
    Fetch(StringForm),
    /// INS.
    Input(StringForm),
    /// OUTS.
    Output(StringForm),
}

/// An instruction that touches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryInstruction {
    pub(crate) operation: Operation,
    /// The width of the operand in memory.
    pub(crate) width: AccessWidth,
    pub(crate) length: u8,
}

/// How many instructions are remembered.
const REMEMBERED: usize = 8;

/// An instruction that was decoded.
#[derive(Debug)]
struct Known {
    /// Its own bytes, the first lowest, and which they are.
    bytes: u128,
    mask: u128,
    mode: CodeMode,
    found: MemoryInstruction,
}

/// What instructions that touch memory were decoded to: the few of a guest that reach for its devices. Their bytes are compared each time.
#[derive(Debug, Default)]
pub(crate) struct DecodeCache([Option<Known>; REMEMBERED]);

impl DecodeCache {
    /// What the code at `rip` was decoded to, which begins with `bytes`.
    #[inline]
    pub(crate) fn find(
        &self,
        rip: u64,
        bytes: [u8; 16],
        mode: CodeMode,
    ) -> Option<&MemoryInstruction> {
        let known = self.0[Self::place(rip)].as_ref()?;
        let same =
            (u128::from_le_bytes(bytes) ^ known.bytes) & known.mask == 0 && known.mode == mode;
        same.then_some(&known.found)
    }

    /// Remembers it.
    pub(crate) fn note(
        &mut self,
        rip: u64,
        bytes: &Bytes,
        mode: CodeMode,
        found: MemoryInstruction,
    ) {
        let unused = 128u32.saturating_sub(8 * u32::from(found.length));
        let mask = u128::MAX.checked_shr(unused).unwrap_or(0);
        self.0[Self::place(rip)] = Some(Known {
            bytes: u128::from_le_bytes(bytes.bytes) & mask,
            mask,
            mode,
            found,
        });
    }

    const fn place(rip: u64) -> usize {
        (rip ^ rip >> 3 ^ rip >> 6) as usize % REMEMBERED
    }
}

/// A MOV to or from a control register, CLTS or LMSW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlInstruction {
    pub(crate) access: crate::backend::ControlAccess,
    pub(crate) length: u8,
}

pub(crate) const fn width_of(bytes: usize) -> Option<AccessWidth> {
    match bytes {
        1 => Some(AccessWidth::Byte),
        2 => Some(AccessWidth::Word),
        4 => Some(AccessWidth::Dword),
        8 => Some(AccessWidth::Qword),
        _ => None,
    }
}

fn decode(bytes: &[u8], mode: CodeMode) -> Option<Instruction> {
    let mut decoder = Decoder::new(mode.bits(), bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (instruction.code() != Code::INVALID).then_some(instruction)
}

/// How long the instruction at the start of `bytes` is; `None` if it is none.
pub(crate) fn any_length(bytes: &[u8], mode: CodeMode) -> Option<u8> {
    decode(bytes, mode).map(|instruction| instruction.len() as u8)
}

/// What the instruction at the start of `bytes` does with memory; `None` if that is not known here.
pub(crate) fn memory_instruction(bytes: &[u8], mode: CodeMode) -> Option<MemoryInstruction> {
    let instruction = decode(bytes, mode)?;
    let operation = operation_of(&instruction)?;
    Some(MemoryInstruction {
        operation,
        width: width_of(instruction.memory_size().size())?,
        length: instruction.len() as u8,
    })
}

/// Where the memory is that the instruction at the start of `bytes` accesses.
pub(crate) fn memory_operand(bytes: &[u8], mode: CodeMode) -> Option<MemoryOperand> {
    MemoryOperand::of(&decode(bytes, mode)?)
}

/// What the instruction at the start of `bytes` does with a control register.
pub(crate) fn control_instruction(bytes: &[u8], mode: CodeMode) -> Option<ControlInstruction> {
    use crate::backend::{ControlAccess, ControlRegister};
    let instruction = decode(bytes, mode)?;
    let control = |register| match register {
        Register::CR0 => Some(ControlRegister::Cr0),
        Register::CR3 => Some(ControlRegister::Cr3),
        Register::CR4 => Some(ControlRegister::Cr4),
        Register::CR8 => Some(ControlRegister::Cr8),
        _ => None,
    };
    let general = |register| Part::of(register).map(|part| part.number);
    let (first, second) = (instruction.op0_register(), instruction.op1_register());
    let access = match instruction.mnemonic() {
        Mnemonic::Clts => ControlAccess::Clts,
        Mnemonic::Lmsw if is_memory(&instruction, 0) => ControlAccess::LmswMemory {
            operand: MemoryOperand::of(&instruction)?,
        },
        Mnemonic::Lmsw => ControlAccess::LmswRegister {
            gpr: general(first)?,
        },
        Mnemonic::Mov if first.is_cr() => ControlAccess::Write {
            register: control(first)?,
            gpr: general(second)?,
        },
        Mnemonic::Mov if second.is_cr() => ControlAccess::Read {
            register: control(second)?,
            gpr: general(first)?,
        },
        _ => return None,
    };
    Some(ControlInstruction {
        access,
        length: instruction.len() as u8,
    })
}

fn operation_of(instruction: &Instruction) -> Option<Operation> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Mov | M::Movnti if is_memory(instruction, 0) => Some(Operation::Store {
            from: source(instruction, 1)?,
        }),
        M::Mov | M::Movzx => load(instruction, Extend::Zero),
        M::Movsx | M::Movsxd => load(instruction, Extend::Sign),
        M::Xchg => {
            let with = register(instruction, 0).or_else(|| register(instruction, 1))?;
            Some(Operation::Exchange { with })
        }
        M::Add => arithmetic(instruction, Operator::Add, Keep::Result),
        M::Adc => arithmetic(instruction, Operator::Adc, Keep::Result),
        M::Sub => arithmetic(instruction, Operator::Sub, Keep::Result),
        M::Sbb => arithmetic(instruction, Operator::Sbb, Keep::Result),
        M::And => arithmetic(instruction, Operator::And, Keep::Result),
        M::Or => arithmetic(instruction, Operator::Or, Keep::Result),
        M::Xor => arithmetic(instruction, Operator::Xor, Keep::Result),
        M::Cmp => arithmetic(instruction, Operator::Sub, Keep::FlagsOnly),
        M::Test => arithmetic(instruction, Operator::And, Keep::FlagsOnly),
        M::Inc => unary(instruction, Operator::Inc),
        M::Dec => unary(instruction, Operator::Dec),
        M::Neg => unary(instruction, Operator::Neg),
        M::Not => unary(instruction, Operator::Not),
        // A bit number in a register reaches beyond the operand.
        M::Bt => match source(instruction, 1)? {
            bit @ Source::Immediate(_) => Some(Operation::TestBit { bit }),
            Source::Register(_) => None,
        },
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => {
            Some(Operation::Move(string_form(instruction, 0, 1)?))
        }
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => {
            Some(Operation::Fill(string_form(instruction, 0, 0)?))
        }
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => {
            Some(Operation::Fetch(string_form(instruction, 1, 1)?))
        }
        M::Insb | M::Insw | M::Insd => Some(Operation::Input(string_form(instruction, 0, 0)?)),
        M::Outsb | M::Outsw | M::Outsd => Some(Operation::Output(string_form(instruction, 1, 1)?)),
        _ => None,
    }
}

fn is_memory(instruction: &Instruction, operand: u32) -> bool {
    operand < instruction.op_count() && instruction.op_kind(operand) == OpKind::Memory
}

fn register(instruction: &Instruction, operand: u32) -> Option<Part> {
    let is_register =
        operand < instruction.op_count() && instruction.op_kind(operand) == OpKind::Register;
    is_register
        .then(|| Part::of(instruction.op_register(operand)))
        .flatten()
}

fn source(instruction: &Instruction, operand: u32) -> Option<Source> {
    register(instruction, operand)
        .map(Source::Register)
        .or_else(|| {
            instruction
                .try_immediate(operand)
                .ok()
                .map(Source::Immediate)
        })
}

fn load(instruction: &Instruction, extend: Extend) -> Option<Operation> {
    if !is_memory(instruction, 1) {
        return None;
    }
    Some(Operation::Load {
        to: register(instruction, 0)?,
        extend,
    })
}

fn arithmetic(instruction: &Instruction, operator: Operator, keep: Keep) -> Option<Operation> {
    if is_memory(instruction, 0) {
        Some(Operation::Update {
            operator,
            right: source(instruction, 1)?,
            keep,
        })
    } else if is_memory(instruction, 1) {
        Some(Operation::Combine {
            operator,
            to: register(instruction, 0)?,
            keep,
        })
    } else {
        None
    }
}

fn unary(instruction: &Instruction, operator: Operator) -> Option<Operation> {
    is_memory(instruction, 0).then_some(Operation::Update {
        operator,
        right: Source::Immediate(0),
        keep: Keep::Result,
    })
}

/// `operand`: one whose kind tells the address width; `source`: the one whose segment can be overridden.
fn string_form(instruction: &Instruction, operand: u32, source: u32) -> Option<StringForm> {
    let address_width = match instruction.op_kind(operand) {
        OpKind::MemorySegSI | OpKind::MemoryESDI => AccessWidth::Word,
        OpKind::MemorySegESI | OpKind::MemoryESEDI => AccessWidth::Dword,
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => AccessWidth::Qword,
        _ => return None,
    };
    let source_segment = match instruction.op_kind(source) {
        OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI => {
            instruction.memory_segment().number() as u8
        }
        // DS.
        _ => 3,
    };
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    Some(StringForm {
        repeat: if repeats {
            Repeat::ByCount
        } else {
            Repeat::Once
        },
        address_width,
        source_segment,
    })
}

/// RAX, as wide as `width`: what STOS stores and LODS loads.
pub(crate) const fn accumulator(width: AccessWidth) -> Part {
    Part::low(gpr::RAX, width)
}

#[cfg(test)]
mod tests;
