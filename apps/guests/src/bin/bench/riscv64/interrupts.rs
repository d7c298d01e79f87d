//! Interrupts, from their cause to the first instruction of the handler.
//!
//! The handler is a label in the loop: `stvec` points there while the loop runs, and instead of
//! returning it goes on.

use guests::arch::context::Regs;
use guests::arch::context::reg::{A2, A3, A4, S2, S6, S7};
use guests::arch::{Machine, csr, uart};
use guests::code;
use guests::measure::{Count, least};

use super::calls::is_there;
use super::{Clock, MANY, completes, counted, own_hart, rounds, with_interrupts};

pub(crate) fn ipi_self(machine: &Machine) -> Option<Count> {
    is_there(sbi_spec::spi::EID_SPI)?;
    let (_, base) = own_hart(machine);
    let code = counted!(
        before: ["csrr s11, stvec", "la s10, 21f", "csrw stvec, s10"],
        each: [
            "csrsi sstatus, 2",
            "li a7, 0x735049",
            "li a6, 0",
            "li a0, 1",
            "mv a1, s6",
            "ecall",
            "20: j 20b",
            "21: csrci sip, 2"
        ],
        after: ["csrw stvec, s11"]
    );
    let regs = Regs::ZERO.with(S6, base);
    with_interrupts(csr::SOFTWARE, || rounds(machine, &code, regs, MANY))
}

/// The UART's, whose transmitter is empty, through the PLIC: from the write that enables it to the
/// handler. Claiming and ending it is not counted.
pub(crate) fn device(machine: &Machine) -> Option<Count> {
    const ROUNDS: u64 = 1000;
    (Clock::of(machine) == Clock::Instret).then_some(())?;
    let (plic, source) = (machine.plic()?, machine.uart_irq()?);
    (source < 32 && uart::base() != 0).then_some(())?;
    let write = |address: usize, value: u32| {
        // SAFETY: the addresses are those of PLIC registers.
        unsafe { (address as *mut u32).write_volatile(value) }
    };
    write(plic.priority(source), 1);
    write(plic.enable(), 1 << source);
    write(plic.threshold(), 0);
    let code = code!(
        "csrr s11, stvec",
        "la s10, 21f",
        "csrw stvec, s10",
        "1: csrsi sstatus, 2",
        "csrr s4, instret",
        "sb a4, 1(a2)", // IER: the transmitter is empty
        "20: j 20b",
        "21: csrr s5, instret",
        "sub s5, s5, s4",
        "add s7, s7, s5",
        "lb a0, 2(a2)",   // IIR
        "sb zero, 1(a2)", // IER
        "lw a0, 0(a3)",   // claim
        "sw a0, 0(a3)",   // complete
        "addi s2, s2, -1",
        "bnez s2, 1b",
        "csrw stvec, s11",
    );
    let regs = Regs::ZERO
        .with(S2, ROUNDS as usize)
        .with(A2, uart::base())
        .with(A3, plic.claim())
        .with(A4, uart::IER_THRE.into());
    let run = || {
        Some(Count {
            instructions: completes(&code, regs)?[S7] as u64,
            rounds: ROUNDS,
        })
    };
    let count = with_interrupts(csr::EXTERNAL, || least(run));
    write(plic.enable(), 0);
    write(plic.priority(source), 0);
    count
}
