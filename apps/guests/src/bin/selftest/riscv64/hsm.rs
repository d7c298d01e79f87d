//! Hart state management, as far as one hart can tell.

use guests::arch::sbi::{
    self, ALREADY_AVAILABLE, Answer, INVALID_ADDRESS, INVALID_PARAM, NOT_SUPPORTED, SUCCESS,
};
use guests::arch::{HartStart, Machine, csr};
use guests::report::{Hex, Verdict, Words, equal, holds, skip};
use sbi_spec::hsm::{hart_state, suspend_type};

use super::Check;
use super::sbi::NO_HART;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("hsm.own_status", own_status),
    Check::new("hsm.bad_hart", bad_hart),
    Check::new("hsm.start_started", start_started),
    Check::as_guest(
        "hsm.start_outside_ram",
        "firmware may not look",
        start_outside_ram,
    ),
    Check::new("hsm.suspend_bad_type", suspend_bad_type),
    Check::new("hsm.suspend_until_timer", suspend_until_timer),
];

fn own_status(machine: &Machine) -> Verdict {
    let expected = Answer {
        error: SUCCESS,
        value: hart_state::STARTED,
    };
    equal("status", sbi::hart_status(machine.hart), expected)
}

fn bad_hart(_: &Machine) -> Verdict {
    for hart in [NO_HART, usize::MAX] {
        equal("status", sbi::hart_status(hart).error, INVALID_PARAM)?;
        let start = sbi::hart_start(hart, HartStart::entry(), 0);
        equal("start", start.error, INVALID_PARAM)?;
    }
    Ok(())
}

fn start_started(machine: &Machine) -> Verdict {
    let answer = sbi::hart_start(machine.hart, HartStart::entry(), 0);
    equal("start of itself", answer.error, ALREADY_AVAILABLE)
}

fn start_outside_ram(machine: &Machine) -> Verdict {
    let Some(other) = machine.harts().find(|&hart| hart != machine.hart) else {
        return skip("there is one hart only");
    };
    for address in [machine.ram().end, 0x1000_0000, usize::MAX - 3] {
        let answer = sbi::hart_start(other, address, 0);
        equal(
            format_args!("start at {address:#x}"),
            answer.error,
            INVALID_ADDRESS,
        )?;
    }
    let stopped = Answer {
        error: SUCCESS,
        value: hart_state::STOPPED,
    };
    equal("status after that", sbi::hart_status(other), stopped)
}

/// Types that the specification reserves, and the platform's, of which none is known.
fn suspend_bad_type(_: &Machine) -> Verdict {
    for kind in [1, 0x0fff_ffff, 0x8000_0001] {
        let answer = sbi::hart_suspend(kind, HartStart::entry(), 0);
        equal(format_args!("type {kind:#x}"), answer.error, INVALID_PARAM)?;
    }
    for kind in [0x1000_0000, 0x9000_0000] {
        let error = sbi::hart_suspend(kind, HartStart::entry(), 0).error;
        let refused = error == INVALID_PARAM || error == NOT_SUPPORTED;
        holds(
            format_args!("type {kind:#x}"),
            refused,
            error,
            Words("a refusal"),
        )?;
    }
    Ok(())
}

/// A retentive suspend returns when an enabled interrupt is pending, though none can be taken.
fn suspend_until_timer(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let deadline = timer.now() + timer.ticks_per_second() / 500;
    timer.set(deadline);
    csr::enable_interrupts(csr::TIMER);
    let answer = sbi::hart_suspend(suspend_type::RETENTIVE, 0, 0);
    if answer.error == NOT_SUPPORTED {
        return skip("no retentive suspend");
    }
    equal("error", answer.error, SUCCESS)?;
    let pending = csr::pending_interrupts() & csr::TIMER;
    equal("sip after it", Hex(pending), Hex(csr::TIMER))?;
    holds(
        "time",
        timer.now() >= deadline,
        timer.now(),
        Words("the deadline or later"),
    )
}
