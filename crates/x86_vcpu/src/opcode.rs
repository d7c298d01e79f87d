//! How long an instruction is that exits as a whole, from its bytes: for hardware that does not say where the next one is.

use crate::decode::{CodeMode, MAX_LENGTH};

/// The opcode of an instruction that exits as a whole, without prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opcode {
    /// Its bytes, the first lowest.
    word: u32,
    length: u8,
}

impl Opcode {
    pub(crate) const CPUID: Self = Self::new([0x0f, 0xa2]);
    pub(crate) const HLT: Self = Self::new([0xf4]);
    pub(crate) const RDMSR: Self = Self::new([0x0f, 0x32]);
    pub(crate) const WRMSR: Self = Self::new([0x0f, 0x30]);
    pub(crate) const VMMCALL: Self = Self::new([0x0f, 0x01, 0xd9]);
    pub(crate) const VMCALL: Self = Self::new([0x0f, 0x01, 0xc1]);
    pub(crate) const XSETBV: Self = Self::new([0x0f, 0x01, 0xd1]);
    pub(crate) const INVD: Self = Self::new([0x0f, 0x08]);
    pub(crate) const WBINVD: Self = Self::new([0x0f, 0x09]);
    pub(crate) const PAUSE: Self = Self::new([0x90]);

    const fn new<const N: usize>(bytes: [u8; N]) -> Self {
        let mut word = 0;
        let mut i = 0;
        while i < N {
            word |= (bytes[i] as u32) << (8 * i);
            i += 1;
        }
        Self {
            word,
            length: N as u8,
        }
    }

    /// Its length.
    pub(crate) const fn length(self) -> u8 {
        self.length
    }

    /// Whether the bytes of `word` begin with it.
    #[inline]
    pub(crate) const fn begins(self, word: u32) -> bool {
        (word ^ self.word) << (32 - 8 * self.length as u32) == 0
    }

    /// Whether `bytes` are the beginning of it.
    fn starts_with(self, bytes: &[u8]) -> bool {
        let own = self.word.to_le_bytes();
        own.get(..usize::from(self.length))
            .is_some_and(|own| own.starts_with(bytes))
    }
}

/// What the start of an instruction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// It is the instruction, of this length.
    Known(u8),
    /// More bytes must be read.
    Short,
    /// It is another instruction: the code was changed.
    Other,
}

/// How long the instruction with one of these `opcodes` is, at the start of `bytes`: prefixes, then the opcode.
pub(crate) fn length_of(bytes: &[u8], mode: CodeMode, opcodes: &[Opcode]) -> Length {
    let is_prefix = |byte: u8| match byte {
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => true,
        0x40..=0x4f => mode == CodeMode::Bits64,
        _ => false,
    };
    let prefixes = bytes.iter().take_while(|&&byte| is_prefix(byte)).count();
    let rest = bytes.get(prefixes..).unwrap_or(&[]);
    let mut start = [0; 4];
    for (to, from) in start.iter_mut().zip(rest) {
        *to = *from;
    }
    for opcode in opcodes {
        let length = prefixes + usize::from(opcode.length);
        if opcode.begins(u32::from_le_bytes(start)) && length <= bytes.len() {
            return Length::Known(length as u8);
        }
    }
    let unfinished = opcodes.iter().any(|opcode| opcode.starts_with(rest));
    if unfinished && bytes.len() < MAX_LENGTH {
        Length::Short
    } else {
        Length::Other
    }
}

#[cfg(test)]
mod tests;
