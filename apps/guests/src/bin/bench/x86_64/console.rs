//! A byte to the console: what it costs the guest, and what it costs in all.

use guests::arch::Machine;
use guests::arch::context::Regs;
use guests::arch::context::reg::{R9, R12, R13, R14, R15};
use guests::measure::Count;
use guests::{code, print};

use super::{completes, counted, once};

/// Bytes in a row: they make a line.
const BYTES: u64 = 64;

/// Polls the line status until there is room, then writes.
pub(crate) fn uart(_: &Machine) -> Option<Count> {
    let code = counted!(
        "mov edx, 0x3fd",
        "20: in al, dx",
        "test al, 0x20",
        "jz 20b",
        "mov edx, 0x3f8",
        "mov al, 0x2e",
        "out dx, al"
    );
    let count = once(&code, Regs::ZERO, BYTES);
    print!("\n");
    count
}

/// What a byte costs in all: what the bytes took of a window, in which the CPU otherwise spins.
/// Whatever is done for them elsewhere, on another CPU too, shortens the spinning.
pub(crate) fn uart_all(_: &Machine) -> Option<Count> {
    /// Ticks from the first byte until the end of the wait: four of the host's, since QEMU may run this CPU from one to the next before it is the
    /// turn of the one that keeps house.
    const WINDOW: usize = 40_000_000;
    /// Instructions in a turn of the last loop.
    const PER_TURN: u64 = 8;
    let code = code!(
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov r13, rax",
        "2: test r12, r12",
        "jz 3f",
        "mov edx, 0x3fd",
        "20: in al, dx",
        "test al, 0x20",
        "jz 20b",
        "mov edx, 0x3f8",
        "mov al, 0x2e",
        "out dx, al",
        "dec r12",
        "jmp 2b",
        "3: rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov r14, rax",
        "inc r15",
        "sub rax, r13",
        "cmp rax, r9",
        "jb 3b",
    );
    let others = |bytes: u64| {
        let regs = Regs::ZERO.with(R12, bytes as usize).with(R9, WINDOW);
        let after = completes(&code, regs)?;
        let passed = (after[R14] - after[R13]) as u64;
        Some(passed.saturating_sub(after[R15] as u64 * PER_TURN))
    };
    let (idle, busy) = (others(0), others(BYTES));
    print!("\n");
    Some(Count {
        instructions: busy?.saturating_sub(idle?),
        rounds: BYTES,
    })
}
