//! Code that runs until it traps.
//!
//! [`code!`](crate::code) assembles a snippet, and a [`Context`] runs it: with all 31 registers of
//! its own, in supervisor or user mode, with interrupts on or off. Every context ends in a trap,
//! be it only the `ebreak` that stands after each snippet; [`Context::run`] then returns, and
//! registers and trap can be looked at. So a fault, an interrupt and the integrity of the
//! registers are observed in the same way, and no trap handler is needed anywhere.

use core::arch::naked_asm;
use core::fmt::{self, Debug, Formatter};
use core::mem::offset_of;

pub use crate::snippet::{Code, Interrupts, Mode, Registers};

use crate::arch::{csr, entry};
use crate::read_csr;

/// Values of `scause` for exceptions.
pub mod exception {
    #![allow(missing_docs, reason = "the names are the manual's")]
    pub const FETCH_ACCESS: usize = 1;
    pub const ILLEGAL: usize = 2;
    pub const BREAKPOINT: usize = 3;
    pub const LOAD_MISALIGNED: usize = 4;
    pub const LOAD_ACCESS: usize = 5;
    pub const STORE_MISALIGNED: usize = 6;
    pub const STORE_ACCESS: usize = 7;
    pub const USER_ECALL: usize = 8;
    pub const FETCH_PAGE: usize = 12;
    pub const LOAD_PAGE: usize = 13;
    pub const STORE_PAGE: usize = 15;
}

/// Values of `scause` for interrupts.
pub mod interrupt {
    #![allow(missing_docs, reason = "the names are the manual's")]
    const INTERRUPT: usize = 1 << 63;
    pub const SOFTWARE: usize = INTERRUPT | 1;
    pub const TIMER: usize = INTERRUPT | 5;
    pub const EXTERNAL: usize = INTERRUPT | 9;
}

/// Numbers of the registers that snippets use by name.
pub mod reg {
    #![allow(missing_docs, reason = "the names are the ABI's")]
    pub const RA: usize = 1;
    pub const SP: usize = 2;
    pub const T0: usize = 5;
    pub const T1: usize = 6;
    pub const S2: usize = 18;
    pub const S3: usize = 19;
    pub const S4: usize = 20;
    pub const S5: usize = 21;
    pub const S6: usize = 22;
    pub const S7: usize = 23;
    pub const S8: usize = 24;
    pub const A0: usize = 10;
    pub const A1: usize = 11;
    pub const A2: usize = 12;
    pub const A3: usize = 13;
    pub const A4: usize = 14;
    pub const A5: usize = 15;
    pub const A6: usize = 16;
    pub const A7: usize = 17;
}

impl Code {
    /// The `n`th of equal parts of this code, each of an instruction and an `ebreak` of `width`
    /// bytes each.
    pub fn part(&self, n: usize, width: usize) -> Self {
        let start = self.start + 2 * width * n;
        Self {
            start,
            end: start + width,
        }
    }
}

/// Assembles lines into a [`Code`]. Instructions are of four bytes unless `.option rvc` says
/// otherwise; registers are free to use, labels are local numbers.
#[macro_export]
macro_rules! code {
    ($($line:literal),+ $(,)?) => {{
        let (start, end): (usize, usize);
        // SAFETY: places code elsewhere and takes its address.
        unsafe {
            core::arch::asm!(
                ".pushsection .snippets, \"ax\", @progbits",
                ".option push",
                ".option norvc",
                ".balign 4",
                "771:",
                $($line,)+
                "772:",
                "ebreak",
                ".option pop",
                ".popsection",
                "la {start}, 771b",
                "la {end}, 772b",
                start = out(reg) start,
                end = out(reg) end,
                options(nomem, nostack, preserves_flags),
            );
        }
        $crate::arch::context::Code { start, end }
    }};
}

/// The general-purpose registers x1 to x31; in the place of x0 is the PC.
pub type Regs = Registers<32, 1, 32>;

/// The trap that ended a context.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// `scause`.
    pub cause: usize,
    /// `stval`.
    pub value: usize,
    /// `sepc`.
    pub pc: usize,
}

impl Debug for Trap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "trap {:#x} stval {:#x} at {:#x}",
            self.cause, self.value, self.pc
        )
    }
}

