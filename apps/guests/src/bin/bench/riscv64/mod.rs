//! The rows of RISC-V, and how they are counted.

mod calls;
mod console;
mod cpu;
mod interrupts;
mod memory;
mod pair;

use guests::arch::context::reg::{S2, S3, S4, S5};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::{Machine, csr};
use guests::code;
use guests::measure::{Count, Row, least};

/// All rows. Those that leave the machine changed come last.
pub(crate) const ROWS: &[Row<Machine>] = &[
    Row::new("power-on", |machine| {
        let per_tick = Clock::Time.per_tick(machine);
        Some(Count::between(0, machine.started, per_tick, 1))
    }),
    Row::new("loop", cpu::bare_loop),
    Row::new("sbi-base-version", calls::base_version),
    Row::new("sbi-base-probe", calls::base_probe),
    Row::new("mmio-read", memory::plic_read),
    Row::new("mmio-write", memory::plic_write),
    Row::new("mmio-read-uart", memory::uart_read),
    Row::new("mmio-write-uart", memory::uart_write),
    Row::new("sbi-dbcn-putc", console::dbcn),
    Row::new("sbi-set-timer", calls::set_timer),
    Row::new("sbi-fence-i", calls::fence_i),
    Row::new("sbi-sfence-vma", calls::sfence_vma),
    Row::new("sbi-ipi-self", interrupts::ipi_self),
    Row::new("csr-counters", cpu::counters),
    Row::new("csr-stimecmp", cpu::stimecmp),
    Row::new("sfence-vma", cpu::sfence_vma),
    Row::new("wfi-pending", cpu::wfi_pending),
    Row::new("wfi-timer", cpu::wfi_timer),
    Row::new("ram-first-touch", memory::ram_first_touch),
    Row::new("lazy-first-touch", memory::lazy_first_touch),
    Row::new("irq-device", interrupts::device),
    Row::new("console-uart", console::uart),
    Row::new("console-uart-all", console::uart_all),
    Row::new("console-dbcn-all", console::dbcn_all),
    Row::new("ipi-round-trip", pair::ipi_round_trip),
];

/// Rounds of a row that takes no long time.
const MANY: u64 = 10_000;

/// Assembles a loop that is counted: `before`, then S2 rounds of `each`, then `after`, in which the
/// clock does not run any more. S2 and S3 are set by [`rounds`], S4 and S5 read the clock; `before`
/// and `each` may use every other register, and labels from 20 on. A loop with an `until` of its own,
/// which branches back to label 12, needs no S2.
macro_rules! counted {
    ($($each:literal),+ $(,)?) => { counted!(before: [], each: [$($each),+], after: []) };
    (each: [$($each:literal),+], until: $until:literal) => {
        counted!(before: [], each: [$($each),+], until: [$until], after: [])
    };
    (before: [$($before:literal),*], each: [$($each:literal),+], after: [$($after:literal),*]) => {
        counted!(
            before: [$($before),*],
            each: [$($each),+],
            until: ["addi s2, s2, -1", "bnez s2, 12b"],
            after: [$($after),*]
        )
    };
    (before: [$($before:literal),*], each: [$($each:literal),+],
     until: [$($until:literal),+], after: [$($after:literal),*]) => {
        guests::code!(
            $($before,)*
            "beqz s3, 11f",
            "csrr s4, time",
            "j 12f",
            "11: csrr s4, instret",
            "12:",
            $($each,)+
            $($until,)+
            "beqz s3, 13f",
            "csrr s5, time",
            "j 14f",
            "13: csrr s5, instret",
            "14:",
            $($after,)*
        )
    };
}
use counted;

/// Counts `rounds` rounds of a [`counted!`] loop with these registers, the least of some runs: others
/// on the machine have work now and then. Nothing if it trapped.
fn rounds(machine: &Machine, code: &Code, regs: Regs, rounds: u64) -> Option<Count> {
    least(|| once(machine, code, regs, rounds))
}

/// As [`rounds`], of a single run.
fn once(machine: &Machine, code: &Code, regs: Regs, rounds: u64) -> Option<Count> {
    let clock = Clock::of(machine);
    let regs = regs.with(S2, rounds as usize).with(S3, clock.selector());
    let after = completes(code, regs)?;
    let [start, end] = [S4, S5].map(|n| after[n] as u64);
    Some(Count::between(start, end, clock.per_tick(machine), rounds))
}

/// Runs code in supervisor mode with interrupts off; its registers at its end, or nothing if it
/// trapped before.
fn completes(code: &Code, regs: Regs) -> Option<Regs> {
    let mut context = Context::new(code, regs);
    let trap = context.run();
    let ended = trap.cause == exception::BREAKPOINT && trap.pc == code.end;
    ended.then_some(context.regs)
}

/// What counts instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// `instret`, which stands still while all harts sleep.
    Instret,
    /// `time`, where `instret` is not there or does not count.
    Time,
}

impl Clock {
    fn of(_: &Machine) -> Self {
        let twice = code!("csrr s4, instret", "csrr s5, instret");
        let passed = completes(&twice, Regs::ZERO).map(|regs| regs[S5].wrapping_sub(regs[S4]));
        match passed {
            Some(1..100_000) => Self::Instret,
            _ => Self::Time,
        }
    }

    /// For S3 in [`counted!`].
    const fn selector(self) -> usize {
        match self {
            Self::Instret => 0,
            Self::Time => 1,
        }
    }

    /// Instructions in a tick, where an instruction takes a nanosecond.
    fn per_tick(self, machine: &Machine) -> u64 {
        match self {
            Self::Instret => 1,
            Self::Time => 1_000_000_000 / machine.timer().ticks_per_second().max(1),
        }
    }
}

/// The boot hart's mask and base for calls that take several harts.
fn own_hart(machine: &Machine) -> (usize, usize) {
    (1, machine.hart)
}

/// Lets these interrupts, and no others, be enabled while `measure` runs.
fn with_interrupts<T>(mask: usize, measure: impl FnOnce() -> T) -> T {
    csr::enable_interrupts(mask);
    let result = measure();
    csr::enable_interrupts(0);
    result
}
