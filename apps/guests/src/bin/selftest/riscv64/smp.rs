//! A second hart: started, interrupted, fenced, stopped and started again.

use core::sync::atomic::{AtomicUsize, Ordering};

use guests::arch::context::Regs;
use guests::arch::context::reg::A0;
use guests::arch::sbi::{self, ALL_HARTS, ALREADY_AVAILABLE, Answer, SUCCESS};
use guests::arch::{HartStart, Machine, csr};
use guests::report::{Hex, Miss, Verdict, Words, case, equal, holds};
use guests::{code, read_csr};
use sbi_spec::{hsm::hart_state, rfnc};

use super::Check;
use super::expect::completes;
use crate::soon::soon;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("smp.stopped_at_first", stopped_at_first),
    Check::new("smp.start", |machine| with_second(machine, start)),
    Check::new("smp.start_running", |machine| {
        with_second(machine, start_running)
    }),
    Check::new("smp.time", |machine| with_second(machine, time)),
    Check::new("smp.ping_pong", |machine| with_second(machine, ping_pong)),
    Check::new("smp.ipi_to_all", |machine| with_second(machine, ipi_to_all)),
    Check::new("smp.fence", |machine| with_second(machine, fence)),
    Check::new("smp.stop_and_start", stop_and_start),
];

/// What the second hart tells about itself at its start.
static HART: AtomicUsize = AtomicUsize::new(NOBODY);
static OPAQUE: AtomicUsize = AtomicUsize::new(0);
static STATUS: AtomicUsize = AtomicUsize::new(0);
static SATP: AtomicUsize = AtomicUsize::new(0);
/// Software interrupts that it took.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// What it is to do when it is interrupted, one of the orders below; and its answer.
static ORDER: AtomicUsize = AtomicUsize::new(NOTHING);
static ANSWER: AtomicUsize = AtomicUsize::new(0);
/// Whom `PING` is to interrupt.
static FIRST: AtomicUsize = AtomicUsize::new(0);

const NOBODY: usize = usize::MAX;

const NOTHING: usize = 0;
/// Interrupt the first hart.
const PING: usize = 1;
/// Tell the time.
const TIME: usize = 2;
/// Stop.
const STOP: usize = 3;

static START: HartStart = HartStart::new(second);

fn second_hart(machine: &Machine) -> Result<usize, Miss> {
    let other = machine.harts().find(|&hart| hart != machine.hart);
    other.ok_or(Miss::Skip("there is one hart only"))
}

/// The second hart: waits for software interrupts, and follows an order at each.
extern "C" fn second(hart: usize, opaque: usize) -> ! {
    STATUS.store(read_csr!("sstatus"), Ordering::Relaxed);
    SATP.store(read_csr!("satp"), Ordering::Relaxed);
    OPAQUE.store(opaque, Ordering::Relaxed);
    csr::clear_software_interrupt();
    csr::enable_interrupts(csr::SOFTWARE);
    HART.store(hart, Ordering::Release);
    loop {
        wait_for_ipi();
        match ORDER.load(Ordering::Acquire) {
            PING => {
                sbi::send_ipi(1, FIRST.load(Ordering::Relaxed));
            }
            TIME => ANSWER.store(csr::time() as usize, Ordering::Relaxed),
            STOP => {
                sbi::hart_stop();
                panic!("the second hart could not be stopped");
            }
            _ => {}
        }
        TAKEN.fetch_add(1, Ordering::Release);
    }
}

/// Sleeps until a software interrupt is pending, and clears it.
fn wait_for_ipi() {
    let asleep = code!("1: wfi", "csrr a0, sip", "andi a0, a0, 2", "beqz a0, 1b");
    assert!(
        completes(&asleep, Regs::ZERO).is_ok(),
        "the second hart was disturbed"
    );
    csr::clear_software_interrupt();
}

/// Starts the second hart, runs the check with its id, and stops it again.
fn with_second(machine: &Machine, check: fn(&Machine, usize) -> Verdict) -> Verdict {
    let hart = second_hart(machine)?;
    launch(machine, hart)?;
    let verdict = check(machine, hart);
    stop(machine, hart)?;
    verdict
}

fn launch(machine: &Machine, hart: usize) -> Verdict {
    HART.store(NOBODY, Ordering::Relaxed);
    FIRST.store(machine.hart, Ordering::Relaxed);
    TAKEN.store(0, Ordering::Relaxed);
    let answer = sbi::hart_start(hart, HartStart::entry(), START.opaque());
    equal("start", answer.error, SUCCESS)?;
    soon(machine, "the second hart's start", || {
        HART.load(Ordering::Acquire) != NOBODY
    })
}