/// A snippet with its registers and modes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The registers: those to start with, afterwards those it ended with.
    pub regs: Regs,
    /// `sstatus` while it runs; afterwards as the trap left it.
    pub status: usize,
    trap: Trap,
    /// Of the caller: ra, sp, gp, tp, s0 to s11.
    caller: [usize; 16],
}

impl Context {
    /// Runs `code` with `regs`, in supervisor mode with interrupts off.
    pub fn new(code: &Code, regs: Regs) -> Self {
        let status = read_csr!("sstatus") & !(csr::SSTATUS_SIE | csr::SSTATUS_SPIE);
        Self {
            regs: regs.with(0, code.start),
            status: status | csr::SSTATUS_SPP,
            trap: Trap {
                cause: 0,
                value: 0,
                pc: 0,
            },
            caller: [0; 16],
        }
    }

    /// With interrupts on or off.
    pub fn interrupts(mut self, interrupts: Interrupts) -> Self {
        match interrupts {
            Interrupts::On => self.status |= csr::SSTATUS_SPIE,
            Interrupts::Off => self.status &= !csr::SSTATUS_SPIE,
        }
        self
    }

    /// In that mode.
    pub fn mode(mut self, mode: Mode) -> Self {
        match mode {
            Mode::Supervisor => self.status |= csr::SSTATUS_SPP,
            Mode::User => self.status &= !csr::SSTATUS_SPP,
        }
        self
    }

    /// With the bits `set` of `sstatus`, of those in `mask`.
    pub fn status(mut self, mask: usize, set: usize) -> Self {
        self.status = (self.status & !mask) | (set & mask);
        self
    }

    /// Runs until the trap.
    pub fn run(&mut self) -> Trap {
        // SAFETY: the context lives until `run` returns, which restores everything that the ABI
        // keeps. What the snippet does to memory is its author's care.
        unsafe { run(self) };
        self.trap
    }
}

/// Saves the caller, becomes the context; at its trap the other way round. `sscratch` holds the
/// context's address meanwhile.
#[unsafe(naked)]
unsafe extern "C" fn run(context: *mut Context) {
    naked_asm!(
        // For each callee-saved register: an offset in `caller` and a name.
        ".macro each_callee_saved op",
        "\\op ra, {caller}+0(a0)",
        "\\op sp, {caller}+8(a0)",
        "\\op gp, {caller}+16(a0)",
        "\\op tp, {caller}+24(a0)",
        ".set i, 4",
        ".irp r, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11",
        "\\op \\r, {caller}+8*i(a0)",
        ".set i, i+1",
        ".endr",
        ".endm",
        // All but a0 itself, which is the base.
        ".macro each_but_a0 op",
        ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, \
         24, 25, 26, 27, 28, 29, 30, 31",
        "\\op x\\n, 8*\\n(a0)",
        ".endr",
        ".endm",
        "each_callee_saved sd",
        "csrw sscratch, a0",
        "ld t0, {status}(a0)",
        "csrw sstatus, t0",
        "ld t0, 0(a0)",
        "csrw sepc, t0",
        "la t0, 9f",
        "csrw stvec, t0",
        "each_but_a0 ld",
        "ld a0, 8*10(a0)",
        "sret",
        ".balign 4",
        "9: csrrw a0, sscratch, a0",
        "each_but_a0 sd",
        "csrr t0, sscratch",
        "sd t0, 8*10(a0)",
        "csrr t0, sepc",
        "sd t0, 0(a0)",
        "sd t0, {pc}(a0)",
        "csrr t0, scause",
        "sd t0, {cause}(a0)",
        "csrr t0, stval",
        "sd t0, {value}(a0)",
        "csrr t0, sstatus",
        "sd t0, {status}(a0)",
        "la t0, {fatal}",
        "csrw stvec, t0",
        "each_callee_saved ld",
        "ret",
        ".purgem each_callee_saved",
        ".purgem each_but_a0",
        caller = const offset_of!(Context, caller),
        status = const offset_of!(Context, status),
        cause = const offset_of!(Context, trap) + offset_of!(Trap, cause),
        value = const offset_of!(Context, trap) + offset_of!(Trap, value),
        pc = const offset_of!(Context, trap) + offset_of!(Trap, pc),
        fatal = sym entry::fatal_entry,
    )
}
