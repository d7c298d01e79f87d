//! Decodes the load or store behind a guest page fault.
//!
//! The hardware may hand the instruction over in `htinst`, transformed; else it is read from the guest's code. Either way it is
//! the guest's, so any word at all may come. Only plain integer loads and stores are decoded: nothing else works on a device's
//! registers. Encodings: unprivileged specification, "RV32/64G Instruction Set Listings" and "C Extension"; privileged
//! specification, "Transformed Instruction or Pseudoinstruction for mtinst or htinst".

use axvcpu::AccessWidth;

/// `wfi`.
pub(crate) const WFI: u32 = 0x1050_0073;
/// `wrs.nto` (Zawrs): waits for a store for as long as it likes, which may be not at all.
pub(crate) const WRS_NTO: u32 = 0x00d0_0073;

/// The number of an integer register, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u8);

impl Register {
    /// The register of this number.
    #[cfg(not(target_arch = "riscv64"))]
    pub(crate) const fn numbered(number: u32) -> Self {
        Self(number as u8 & 0x1f)
    }

    /// Its number: below 32.
    pub(crate) const fn number(self) -> u32 {
        self.0 as u32 & 0x1f
    }

    /// The five bits of `word` from bit `shift` on.
    const fn at(word: u32, shift: u32) -> Self {
        Self((word >> shift & 0x1f) as u8)
    }

    /// A compressed instruction's three bits: one of `x8` to `x15`.
    const fn compressed_at(word: u32, shift: u32) -> Self {
        Self((word >> shift & 0b111) as u8 + 8)
    }

    /// Its value. `x0` is kept zero in memory.
    pub(crate) fn read(self, x: &[u64; 32]) -> u64 {
        x[usize::from(self.0 & 0x1f)]
    }

    /// Changes it, unless it is `x0`.
    pub(crate) fn write(self, x: &mut [u64; 32], value: u64) {
        if self.0 != 0 {
            x[usize::from(self.0 & 0x1f)] = value;
        }
    }
}

/// What a load does with the bits above its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    Zero,
    Sign,
}

/// How many of a register's upper bits an access leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unused(u8);

impl Unused {
    pub(crate) const fn of(width: AccessWidth) -> Self {
        Self(64 - 8 * width.bytes() as u8)
    }

    /// `value` with those bits as the extension has them.
    #[inline(always)]
    pub(crate) const fn extend(self, extension: Extension, value: u64) -> u64 {
        let count = self.0 as u32;
        let shifted = value.wrapping_shl(count);
        match extension {
            Extension::Zero => shifted.wrapping_shr(count),
            Extension::Sign => (shifted as i64).wrapping_shr(count) as u64,
        }
    }
}

/// A load's other half, once the value is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) width: AccessWidth,
    pub(crate) extension: Extension,
    pub(crate) to: Register,
}

impl Load {
    /// Stands where there was none.
    pub(crate) const NONE: Self = Self {
        width: AccessWidth::Byte,
        extension: Extension::Zero,
        to: Register(0),
    };

    /// The register's value for what the device answered.
    pub(crate) const fn extend(self, value: u64) -> u64 {
        Unused::of(self.width).extend(self.extension, value)
    }
}

/// A store's other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) width: AccessWidth,
    pub(crate) from: Register,
}

impl Store {
    /// Stands where there was none.
    pub(crate) const NONE: Self = Self {
        width: AccessWidth::Byte,
        from: Register(0),
    };

    /// What it writes.
    pub(crate) fn data(self, x: &[u64; 32]) -> u64 {
        Unused::of(self.width).extend(Extension::Zero, self.from.read(x))
    }
}

/// A load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Load(Load),
    Store(Store),
}

impl Operation {
    pub(crate) const fn width(self) -> AccessWidth {
        match self {
            Self::Load(load) => load.width,
            Self::Store(store) => store.width,
        }
    }
}

/// A load or store and how far the program counter moves past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) operation: Operation,
    /// 2 or 4 bytes.
    pub(crate) length: u64,
}

/// What `htinst` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrapInstruction {
    /// Nothing that can be used: read the instruction itself.
    Absent,
    /// It is a load or store.
    Access(Access),
    /// It is an instruction that no device answers.
    Other,
    /// There is none: the hardware read or updated the guest's page table.
    PageTableRead,
    /// It updated it.
    PageTableWrite,
}

const OPCODE_LOAD: u32 = 0x03;
const OPCODE_STORE: u32 = 0x23;