fn stop(machine: &Machine, hart: usize) -> Verdict {
    order(STOP, hart)?;
    soon(machine, "status stopped", || {
        sbi::hart_status(hart) == status(hart_state::STOPPED)
    })
}

fn status(state: usize) -> Answer {
    Answer {
        error: SUCCESS,
        value: state,
    }
}

/// Gives an order and interrupts the second hart.
fn order(order: usize, hart: usize) -> Verdict {
    ORDER.store(order, Ordering::Release);
    equal("IPI", sbi::send_ipi(1, hart).error, SUCCESS)
}

fn taken() -> usize {
    TAKEN.load(Ordering::Acquire)
}

fn stopped_at_first(machine: &Machine) -> Verdict {
    let hart = second_hart(machine)?;
    equal(
        "status",
        sbi::hart_status(hart),
        status(hart_state::STOPPED),
    )
}

/// It starts with its id in a0, what was passed in a1, and everything off.
fn start(_: &Machine, hart: usize) -> Verdict {
    equal("a0", HART.load(Ordering::Relaxed), hart)?;
    equal(
        "a1",
        Hex(OPAQUE.load(Ordering::Relaxed)),
        Hex(START.opaque()),
    )?;
    let sie = STATUS.load(Ordering::Relaxed) & csr::SSTATUS_SIE;
    equal("sstatus.SIE", Hex(sie), Hex(0))?;
    equal("satp", Hex(SATP.load(Ordering::Relaxed)), Hex(0))?;
    equal(
        "status",
        sbi::hart_status(hart),
        status(hart_state::STARTED),
    )
}

fn start_running(_: &Machine, hart: usize) -> Verdict {
    let again = sbi::hart_start(hart, HartStart::entry(), START.opaque());
    equal("start", again.error, ALREADY_AVAILABLE)
}

/// Both harts have the same time: what one reads lies between two readings of the other.
fn time(machine: &Machine, hart: usize) -> Verdict {
    for _ in 0..100 {
        let (before, count) = (csr::time(), taken());
        order(TIME, hart)?;
        soon(machine, "an answer", || taken() > count)?;
        let (there, after) = (ANSWER.load(Ordering::Relaxed) as u64, csr::time());
        holds(
            "time",
            (before..=after).contains(&there),
            there,
            (before, after),
        )?;
    }
    Ok(())
}

/// A thousand interrupts there and back, with both harts asleep in between.
fn ping_pong(machine: &Machine, hart: usize) -> Verdict {
    let timer = machine.timer();
    csr::enable_interrupts(csr::SOFTWARE | csr::TIMER);
    // The timer is there for the case that no interrupt comes back.
    let asleep = code!("1: wfi", "csrr a0, sip", "andi a0, a0, 0x22", "beqz a0, 1b");
    for round in 1..=1000 {
        timer.set(timer.now() + 10 * timer.ticks_per_second());
        order(PING, hart)?;
        let pending = completes(&asleep, Regs::ZERO)?[A0];
        let came = pending & csr::SOFTWARE != 0;
        holds(
            format_args!("round {round}"),
            came,
            Words("silence"),
            Words("an IPI"),
        )?;
        csr::clear_software_interrupt();
        soon(machine, "the end of the round", || taken() == round)?;
    }
    timer.set(u64::MAX);
    Ok(())
}

fn ipi_to_all(machine: &Machine, _: usize) -> Verdict {
    ORDER.store(NOTHING, Ordering::Release);
    equal("error", sbi::send_ipi(0, ALL_HARTS).error, SUCCESS)?;
    let own = || csr::pending_interrupts() & csr::SOFTWARE != 0;
    soon(machine, "the own interrupt", own)?;
    soon(machine, "the other's interrupt", || taken() == 1)
}

/// Fences on a hart that sleeps, and on both.
fn fence(_: &Machine, hart: usize) -> Verdict {
    for harts in [(1, hart), (0, ALL_HARTS)] {
        for function in [
            rfnc::REMOTE_FENCE_I,
            rfnc::REMOTE_SFENCE_VMA,
            rfnc::REMOTE_SFENCE_VMA_ASID,
        ] {
            for (start, size) in [(0, 0), (0x8020_0000, 4096), (0, usize::MAX)] {
                let answer = sbi::remote_fence(function, harts, start, size, 0);
                equal(format_args!("function {function}"), answer.error, SUCCESS)?;
            }
        }
    }
    equal("interrupts taken", taken(), 0)
}

/// A hart can be stopped and started as often as one likes.
fn stop_and_start(machine: &Machine) -> Verdict {
    let hart = second_hart(machine)?;
    for round in 0..20 {
        case("start", launch(machine, hart))?;
        equal(
            format_args!("round {round}"),
            sbi::hart_status(hart),
            status(hart_state::STARTED),
        )?;
        case("stop", stop(machine, hart))?;
    }
    Ok(())
}
