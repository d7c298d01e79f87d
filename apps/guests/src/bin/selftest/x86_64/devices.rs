//! The PC's old devices: interval timer, interrupt controllers and clock.

use guests::arch::lapic::register::LVT_LINT0;
use guests::arch::pic::Register;
use guests::arch::pit::{self, Channel};
use guests::arch::{Machine, lapic, pic, port};
use guests::report::{Hex, Verdict, Words, equal, holds};

use super::Check;
use super::expect::{interrupted, undisturbed};
use crate::soon::soon;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("devices.pic_mask", pic_mask),
    Check::new("devices.pit_counts", pit_counts),
    Check::new("devices.pit_reloads", pit_reloads),
    Check::new("devices.pit_reads_back", pit_reads_back),
    Check::new("devices.pit_gate", pit_gate),
    Check::new("devices.pic_request", pic_request),
    Check::new("devices.pic_interrupt", pic_interrupt),
    Check::new("devices.pic_periodic", pic_periodic),
    Check::new("devices.pic_masked", pic_masked),
    Check::new("devices.rtc", rtc),
    Check::new("devices.rtc_runs", rtc_runs),
];

/// Ticks of the PIT in a millisecond.
const MILLISECOND: u16 = (pit::FREQUENCY / 1000) as u16;
const PIT_VECTOR: u8 = pic::VECTOR + pit::IRQ;
const PIT_LINE: u16 = 1 << pit::IRQ;

fn pic_mask(_: &Machine) -> Verdict {
    for mask in [0xfffe, 0x5aa5, 0xa55a, 0xffff] {
        pic::set_mask(mask);
        equal("mask", Hex(pic::mask().into()), Hex(mask.into()))?;
    }
    Ok(())
}

/// What takes less than the 55 ms of a whole count may take longer on a loaded host, but not each of many times.
fn in_time(mut holds: impl FnMut() -> bool) -> bool {
    (0..20).any(|_| holds())
}

fn pit_counts(machine: &Machine) -> Verdict {
    let mut last = 0;
    let mut started = Ok(());
    let down = in_time(|| {
        Channel::Zero.start(0, u16::MAX);
        started = soon(machine, "the start", || Channel::Zero.count() < u16::MAX);
        last = Channel::Zero.count();
        (0..50).all(|_| {
            let before = core::mem::replace(&mut last, Channel::Zero.count());
            last <= before
        })
    });
    started?;
    holds("count", down, last, Words("no more than before"))
}

/// Modes 2 and 3 begin anew at their end.
fn pit_reloads(machine: &Machine) -> Verdict {
    for mode in [2, 3] {
        Channel::Zero.start(mode, MILLISECOND);
        let mut last = 0;
        let mut wrapped = 0;
        soon(machine, "three times", || {
            let now = Channel::Zero.count();
            wrapped += u32::from(now > last);
            last = now;
            wrapped >= 3
        })?;
        holds("count", last <= MILLISECOND, last, MILLISECOND)?;
    }
    Ok(())
}

/// The status tells mode and access.
fn pit_reads_back(machine: &Machine) -> Verdict {
    for mode in [0, 2] {
        Channel::Zero.start(mode, u16::MAX);
        soon(machine, "the start", || Channel::Zero.count() < u16::MAX)?;
        let (status, count) = Channel::Zero.read_back();
        equal(
            "status",
            Hex(usize::from(status & 0x3f)),
            Hex(0x30 | usize::from(mode) << 1),
        )?;
        let plausible = (1..u16::MAX).contains(&count);
        holds("count", plausible, count, Words("less than at first"))?;
    }
    Ok(())
}

/// Channel 2 counts while its gate is open, and its output says when it is done.
fn pit_gate(machine: &Machine) -> Verdict {
    pit::set_gate(false);
    Channel::Two.start(0, 10 * MILLISECOND);
    equal("output at first", pit::output(), false)?;
    pit::set_gate(true);
    soon(machine, "the output", pit::output)?;
    let again = in_time(|| {
        Channel::Two.start(0, u16::MAX);
        !pit::output()
    });
    pit::set_gate(false);
    equal("output again", !again, false)
}

