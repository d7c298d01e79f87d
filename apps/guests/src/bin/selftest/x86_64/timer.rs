//! Time and the local APIC's timer, requested by a count and, where it can be, by a deadline.

use guests::arch::cpu::Feature;
use guests::arch::lapic::register::{CURRENT_COUNT, DIVIDE, INITIAL_COUNT, IRR, LVT_TIMER};
use guests::arch::lapic::{self, DEADLINE, EVERY_TICK, PERIODIC, has, read, write};
use guests::arch::{Machine, Request, Timer, cpu, msr, pit, port};
use guests::report::{Hex, Miss, Verdict, Words, case, equal, holds, skip};

use super::Check;
use super::expect::{interrupted, undisturbed};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("timer.tsc_grows", tsc_grows),
    Check::new("timer.tsc_and_pit", tsc_and_pit),
    Check::new("timer.pm_timer", pm_timer),
    Check::new("timer.rdtscp", rdtscp),
    Check::new("timer.count", |machine| interrupts(&by_count(machine))),
    Check::new("timer.count_goes_down", count_goes_down),
    Check::new("timer.divided", divided),
    Check::new("timer.periodic", periodic),
    Check::new("timer.count_stopped", |machine| stopped(&by_count(machine))),
    Check::new("timer.deadline", |machine| {
        interrupts(&by_deadline(machine)?)
    }),
    Check::new("timer.deadline_past", deadline_past),
    Check::new("timer.deadline_disarmed", deadline_disarmed),
    Check::new("timer.deadline_no_count", deadline_no_count),
    Check::new("timer.deadline_stopped", |machine| {
        stopped(&by_deadline(machine)?)
    }),
    Check::new("timer.many", many),
];

fn by_count(machine: &Machine) -> Timer {
    machine.timer().by(Request::Count)
}

fn by_deadline(machine: &Machine) -> Result<Timer, Miss> {
    match machine.timer().request {
        Request::Deadline => Ok(machine.timer()),
        Request::Count => Err(Miss::Skip("no TSC deadline")),
    }
}

/// As many ticks of the clock.
fn milliseconds(timer: &Timer, ms: u64) -> u64 {
    timer.ticks_per_second() * ms / 1000
}

fn tsc_grows(machine: &Machine) -> Verdict {
    let first = cpu::time_stamp();
    let mut last = first;
    for _ in 0..10_000 {
        let now = cpu::time_stamp();
        holds("time", now >= last, now, Words("no less than before"))?;
        last = now;
    }
    // Faster than one reading a millisecond is no clock.
    let limit = 10_000 * milliseconds(&machine.timer(), 1);
    let while_ = (1..limit).contains(&(last - first));
    holds("10,000 readings", while_, last - first, Words("a while"))
}

/// Two clocks agree in one of many measurements; a loaded host can disturb the others.
fn agree(told: u64, measure: impl Fn() -> u64) -> Verdict {
    let mut last = 0;
    let near = (0..50).any(|_| {
        last = measure();
        last.abs_diff(told) < told / 20
    });
    holds("Hz", near, last, told)
}

fn tsc_and_pit(machine: &Machine) -> Verdict {
    agrees_with_pit(machine.timer().ticks_per_second())
}

/// The time stamp counter has that frequency, says the PIT.
pub(super) fn agrees_with_pit(told: u64) -> Verdict {
    const PART: u64 = 50;
    agree(told, || {
        let start = cpu::time_stamp();
        pit::wait((pit::FREQUENCY / PART) as u16);
        (cpu::time_stamp() - start) * PART
    })
}

fn pm_timer(machine: &Machine) -> Verdict {
    const FREQUENCY: u32 = 3_579_545;
    const PART: u32 = 50;
    let Some(at) = machine.pm_timer() else {
        return skip("no PM timer");
    };
    agree(machine.timer().ticks_per_second(), || {
        let start = cpu::time_stamp();
        let first: u32 = port::read(at);
        // 24 bits, or 32.
        while port::read::<u32>(at).wrapping_sub(first) & 0xff_ffff < FREQUENCY / PART {
            core::hint::spin_loop();
        }
        (cpu::time_stamp() - start) * u64::from(PART)
    })
}

/// RDTSCP tells the time and TSC_AUX.
fn rdtscp(_: &Machine) -> Verdict {
    use guests::arch::context::Regs;
    use guests::arch::context::reg::{RAX, RCX, RDX};
    if !Feature::Rdtscp.is_there() {
        return skip("no RDTSCP");
    }
    let code = guests::code!("wrmsr", "rdtscp");
    let regs = Regs::pattern()
        .with(RCX, msr::TSC_AUX as usize)
        .with(RAX, 0x8765)
        .with(RDX, 0);
    let before = cpu::time_stamp();
    let after = super::expect::completes(&code, regs)?;
    let time = (after[RDX] << 32 | after[RAX]) as u64;
    let between = (before..=cpu::time_stamp()).contains(&time);
    holds("time", between, time, Words("the time"))?;
    equal("rcx", Hex(after[RCX]), Hex(0x8765))
}

