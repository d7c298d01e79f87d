//! Time, counters and the timer interrupt, requested by the SBI and, with Sstc, by `stimecmp`.

use guests::arch::context::reg::{A0, A1};
use guests::arch::context::{Context, Interrupts, Regs, interrupt};
use guests::arch::{Machine, Timer, csr};
use guests::report::{Hex, Miss, Verdict, Words, case, equal, holds, skip};
use guests::{code, read_csr};

use super::Check;
use super::expect::{at_end, completes, illegal, same_registers};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("timer.time_grows", time_grows),
    Check::new("timer.counters_grow", counters_grow),
    Check::new("timer.sbi", |machine| interrupts(&by_sbi(machine))),
    Check::new("timer.sbi_past", |machine| past(&by_sbi(machine))),
    Check::new("timer.sbi_cleared", |machine| cleared(&by_sbi(machine))),
    Check::new("timer.sstc", |machine| interrupts(&by_sstc(machine)?)),
    Check::new("timer.sstc_past", |machine| past(&by_sstc(machine)?)),
    Check::new("timer.sstc_cleared", |machine| cleared(&by_sstc(machine)?)),
    Check::new("timer.sstc_reads_back", sstc_reads_back),
    Check::new("timer.sstc_absent", sstc_absent),
    Check::new("timer.masked", masked),
    Check::new("timer.wfi_wakes", wfi_wakes),
    Check::new("timer.wfi_pending", wfi_pending),
    Check::new("timer.many", many),
];

fn by_sbi(machine: &Machine) -> Timer {
    machine.timer().by_sbi()
}

fn by_sstc(machine: &Machine) -> Result<Timer, Miss> {
    let timer = machine.timer();
    if timer.sstc {
        Ok(timer)
    } else {
        Err(Miss::Skip("no Sstc"))
    }
}

/// As many ticks of the clock.
fn milliseconds(timer: &Timer, ms: u64) -> u64 {
    timer.ticks_per_second() * ms / 1000
}

fn pending() -> Hex {
    Hex(csr::pending_interrupts() & csr::TIMER)
}

fn time_grows(machine: &Machine) -> Verdict {
    let first = csr::time();
    let mut last = first;
    for _ in 0..10_000 {
        let now = csr::time();
        holds("time", now >= last, now, Words("no less than before"))?;
        last = now;
    }
    // Faster than one reading a millisecond is no clock.
    let limit = 10_000 * milliseconds(&machine.timer(), 1);
    holds(
        "10,000 readings",
        (1..limit).contains(&(last - first)),
        last - first,
        Words("a while"),
    )
}

fn counters_grow(_: &Machine) -> Verdict {
    let before = (read_csr!("cycle"), read_csr!("instret"));
    let code = code!("1: addi a0, a0, -1", "bnez a0, 1b");
    completes(&code, Regs::pattern().with(A0, 1000))?;
    let after = (read_csr!("cycle"), read_csr!("instret"));
    holds(
        "cycle",
        after.0 > before.0,
        after.0.wrapping_sub(before.0),
        Words("more than 0"),
    )?;
    let instructions = after.1.wrapping_sub(before.1);
    holds(
        "instret",
        instructions >= 2000,
        instructions,
        Words("at least 2000"),
    )
}

/// The interrupt comes at the deadline or later, never earlier, and is taken between two
/// instructions of the code that runs, with its registers intact.
fn interrupts(timer: &Timer) -> Verdict {
    csr::enable_interrupts(csr::TIMER);
    let spin = code!("1: j 1b");
    for _ in 0..5 {
        let deadline = timer.now() + milliseconds(timer, 2);
        timer.set(deadline);
        let mut context = Context::new(&spin, Regs::pattern()).interrupts(Interrupts::On);
        let trap = context.run();
        let now = timer.now();
        equal("scause", Hex(trap.cause), Hex(interrupt::TIMER))?;
        equal("sepc", Hex(trap.pc), Hex(spin.start))?;
        equal("stval", Hex(trap.value), Hex(0))?;
        holds("time", now >= deadline, now, Words("the deadline or later"))?;
        same_registers(&context.regs, &Regs::pattern())?;
        equal("sip", pending(), Hex(csr::TIMER))?;
    }
    Ok(())
}

