//! Code that runs until it traps.
//!
//! [`code!`](crate::code) assembles a snippet, and a [`Context`] runs it: with all 16 registers of
//! its own, in ring 0 or 3, with interrupts on or off. Every context ends in a trap, be it only the
//! INT3 that stands after each snippet; [`Context::run`] then returns, and registers and trap can
//! be looked at. So a fault, an interrupt and the integrity of the registers are observed in the
//! same way, and no interrupt handler is needed anywhere.

use core::arch::naked_asm;
use core::fmt::{self, Debug, Formatter};
use core::mem::offset_of;

pub use crate::snippet::{Code, Interrupts, Mode, Registers};

use crate::arch::cpu::FLAGS_IF;
use crate::arch::segment::{Cpu, selector};

/// Vectors of exceptions.
pub mod exception {
    #![allow(missing_docs, reason = "the names are the manuals'")]
    pub const DIVIDE: usize = 0;
    pub const DEBUG: usize = 1;
    pub const NMI: usize = 2;
    pub const BREAKPOINT: usize = 3;
    pub const INVALID_OPCODE: usize = 6;
    pub const NO_DEVICE: usize = 7;
    pub const DOUBLE_FAULT: usize = 8;
    pub const NOT_PRESENT: usize = 11;
    pub const STACK: usize = 12;
    pub const PROTECTION: usize = 13;
    pub const PAGE_FAULT: usize = 14;
}

/// Numbers of the registers, as instructions encode them.
pub mod reg {
    #![allow(missing_docs, reason = "the names are the manuals'")]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
    pub const R12: usize = 12;
    pub const R13: usize = 13;
    pub const R14: usize = 14;
    pub const R15: usize = 15;
    /// After the general-purpose registers.
    pub const RIP: usize = 16;

    /// Their names.
    pub const NAMES: [&str; 17] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "rip",
    ];
}

impl Code {
    /// The `n`th of equal parts of this code, each of an instruction and an INT3, filled up to 16
    /// bytes; `width` is the instruction's length.
    pub fn part(&self, n: usize, width: usize) -> Self {
        let start = self.start + 16 * n;
        Self {
            start,
            end: start + width,
        }
    }

    /// Its bytes, with the INT3.
    pub fn bytes(&self) -> &'static [u8] {
        let len = self.end - self.start + 1;
        // SAFETY: a snippet is readable and never written.
        unsafe { core::slice::from_raw_parts(self.start as *const u8, len) }
    }
}

/// Assembles lines into a [`Code`]. Registers are free to use, labels are local numbers other than
/// 0 and 1, which the assembler would take for binary digits.
#[macro_export]
macro_rules! code {
    ($($line:literal),+ $(,)?) => {{
        let (start, end): (usize, usize);
        // SAFETY: places code elsewhere and takes its address.
        unsafe {
            core::arch::asm!(
                ".pushsection .snippets, \"ax\", @progbits",
                ".balign 16, 0xcc",
                "771:",
                $($line,)+
                "772:",
                "int3",
                ".popsection",
                "lea {start}, [rip + 771b]",
                "lea {end}, [rip + 772b]",
                start = out(reg) start,
                end = out(reg) end,
                options(nomem, nostack, preserves_flags),
            );
        }
        $crate::arch::context::Code { start, end }
    }};
}

/// The general-purpose registers, and after them RIP.
pub type Regs = Registers<17, 0, { reg::RIP }>;

/// The trap that ended a context.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// The vector of the exception or interrupt.
    pub vector: usize,
    /// The error code; 0 with vectors that have none.
    pub error: usize,
    /// The RIP that was pushed.
    pub pc: usize,
    /// CR2 at that time.
    pub address: usize,
}

impl Debug for Trap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "trap {:#x} error {:#x} at {:#x}",
            self.vector, self.error, self.pc
        )
    }
}

/// A snippet with its registers and modes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The registers: those to start with, afterwards those it ended with.
    pub regs: Regs,
    /// RFLAGS: to start with, afterwards as pushed.
    pub flags: usize,
    /// CS: to start with, afterwards as pushed.
    pub cs: usize,
    /// SS: to start with, afterwards as pushed.
    pub ss: usize,
    trap: Trap,
    /// The caller's stack pointer.
    caller: usize,
}

/// The bit of RFLAGS that is always set.
const FLAGS_FIXED: usize = 1 << 1;

impl Context {
    /// Runs `code` with `regs`, in ring 0 with interrupts off.
    pub fn new(code: &Code, regs: Regs) -> Self {
        Self {
            regs: regs.with(reg::RIP, code.start),
            flags: FLAGS_FIXED,
            cs: selector::CODE,
            ss: selector::DATA,
            trap: Trap {
                vector: 0,
                error: 0,
                pc: 0,
                address: 0,
            },
            caller: 0,
        }
    }

    /// With interrupts on or off.
    pub fn interrupts(self, interrupts: Interrupts) -> Self {
        match interrupts {
            Interrupts::On => self.flags(FLAGS_IF, FLAGS_IF),
            Interrupts::Off => self.flags(FLAGS_IF, 0),
        }
    }

    /// In that ring.
    pub fn mode(mut self, mode: Mode) -> Self {
        (self.cs, self.ss) = match mode {
            Mode::Supervisor => (selector::CODE, selector::DATA),
            Mode::User => (selector::USER_CODE, selector::USER_DATA),
        };
        self
    }