/// Decodes `htinst`.
pub(crate) fn decode_trap_instruction(htinst: u64) -> TrapInstruction {
    match u32::try_from(htinst) {
        Ok(word) if word & 1 == 1 => decode_transformed(word),
        // 32-bit and 64-bit entries of the guest's page table.
        Ok(0x2000 | 0x3000) => TrapInstruction::PageTableRead,
        Ok(0x2020 | 0x3020) => TrapInstruction::PageTableWrite,
        // Zero, or a custom or reserved value.
        Ok(_) | Err(_) => TrapInstruction::Absent,
    }
}

/// A transformed instruction is always that of 32 bits; bit 1 tells whether the original was.
fn decode_transformed(word: u32) -> TrapInstruction {
    let length = if word & 2 == 0 { 2 } else { 4 };
    // Where the base register was: how far into a misaligned access the fault is.
    let offset = word >> 15 & 0x1f;
    match decode_standard(word | 2) {
        Some(operation) if offset == 0 => TrapInstruction::Access(Access { operation, length }),
        _ => TrapInstruction::Other,
    }
}

/// Decodes an instruction as it is in memory; of a 16-bit one, the upper half of `word` does not matter.
pub(crate) fn decode(word: u32) -> Option<Access> {
    let (operation, length) = match word & 0b11 {
        0b11 => (decode_standard(word), 4),
        _ => (decode_compressed(word), 2),
    };
    operation.map(|operation| Access { operation, length })
}

/// Whether the instruction that begins with `half` is 32 bits long, not 16.
pub(crate) const fn is_standard(half: u16) -> bool {
    half & 0b11 == 0b11
}

fn decode_standard(word: u32) -> Option<Operation> {
    use AccessWidth::{Byte, Dword, Qword, Word};
    let funct3 = word >> 12 & 0b111;
    match word & 0x7f {
        OPCODE_LOAD => {
            let (width, extension) = match funct3 {
                0 => (Byte, Extension::Sign),
                1 => (Word, Extension::Sign),
                2 => (Dword, Extension::Sign),
                3 => (Qword, Extension::Zero),
                4 => (Byte, Extension::Zero),
                5 => (Word, Extension::Zero),
                6 => (Dword, Extension::Zero),
                _ => return None,
            };
            let to = Register::at(word, 7);
            Some(Operation::Load(Load {
                width,
                extension,
                to,
            }))
        }
        OPCODE_STORE => {
            let width = match funct3 {
                0 => Byte,
                1 => Word,
                2 => Dword,
                3 => Qword,
                _ => return None,
            };
            let from = Register::at(word, 20);
            Some(Operation::Store(Store { width, from }))
        }
        _ => None,
    }
}

fn decode_compressed(word: u32) -> Option<Operation> {
    use AccessWidth::{Byte, Dword, Qword, Word};
    let load = |width, extension, to| {
        Some(Operation::Load(Load {
            width,
            extension,
            to,
        }))
    };
    let store = |width, from| Some(Operation::Store(Store { width, from }));
    let funct3 = word >> 13 & 0b111;
    match (word & 0b11, funct3) {
        // C.LW, C.LD, C.SW, C.SD: the register in bits 4:2.
        (0b00, 0b010) => load(Dword, Extension::Sign, Register::compressed_at(word, 2)),
        (0b00, 0b011) => load(Qword, Extension::Zero, Register::compressed_at(word, 2)),
        (0b00, 0b110) => store(Dword, Register::compressed_at(word, 2)),
        (0b00, 0b111) => store(Qword, Register::compressed_at(word, 2)),
        // Zcb, told apart by bits 12:10 and 6: C.LBU, C.LHU, C.LH, C.SB, C.SH.
        (0b00, 0b100) => {
            let register = Register::compressed_at(word, 2);
            match (word >> 10 & 0b111, word >> 6 & 1) {
                (0b000, _) => load(Byte, Extension::Zero, register),
                (0b001, 0) => load(Word, Extension::Zero, register),
                (0b001, _) => load(Word, Extension::Sign, register),
                (0b010, _) => store(Byte, register),
                (0b011, 0) => store(Word, register),
                _ => None,
            }
        }
        // C.LWSP, C.LDSP: the register in bits 11:7, where zero is reserved.
        (0b10, 0b010 | 0b011) => match (Register::at(word, 7), funct3) {
            (Register(0), _) => None,
            (to, 0b010) => load(Dword, Extension::Sign, to),
            (to, _) => load(Qword, Extension::Zero, to),
        },
        // C.SWSP, C.SDSP: the register in bits 6:2.
        (0b10, 0b110) => store(Dword, Register::at(word, 2)),
        (0b10, 0b111) => store(Qword, Register::at(word, 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