/// The interrupt comes at the deadline or later, never earlier, and is taken between two
/// instructions of the code that runs, with its registers intact.
fn interrupts(timer: &Timer) -> Verdict {
    for _ in 0..5 {
        let deadline = timer.now() + milliseconds(timer, 2);
        timer.set(deadline);
        let verdict = interrupted(Timer::VECTOR);
        let now = timer.now();
        lapic::end_of_interrupt();
        verdict?;
        let early = match timer.request {
            Request::Deadline => 0,
            // Both frequencies may have been measured.
            Request::Count => milliseconds(timer, 1) / 5,
        };
        let due = now + early >= deadline;
        holds("time", due, now, Words("the deadline or later"))?;
    }
    Ok(())
}

fn count_goes_down(machine: &Machine) -> Verdict {
    by_count(machine).stop();
    write(DIVIDE, EVERY_TICK);
    write(INITIAL_COUNT, 1 << 30);
    equal("initial", Hex(read(INITIAL_COUNT) as usize), Hex(1 << 30))?;
    let mut last = 1 << 30;
    for _ in 0..100 {
        let now = read(CURRENT_COUNT);
        holds("count", now <= last, now, Words("no more than before"))?;
        last = now;
    }
    holds("count", last < 1 << 30, last, Words("less than at first"))?;
    write(INITIAL_COUNT, 0);
    equal("stopped", read(CURRENT_COUNT), 0)
}

/// Each setting halves the speed.
fn divided(machine: &Machine) -> Verdict {
    let timer = by_count(machine);
    timer.stop();
    for (setting, divisor) in [(0b1011, 1), (0b0000, 2), (0b0011, 16), (0b1010, 128)] {
        write(DIVIDE, setting);
        equal("setting", Hex(read(DIVIDE) as usize), Hex(setting as usize))?;
        let measured = agree(timer.counts_per_second(), || {
            let start = timer.now();
            write(INITIAL_COUNT, !0);
            timer.spin(milliseconds(&timer, 5));
            let counts = u64::from(!read(CURRENT_COUNT));
            counts * timer.ticks_per_second() / (timer.now() - start) * divisor
        });
        case("divided", measured)?;
    }
    write(INITIAL_COUNT, 0);
    Ok(())
}

/// It comes again and again, in step with the first.
fn periodic(machine: &Machine) -> Verdict {
    let timer = by_count(machine);
    const TIMES: u64 = 10;
    let period = milliseconds(&timer, 2);
    write(DIVIDE, EVERY_TICK);
    write(LVT_TIMER, PERIODIC | u32::from(Timer::VECTOR));
    let start = timer.now();
    write(INITIAL_COUNT, timer.counts(period));
    for _ in 0..TIMES {
        let verdict = interrupted(Timer::VECTOR);
        lapic::end_of_interrupt();
        verdict?;
    }
    let took = timer.now() - start;
    timer.stop();
    let enough = took >= (TIMES - 1) * period;
    holds("ticks", enough, took, (TIMES - 1) * period)?;
    // One may have come before the end.
    super::settle();
    undisturbed()
}

/// What is stopped does not come.
fn stopped(timer: &Timer) -> Verdict {
    // Long enough for a host that is loaded to stop it in time.
    timer.set(timer.now() + milliseconds(timer, 50));
    timer.set(u64::MAX);
    timer.spin(milliseconds(timer, 60));
    undisturbed()?;
    equal("IRR", has(IRR, Timer::VECTOR), false)
}

fn deadline_past(machine: &Machine) -> Verdict {
    let timer = by_deadline(machine)?;
    for deadline in [1, timer.now() / 2, timer.now()] {
        timer.set(deadline);
        interrupted(Timer::VECTOR)?;
        lapic::end_of_interrupt();
    }
    undisturbed()
}

/// The register reads what was written until the interrupt, and then zero.
fn deadline_disarmed(machine: &Machine) -> Verdict {
    let timer = by_deadline(machine)?;
    let far = timer.now() + 1000 * timer.ticks_per_second();
    timer.set(far);
    equal("armed", msr::read(msr::TSC_DEADLINE), far)?;
    timer.set(timer.now() + milliseconds(&timer, 1));
    interrupted(Timer::VECTOR)?;
    lapic::end_of_interrupt();
    equal("disarmed", msr::read(msr::TSC_DEADLINE), 0)
}

/// A timer that waits for a deadline counts nothing.
fn deadline_no_count(machine: &Machine) -> Verdict {
    by_deadline(machine)?;
    write(LVT_TIMER, DEADLINE | u32::from(Timer::VECTOR));
    write(INITIAL_COUNT, 1000);
    equal("count", read(CURRENT_COUNT), 0)?;
    undisturbed()
}

/// A thousand short sleeps, of which none is forgotten.
fn many(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    for n in 0..1000 {
        let deadline = timer.now() + timer.ticks_per_second() / 1_000_000 * (n % 50);
        timer.sleep_until(deadline);
    }
    Ok(())
}