    /// With the bits `set` of RFLAGS, of those in `mask`.
    pub fn flags(mut self, mask: usize, set: usize) -> Self {
        self.flags = (self.flags & !mask) | (set & mask);
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

/// Where a vector's gate leads.
pub(super) fn trap_entry(vector: u8) -> usize {
    trap_entries as *const () as usize + ENTRY_SIZE * usize::from(vector)
}

const ENTRY_SIZE: usize = 16;

/// Saves the caller and becomes the context.
#[unsafe(naked)]
unsafe extern "C" fn run(context: *mut Context) {
    naked_asm!(
        "pushfq",
        ".irp r, rbx, rbp, r12, r13, r14, r15",
        "push \\r",
        ".endr",
        // The CPU's state begins with its descriptors.
        "sub rsp, 16",
        "sgdt [rsp + 6]",
        "mov rax, [rsp + 8]",
        "add rsp, 16",
        "mov [rdi + {caller}], rsp",
        "mov [rax + {current}], rdi",
        "push [rdi + {ss}]",
        "push [rdi + 8*{rsp}]",
        "push [rdi + {flags}]",
        "push [rdi + {cs}]",
        "push [rdi + 8*{rip}]",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8*1]",
        "mov rdx, [rdi + 8*2]",
        "mov rbx, [rdi + 8*3]",
        "mov rbp, [rdi + 8*5]",
        "mov rsi, [rdi + 8*6]",
        ".irp n, 8, 9, 10, 11, 12, 13, 14, 15",
        "mov r\\n, [rdi + 8*\\n]",
        ".endr",
        "mov rdi, [rdi + 8*7]",
        "iretq",
        current = const Cpu::CURRENT,
        caller = const offset_of!(Context, caller),
        ss = const offset_of!(Context, ss),
        flags = const offset_of!(Context, flags),
        cs = const offset_of!(Context, cs),
        rsp = const reg::RSP,
        rip = const reg::RIP,
    )
}

/// One entry for each vector, all of the same size: makes every trap look the same on the stack,
/// with an error code and below that the vector.
#[unsafe(naked)]
extern "C" fn trap_entries() -> ! {
    naked_asm!(
        ".balign {size}",
        ".set trap_vector, 0",
        ".rept 256",
        ".balign {size}",
        // #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC and #SX push an error code.
        ".if trap_vector > 31 || (0x60227d00 >> trap_vector) & 1 == 0",
        "push 0",
        ".endif",
        "push trap_vector",
        "jmp {trap}",
        ".set trap_vector, trap_vector + 1",
        ".endr",
        size = const ENTRY_SIZE,
        trap = sym trap,
    )
}

/// Ends the running context and returns to its caller. On the stack are, from below: vector, error
/// code, RIP, CS, RFLAGS, RSP, SS, and then the address of the context.
#[unsafe(naked)]
extern "C" fn trap() -> ! {
    naked_asm!(
        "push rax",
        "mov rax, [rsp + 8*8]",
        "test rax, rax",
        "jz 2f",
        "mov [rax + 8*1], rcx",
        "mov [rax + 8*2], rdx",
        "mov [rax + 8*3], rbx",
        "mov [rax + 8*5], rbp",
        "mov [rax + 8*6], rsi",
        "mov [rax + 8*7], rdi",
        ".irp n, 8, 9, 10, 11, 12, 13, 14, 15",
        "mov [rax + 8*\\n], r\\n",
        ".endr",
        "pop [rax]",
        "pop [rax + {vector}]",
        "pop [rax + {error}]",
        "pop rcx",
        "mov [rax + 8*{rip}], rcx",
        "mov [rax + {pc}], rcx",
        "pop [rax + {cs}]",
        "pop [rax + {flags}]",
        "pop [rax + 8*{rsp}]",
        "pop [rax + {ss}]",
        "mov qword ptr [rsp], 0",
        "mov rcx, cr2",
        "mov [rax + {address}], rcx",
        "mov rsp, [rax + {caller}]",
        ".irp r, r15, r14, r13, r12, rbp, rbx",
        "pop \\r",
        ".endr",
        "popfq",
        "ret",
        "2:",
        "mov rdi, [rsp + 8*1]",
        "mov rsi, [rsp + 8*2]",
        "mov rdx, [rsp + 8*3]",
        "and rsp, -16",
        "cld",
        "call {fatal}",
        vector = const offset_of!(Context, trap) + offset_of!(Trap, vector),
        error = const offset_of!(Context, trap) + offset_of!(Trap, error),
        pc = const offset_of!(Context, trap) + offset_of!(Trap, pc),
        address = const offset_of!(Context, trap) + offset_of!(Trap, address),
        caller = const offset_of!(Context, caller),
        ss = const offset_of!(Context, ss),
        flags = const offset_of!(Context, flags),
        cs = const offset_of!(Context, cs),
        rsp = const reg::RSP,
        rip = const reg::RIP,
        fatal = sym fatal,
    )
}

/// A trap that no context was to end in.
extern "C" fn fatal(vector: usize, error: usize, pc: usize) -> ! {
    let address = crate::read_cr!("cr2");
    panic!("unexpected trap {vector:#x} error {error:#x} at {pc:#x}, CR2 {address:#x}")
}