/// Lets the 8259's interrupts through to this CPU.
fn connect() {
    lapic::write(LVT_LINT0, lapic::EXTINT);
}

/// A line is requested as long as it is high, masked or not.
fn pic_request(machine: &Machine) -> Verdict {
    // What the channel did before may have been requested already.
    let quiet = in_time(|| {
        Channel::Zero.start(0, u16::MAX);
        pic::init();
        pic::lines(Register::Request) & PIT_LINE == 0
    });
    equal("at first", !quiet, false)?;
    soon(machine, "the request", || {
        pic::lines(Register::Request) & PIT_LINE != 0
    })?;
    equal("service", pic::lines(Register::Service), 0)
}

fn pic_interrupt(_: &Machine) -> Verdict {
    connect();
    for _ in 0..5 {
        Channel::Zero.start(0, MILLISECOND);
        pic::set_mask(!PIT_LINE);
        interrupted(PIT_VECTOR)?;
        let request = pic::lines(Register::Request) & PIT_LINE;
        let service = pic::lines(Register::Service);
        pic::end_of_interrupt();
        equal("request", request, 0)?;
        equal("service", Hex(service.into()), Hex(PIT_LINE.into()))?;
        equal("at the end", pic::lines(Register::Service), 0)?;
        undisturbed()?;
    }
    Ok(())
}

fn pic_periodic(machine: &Machine) -> Verdict {
    connect();
    let timer = machine.timer();
    Channel::Zero.start(2, 2 * MILLISECOND);
    pic::set_mask(!PIT_LINE);
    let start = timer.now();
    for _ in 0..10 {
        interrupted(PIT_VECTOR)?;
        pic::end_of_interrupt();
    }
    let took = timer.now() - start;
    let least = timer.ticks_per_second() * 2 * 8 / 1000;
    // One mode that ends takes the place of the one that does not.
    Channel::Zero.start(0, MILLISECOND);
    holds("ticks", took >= least, took, least)
}

/// A masked line waits.
fn pic_masked(machine: &Machine) -> Verdict {
    connect();
    Channel::Zero.start(0, MILLISECOND);
    soon(machine, "the request", || {
        pic::lines(Register::Request) & PIT_LINE != 0
    })?;
    undisturbed()?;
    pic::set_mask(!PIT_LINE);
    let verdict = interrupted(PIT_VECTOR);
    pic::end_of_interrupt();
    verdict
}

/// Reads a register of the clock.
fn clock(register: u8) -> u8 {
    port::write(0x70, register);
    port::read(0x71)
}

const UPDATE_IN_PROGRESS: u8 = 1 << 7;

/// A date and time that can be, in the format that register B tells.
fn rtc(machine: &Machine) -> Verdict {
    const BINARY: u8 = 1 << 2;
    soon(machine, "the end of an update", || {
        clock(0xa) & UPDATE_IN_PROGRESS == 0
    })?;
    let binary = clock(0xb) & BINARY != 0;
    for (name, register, first, last) in [
        ("second", 0, 0, 59),
        ("minute", 2, 0, 59),
        ("day", 7, 1, 31),
        ("month", 8, 1, 12),
        ("year", 9, 0, 99),
    ] {
        let raw = clock(register);
        let value = if binary {
            raw
        } else {
            (raw >> 4) * 10 + (raw & 0xf)
        };
        holds(name, (first..=last).contains(&value), value, (first, last))?;
        let decimal = binary || raw & 0xf < 10;
        holds(name, decimal, Hex(raw.into()), Words("decimal digits"))?;
    }
    equal("register D", Hex(clock(0xd).into()), Hex(0x80))
}

fn rtc_runs(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let (start, second) = (timer.now(), clock(0));
    // A second, and what a loaded host does to it.
    while clock(0) == second {
        let late = timer.now() - start > 10 * timer.ticks_per_second();
        holds("second", !late, second, Words("the next one"))?;
    }
    Ok(())
}
