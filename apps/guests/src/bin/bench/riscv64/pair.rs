//! Two harts.

use core::sync::atomic::{AtomicUsize, Ordering};

use guests::arch::context::reg::S6;
use guests::arch::context::{Context, Regs};
use guests::arch::sbi::{self, SUCCESS};
use guests::arch::{HartStart, Machine, csr};
use guests::code;
use guests::measure::Count;

use super::{counted, rounds, with_interrupts};

static START: HartStart = HartStart::new(second);
/// Whom the second hart answers; and whether it is ready to.
static FIRST: AtomicUsize = AtomicUsize::new(0);
static READY: AtomicUsize = AtomicUsize::new(0);

/// The second hart: sleeps until an interrupt comes, and sends one back.
extern "C" fn second(_: usize, _: usize) -> ! {
    csr::enable_interrupts(csr::SOFTWARE);
    READY.store(1, Ordering::Release);
    let answer = code!(
        "1: wfi",
        "csrr a0, sip",
        "andi a0, a0, 2",
        "beqz a0, 1b",
        "csrci sip, 2",
        "li a7, 0x735049",
        "li a6, 0",
        "li a0, 1",
        "mv a1, s6",
        "ecall",
        "j 1b",
    );
    let first = FIRST.load(Ordering::Relaxed);
    Context::new(&answer, Regs::ZERO.with(S6, first)).run();
    panic!("the second hart was disturbed");
}

/// An interrupt there and one back, each to a hart that sleeps.
pub(crate) fn ipi_round_trip(machine: &Machine) -> Option<Count> {
    const ROUNDS: u64 = 1000;
    let other = machine.harts().find(|&hart| hart != machine.hart)?;
    FIRST.store(machine.hart, Ordering::Relaxed);
    let started = sbi::hart_start(other, HartStart::entry(), START.opaque());
    (started.error == SUCCESS).then_some(())?;
    while READY.load(Ordering::Acquire) == 0 {
        core::hint::spin_loop();
    }
    let code = counted!(
        "li a7, 0x735049",
        "li a6, 0",
        "li a0, 1",
        "mv a1, s6",
        "ecall",
        "20: wfi",
        "csrr a0, sip",
        "andi a0, a0, 2",
        "beqz a0, 20b",
        "csrci sip, 2"
    );
    let regs = Regs::ZERO.with(S6, other);
    with_interrupts(csr::SOFTWARE, || rounds(machine, &code, regs, ROUNDS))
}
