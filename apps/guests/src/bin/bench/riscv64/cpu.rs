//! What a hart does by itself, where the hypervisor lets it.

use guests::arch::context::Regs;
use guests::arch::context::reg::{A0, A1, A2};
use guests::arch::{Machine, csr};
use guests::measure::{Count, least};

use super::{Clock, MANY, counted, once, rounds, with_interrupts};

/// The loop that every count includes.
pub(crate) fn bare_loop(machine: &Machine) -> Option<Count> {
    // Nothing but a label.
    rounds(machine, &counted!("20:"), Regs::ZERO, MANY)
}

pub(crate) fn counters(machine: &Machine) -> Option<Count> {
    // Not where they are there but stand still.
    (Clock::of(machine) == Clock::Instret).then_some(())?;
    let code = counted!("csrr a0, cycle", "csrr a1, instret");
    rounds(machine, &code, Regs::ZERO, MANY)
}

/// By number: the target the guests are built for lacks the extension.
pub(crate) fn stimecmp(machine: &Machine) -> Option<Count> {
    machine.has("sstc").then_some(())?;
    let code = counted!("csrw 0x14d, a0");
    rounds(machine, &code, Regs::ZERO.with(A0, usize::MAX), MANY)
}

pub(crate) fn sfence_vma(machine: &Machine) -> Option<Count> {
    rounds(machine, &counted!("sfence.vma"), Regs::ZERO, MANY)
}

pub(crate) fn wfi_pending(machine: &Machine) -> Option<Count> {
    csr::raise_software_interrupt();
    let code = counted!("wfi");
    let count = with_interrupts(csr::SOFTWARE, || rounds(machine, &code, Regs::ZERO, MANY));
    csr::clear_software_interrupt();
    count
}

/// Sleeps from one deadline to the next: the deadline itself counts the rounds.
pub(crate) fn wfi_timer(machine: &Machine) -> Option<Count> {
    // While everyone sleeps, `time` goes on.
    let timer = machine.timer();
    (timer.sstc && Clock::of(machine) == Clock::Instret).then_some(())?;
    // All within 4 ms, since `instret` counts the other harts' instructions too: of three such runs one meets no tick of the host's, which has one
    // every 10 ms elsewhere.
    const ROUNDS: u64 = 2_000;
    let step = timer.ticks_per_second() / 500_000;
    let code = counted!(
        each: ["csrw 0x14d, a0", "add a0, a0, a1", "wfi"],
        until: "bne a0, a2, 12b"
    );
    let run = || {
        let first = timer.now() + step;
        let regs = Regs::ZERO
            .with(A0, first as usize)
            .with(A1, step as usize)
            .with(A2, (first + ROUNDS * step) as usize);
        once(machine, &code, regs, ROUNDS)
    };
    let count = with_interrupts(csr::TIMER, || least(run));
    timer.set(u64::MAX);
    count
}
