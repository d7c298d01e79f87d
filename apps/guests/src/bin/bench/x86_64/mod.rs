//! The rows of x86, and how they are counted.

mod console;
mod cpu;
mod interrupts;
mod memory;
mod pair;
mod ports;
mod timer;

use core::cell::UnsafeCell;

use guests::arch::Machine;
use guests::arch::context::reg::{R12, R13, R14, RBP, RSP};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::segment::with_handler;
use guests::measure::{Count, Row, least};

/// All rows. Those that leave the machine changed come last.
pub(crate) const ROWS: &[Row<Machine>] = &[
    Row::new("power-on", |machine| {
        Some(Count::between(0, machine.started, 1, 1))
    }),
    Row::new("loop", cpu::bare_loop),
    Row::new("rdtsc", cpu::rdtsc),
    Row::new("cpuid", cpu::cpuid),
    Row::new("hypercall", cpu::hypercall),
    Row::new("rdmsr", cpu::rdmsr),
    Row::new("wrmsr", cpu::wrmsr),
    Row::new("port-in", ports::pic_in),
    Row::new("port-out", ports::pic_out),
    Row::new("port-in-uart", ports::uart_in),
    Row::new("port-out-uart", ports::uart_out),
    Row::new("mmio-read", memory::io_apic_read),
    Row::new("mmio-write", memory::io_apic_write),
    Row::new("lapic-read", memory::lapic_read),
    Row::new("ram-first-touch", memory::ram_first_touch),
    Row::new("lazy-first-touch", memory::lazy_first_touch),
    Row::new("timer-running", timer::while_running),
    Row::new("timer-hlt", timer::while_halted),
    Row::new("timer-all", timer::in_all),
    Row::new("ipi-self", interrupts::ipi_self),
    Row::new("irq-device", interrupts::device),
    Row::new("console-uart", console::uart),
    Row::new("console-uart-all", console::uart_all),
    Row::new("ipi-round-trip", pair::ipi_round_trip),
    Row::new("x2apic-read", cpu::x2apic_read),
    Row::new("x2apic-ipi-self", interrupts::x2apic_ipi_self),
];

/// Rounds of a row that takes no long time.
const MANY: u64 = 10_000;

/// Assembles a loop that is counted: `start`, then R12 rounds of `each`. R13 and R14 read the clock.
/// RAX and RDX are lost before `start`; labels are free from 20 on. A loop with an `until` of its own,
/// which branches back to label 2, needs no R12.
macro_rules! counted {
    ($($each:literal),* $(,)?) => { counted!(start: [], each: [$($each),*]) };
    (start: [$($start:literal),*], each: [$($each:literal),*]) => {
        counted!(start: [$($start),*], each: [$($each),*], until: ["dec r12", "jnz 2b"])
    };
    (start: [$($start:literal),*], each: [$($each:literal),*], until: [$($until:literal),+]) => {
        guests::code!(
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov r13, rax",
            $($start,)*
            "2:",
            $($each,)*
            $($until,)+
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov r14, rax",
        )
    };
}
use counted;

/// Assembles a loop, R12 rounds of which are counted: `start`, then in each round `each`, which lets
/// an interrupt come, `wait`, which waits for it, and `handler`, which goes on to the next round
/// instead of returning. Otherwise like [`counted!`].
macro_rules! handled {
    (start: [$($start:literal),*], each: [$($each:literal),*], wait: [$($wait:literal),*],
     handler: [$($handler:literal),*]) => {
        guests::code!(
            "jmp 4f",
            ".balign 16, 0xcc",
            "add rsp, 40", // what the interrupt pushed
            $($handler,)*
            "dec r12",
            "jz 5f",
            "2:",
            $($each,)*
            "3:",
            $($wait,)*
            "jmp 3b",
            "4:",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov r13, rax",
            $($start,)*
            "jmp 2b",
            "5:",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov r14, rax",
        )
    };
}
use handled;

/// Where [`handled!`] has its handler.
const HANDLER: usize = 16;

/// Counts `rounds` rounds of a [`counted!`] loop with these registers, the least of some runs: others
/// on the machine have work now and then. Nothing if it trapped.
fn rounds(code: &Code, regs: Regs, rounds: u64) -> Option<Count> {
    least(|| once(code, regs, rounds))
}

/// As [`rounds`], of a single run.
fn once(code: &Code, regs: Regs, rounds: u64) -> Option<Count> {
    let after = completes(code, regs.with(R12, rounds as usize))?;
    Some(elapsed(&after, rounds))
}

/// Counts `rounds` rounds of a [`handled!`] loop, the least of some runs; `vector` is its interrupt's.
fn interrupted(code: &Code, vector: u8, regs: Regs, rounds: u64) -> Option<Count> {
    least(|| Some(elapsed(&handling(code, vector, regs, rounds)?, rounds)))
}

/// Counts what the rounds of a [`handled!`] loop add to RBP, the least of some runs.
fn added_up(code: &Code, vector: u8, regs: Regs, rounds: u64) -> Option<Count> {
    least(|| {
        Some(Count {
            instructions: handling(code, vector, regs, rounds)?[RBP] as u64,
            rounds,
        })
    })
}

/// Runs a [`handled!`] loop; its registers at the end.
fn handling(code: &Code, vector: u8, regs: Regs, rounds: u64) -> Option<Regs> {
    /// Where the interrupt's frame goes.
    static STACK: Stack = Stack(UnsafeCell::new([0; 4096]));
    let regs = regs
        .with(R12, rounds as usize)
        .with(RSP, STACK.0.get().addr() + 4096);
    with_handler(vector, code.start + HANDLER, || completes(code, regs))
}

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; 4096]>);

// SAFETY: written by the boot CPU's pushes only, never through its name.
unsafe impl Sync for Stack {}

/// Of the time stamp counter, one tick of which is taken for an instruction.
fn elapsed(after: &Regs, rounds: u64) -> Count {
    let [start, end] = [R13, R14].map(|n| after[n] as u64);
    Count::between(start, end, 1, rounds)
}

/// Runs code in ring 0 with interrupts off; its registers at its end, or nothing if it trapped
/// before.
fn completes(code: &Code, regs: Regs) -> Option<Regs> {
    let mut context = Context::new(code, regs);
    let trap = context.run();
    // INT3 pushes the address after itself.
    let ended = trap.vector == exception::BREAKPOINT && trap.pc == code.end + 1;
    ended.then_some(context.regs)
}