fn past(timer: &Timer) -> Verdict {
    csr::enable_interrupts(csr::TIMER);
    for deadline in [0, 1, timer.now()] {
        timer.set(deadline);
        let mut context =
            Context::new(&code!("1: j 1b"), Regs::pattern()).interrupts(Interrupts::On);
        equal("scause", Hex(context.run().cause), Hex(interrupt::TIMER))?;
    }
    Ok(())
}

/// A new deadline takes the pending interrupt away; one that is infinitely far never comes.
fn cleared(timer: &Timer) -> Verdict {
    for deadline in [
        u64::MAX,
        u64::MAX - 1,
        timer.now() + 1000 * timer.ticks_per_second(),
    ] {
        timer.set(0);
        while csr::pending_interrupts() & csr::TIMER == 0 {}
        timer.set(deadline);
        equal(
            format_args!("sip, deadline {deadline:#x}"),
            pending(),
            Hex(0),
        )?;
    }
    Ok(())
}

fn sstc_reads_back(machine: &Machine) -> Verdict {
    let timer = by_sstc(machine)?;
    for deadline in [u64::MAX, 0x1234_5678_9abc_def0, 0] {
        timer.set(deadline);
        equal("stimecmp", Hex(read_csr!("0x14d")), Hex(deadline as usize))?;
    }
    Ok(())
}

fn sstc_absent(machine: &Machine) -> Verdict {
    if machine.timer().sstc {
        return skip("Sstc is there");
    }
    for code in [code!("csrr a0, 0x14d"), code!("csrw 0x14d, a0")] {
        illegal(Context::new(&code, Regs::pattern()), &code)?;
    }
    Ok(())
}

/// What `sie` does not enable is pending but not taken.
fn masked(machine: &Machine) -> Verdict {
    machine.timer().set(0);
    let code = code!("1: addi a0, a0, -1", "bnez a0, 1b");
    let regs = Regs::pattern().with(A0, 1000);
    let mut context = Context::new(&code, regs).interrupts(Interrupts::On);
    let trap = context.run();
    at_end(trap, &code)?;
    equal("sip", pending(), Hex(csr::TIMER))
}

/// WFI may return at any time, but with an enabled interrupt to come it returns in the end.
fn wfi_wakes(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    csr::enable_interrupts(csr::TIMER);
    let code = code!("1: wfi", "csrr a1, sip", "andi a1, a1, 0x20", "beqz a1, 1b");
    for _ in 0..5 {
        let deadline = timer.now() + milliseconds(&timer, 2);
        timer.set(deadline);
        let after = completes(&code, Regs::pattern())?;
        same_registers(&after, &Regs::pattern().with(A1, csr::TIMER))?;
        holds(
            "time",
            timer.now() >= deadline,
            timer.now(),
            Words("the deadline or later"),
        )?;
    }
    Ok(())
}

/// With an enabled interrupt pending WFI goes on, whether the interrupt can be taken or not.
fn wfi_pending(machine: &Machine) -> Verdict {
    machine.timer().set(0);
    csr::enable_interrupts(csr::TIMER);
    let after = completes(&code!("wfi", "wfi", "wfi"), Regs::pattern())?;
    same_registers(&after, &Regs::pattern())
}

/// A thousand short sleeps, of which none is forgotten.
fn many(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    for n in 0..1000 {
        let deadline = timer.now() + timer.ticks_per_second() / 1_000_000 * (n % 50);
        let woken = timer.sleep_until(deadline);
        case(
            "woken",
            holds(
                "time",
                woken >= deadline,
                woken,
                Words("the deadline or later"),
            ),
        )?;
    }
    Ok(())
}
