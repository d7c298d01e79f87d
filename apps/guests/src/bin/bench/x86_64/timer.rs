//! The timer's interrupt: from the deadline to the first instruction of the handler.

use guests::arch::context::Regs;
use guests::arch::context::reg::{R8, RBP, RBX, RDI, RSI};
use guests::arch::lapic::{BASE, Mode, mode, register};
use guests::arch::{Machine, Request, Timer, lapic};
use guests::measure::{Count, least};

use super::{added_up, elapsed, handled, handling};

const ROUNDS: u64 = 200;
/// From the request to the deadline, in ticks of the time stamp counter: longer than a request takes.
const AHEAD: u64 = 100_000;

/// In each round R15 gets the deadline; the handler adds to RBP how late it is, and ends the
/// interrupt. Where the timer counts down, the deadline is reckoned from just before the request.
macro_rules! late {
    (request: [$($request:literal),+], wait: [$($wait:literal),*]) => {
        handled!(
            start: [],
            each: ["rdtsc", "shl rdx, 32", "or rax, rdx", "lea r15, [rax + rbx]", $($request),+, "sti"],
            wait: [$($wait),*],
            handler: [
                "rdtsc",
                "shl rdx, 32",
                "or rax, rdx",
                "sub rax, r15",
                "add rbp, rax",
                "mov dword ptr [r8], 0"
            ]
        )
    };
    (deadline, wait: [$($wait:literal),*]) => {
        late!(
            request: ["mov ecx, 0x6e0", "mov rax, r15", "mov rdx, r15", "shr rdx, 32", "wrmsr"],
            wait: [$($wait),*]
        )
    };
    (count, wait: [$($wait:literal),*]) => {
        late!(request: ["mov [rsi], edi"], wait: [$($wait),*])
    };
}

/// The CPU runs meanwhile.
pub(crate) fn while_running(machine: &Machine) -> Option<Count> {
    let code = match machine.timer().request {
        Request::Deadline => late!(deadline, wait: []),
        Request::Count => late!(count, wait: []),
    };
    lateness(&machine.timer(), &code)
}

/// The CPU sleeps meanwhile.
pub(crate) fn while_halted(machine: &Machine) -> Option<Count> {
    let code = match machine.timer().request {
        Request::Deadline => late!(deadline, wait: ["hlt"]),
        Request::Count => late!(count, wait: ["hlt"]),
    };
    lateness(&machine.timer(), &code)
}

/// What a deadline and its interrupt take from a CPU that runs, wherever that is: all but the turns
/// that a loop makes meanwhile, which RBP counts.
pub(crate) fn in_all(machine: &Machine) -> Option<Count> {
    /// Instructions of the loop: INC, JMP.
    const TURN: u64 = 2;
    let timer = machine.timer();
    (timer.request == Request::Deadline).then_some(())?;
    let code = handled!(
        start: [],
        each: [
            "rdtsc", "shl rdx, 32", "or rax, rdx", "add rax, rbx",
            "mov rdx, rax", "shr rdx, 32", "mov ecx, 0x6e0", "wrmsr", "sti"
        ],
        wait: ["inc rbp"],
        handler: ["mov dword ptr [r8], 0"]
    );
    with_timer(&timer, |regs| {
        least(|| {
            let after = handling(&code, Timer::VECTOR, regs, ROUNDS)?;
            let all = elapsed(&after, ROUNDS);
            Some(Count {
                instructions: all.instructions.saturating_sub(TURN * after[RBP] as u64),
                ..all
            })
        })
    })
}

fn lateness(timer: &Timer, code: &guests::arch::context::Code) -> Option<Count> {
    with_timer(timer, |regs| added_up(code, Timer::VECTOR, regs, ROUNDS))
}

/// Measures with the timer ready, and the registers that the loops take.
fn with_timer(timer: &Timer, measure: impl FnOnce(Regs) -> Option<Count>) -> Option<Count> {
    (mode() == Mode::Xapic).then_some(())?;
    // Sets the timer's mode, too.
    timer.set(u64::MAX);
    let regs = Regs::ZERO
        .with(RBX, AHEAD as usize)
        .with(RSI, BASE + register::INITIAL_COUNT as usize)
        .with(RDI, timer.counts(AHEAD) as usize)
        .with(R8, BASE + register::EOI as usize);
    let count = measure(regs);
    timer.stop();
    lapic::end_of_interrupt();
    count
}
