//! A byte to the console: what it costs the guest, and what it costs in all.

use guests::arch::context::reg::{A2, A3, S2, S3, S4, S5, S6, S7};
use guests::arch::context::{Code, Regs};
use guests::arch::{Machine, uart};
use guests::measure::Count;
use guests::{code, print};

use super::calls::is_there;
use super::{Clock, completes, counted, once};

/// Bytes in a row: they make a line.
const BYTES: u64 = 64;

pub(crate) fn dbcn(machine: &Machine) -> Option<Count> {
    is_there(sbi_spec::dbcn::EID_DBCN)?;
    let code = counted!("li a7, 0x4442434e", "li a6, 2", "li a0, 0x2e", "ecall");
    let count = once(machine, &code, Regs::ZERO, BYTES);
    print!("\n");
    count
}

/// Polls the line status until there is room, then writes.
pub(crate) fn uart(machine: &Machine) -> Option<Count> {
    (uart::base() != 0).then_some(())?;
    let code = counted!(
        "20: lb a0, 5(a2)",
        "andi a0, a0, 0x20",
        "beqz a0, 20b",
        "sb a3, 0(a2)"
    );
    let regs = Regs::ZERO.with(A2, uart::base()).with(A3, b'.'.into());
    let count = once(machine, &code, regs, BYTES);
    print!("\n");
    count
}

pub(crate) fn dbcn_all(machine: &Machine) -> Option<Count> {
    is_there(sbi_spec::dbcn::EID_DBCN)?;
    let code = busy!("li a7, 0x4442434e", "li a6, 2", "li a0, 0x2e", "ecall");
    in_all(machine, &code)
}

pub(crate) fn uart_all(machine: &Machine) -> Option<Count> {
    (uart::base() != 0).then_some(())?;
    let code = busy!(
        "20: lb a0, 5(a2)",
        "andi a0, a0, 0x20",
        "beqz a0, 20b",
        "sb a3, 0(a2)"
    );
    in_all(machine, &code)
}

/// Instructions from the first byte until the end of the wait: four of the host's ticks, since QEMU may run this CPU from one to the next before it is the
/// turn of the one that keeps house.
const WINDOW: u64 = 40_000_000;

/// Assembles code that does S2 rounds of something, if any, and then spins to the end of a window of
/// S6 ticks: S7 counts the turns. Whatever is done for it elsewhere, on another hart too, shortens
/// the spinning.
macro_rules! busy {
    ($($each:literal),+) => {
        code!(
            "beqz s3, 11f",
            "csrr s4, time",
            "j 12f",
            "11: csrr s4, instret",
            "12: beqz s2, 13f",
            $($each,)+
            "addi s2, s2, -1",
            "j 12b",
            "13: beqz s3, 14f",
            "csrr s5, time",
            "j 15f",
            "14: csrr s5, instret",
            "15: addi s7, s7, 1",
            "sub t0, s5, s4",
            "bltu t0, s6, 13b",
        )
    };
}
use busy;

/// What a byte costs in all: what the bytes took of the window.
fn in_all(machine: &Machine, code: &Code) -> Option<Count> {
    let clock = Clock::of(machine);
    let per_tick = clock.per_tick(machine);
    // Turns of the loop: five instructions, and one more for `time`.
    let per_turn = match clock {
        Clock::Instret => 5,
        Clock::Time => 6,
    };
    let others = |bytes: u64| {
        let regs = Regs::ZERO
            .with(S2, bytes as usize)
            .with(S3, clock.selector())
            .with(S6, (WINDOW / per_tick) as usize)
            .with(A2, uart::base())
            .with(A3, b'.'.into());
        let after = completes(code, regs)?;
        let passed = (after[S5] - after[S4]) as u64 * per_tick;
        Some(passed.saturating_sub(after[S7] as u64 * per_turn))
    };
    let (idle, busy) = (others(0), others(BYTES));
    print!("\n");
    Some(Count {
        instructions: busy?.saturating_sub(idle?),
        rounds: BYTES,
    })
}
