//! What snippets of code have in common on every architecture: where they are, in which registers and modes they run.
//!
//! How they run until they trap is each architecture's: `arch::context`.

use core::ops::{Index, Range};

/// A snippet of machine code.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Address of its first instruction.
    pub start: usize,
    /// Address of the trap after its last instruction.
    pub end: usize,
}

impl Code {
    /// Where all snippets are: whole pages of their own.
    pub fn section() -> Range<usize> {
        unsafe extern "C" {
            static __snippets_start: u8;
            static __snippets_end: u8;
        }
        (&raw const __snippets_start).addr()..(&raw const __snippets_end).addr()
    }

    /// The same code at another virtual address, where the whole section appears at `base`.
    pub fn seen_at(&self, base: usize) -> Self {
        let offset = base.wrapping_sub(Self::section().start);
        Self {
            start: self.start.wrapping_add(offset),
            end: self.end.wrapping_add(offset),
        }
    }
}

/// `N` registers, of which those from `FIRST` to before `END` are general-purpose ones, by their numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers<const N: usize, const FIRST: usize, const END: usize>([usize; N]);

impl<const N: usize, const FIRST: usize, const END: usize> Registers<N, FIRST, END> {
    /// All registers zero.
    pub const ZERO: Self = Self([0; N]);

    /// A different value in every register, with every byte of it non-zero.
    pub const fn pattern() -> Self {
        let mut regs = [0; N];
        let mut n = FIRST;
        while n < END {
            let own = (n - FIRST + 1) * 0x0101_0101;
            regs[n] = 0x8142_2418_8142_2418_usize.rotate_left(n as u32) ^ own;
            n += 1;
        }
        Self(regs)
    }

    /// These registers, but one that is `value`.
    pub const fn with(mut self, register: usize, value: usize) -> Self {
        self.0[register] = value;
        self
    }

    /// The number of the first general-purpose register in which these differ from `other`.
    pub fn difference(&self, other: &Self) -> Option<usize> {
        (FIRST..END).find(|&n| self.0[n] != other.0[n])
    }
}

impl<const N: usize, const FIRST: usize, const END: usize> Index<usize>
    for Registers<N, FIRST, END>
{
    type Output = usize;
    fn index(&self, register: usize) -> &usize {
        &self.0[register]
    }
}

/// The privilege that code runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A kernel's.
    Supervisor,
    /// A program's.
    User,
}

/// Whether code can be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// It can.
    On,
    /// Only by what cannot be held back.
    Off,
}
