//! A second CPU: started, interrupted, stopped and started again.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use guests::arch::context::reg::{RAX, RDI};
use guests::arch::context::{Code, Context, Interrupts, Regs, exception};
use guests::arch::ioapic::MASKED;
use guests::arch::lapic::register::{DFR, LDR};
use guests::arch::lapic::{self, command};
use guests::arch::pit::{self, Channel};
use guests::arch::{CpuStart, Machine, Timer, cpu, msr};
use guests::code;
use guests::report::{Hex, Miss, Verdict, Words, case, equal, holds};

use super::Check;
use super::expect::{completes, interrupted, same_registers, undisturbed};
use super::ioapic::to;
use super::lapic::taken as taken_here;
use super::paging::{self, Paging, STAGE};
use crate::soon::soon;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("smp.start", |machine| with_second(machine, start)),
    Check::new("smp.start_running", |machine| {
        with_second(machine, start_running)
    }),
    Check::new("smp.waits_for_startup", waits_for_startup),
    Check::as_guest(
        "smp.sleeps_through_nmi",
        "QEMU wakes up",
        sleeps_through_nmi,
    ),
    Check::new("smp.time", |machine| with_second(machine, time)),
    Check::new("smp.ping_pong", |machine| with_second(machine, ping_pong)),
    Check::new("smp.to_all", |machine| with_second(machine, to_all)),
    Check::new("smp.to_others", |machine| with_second(machine, to_others)),
    Check::new("smp.logical", |machine| with_second(machine, logical)),
    Check::new("smp.lowest_priority", |machine| {
        with_second(machine, lowest_priority)
    }),
    Check::new("smp.nmi_asleep", |machine| with_second(machine, nmi_asleep)),
    Check::new("smp.nmi_busy", |machine| with_second(machine, nmi_busy)),
    Check::new("smp.from_ioapic", |machine| {
        with_second(machine, from_ioapic)
    }),
    Check::new("smp.own_registers", |machine| {
        with_second(machine, own_registers)
    }),
    Check::new("smp.code_changes", |machine| {
        with_second(machine, code_changes)
    }),
    Check::new("smp.stop_and_start", stop_and_start),
];

/// What the second CPU tells about itself at its start.
static ID: AtomicU32 = AtomicU32::new(NOBODY);
/// How often it has started.
static STARTS: AtomicUsize = AtomicUsize::new(0);
/// Interrupts and NMIs that it took.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static NMIS: AtomicUsize = AtomicUsize::new(0);
/// 1 while it waits in a context: only there can it take an NMI.
static WAITING: AtomicU32 = AtomicU32::new(0);
/// What it is to do when it is interrupted, one of the orders below; and its answer.
static ORDER: AtomicUsize = AtomicUsize::new(NOTHING);
static ANSWER: AtomicU64 = AtomicU64::new(0);
/// Whom `PING` is to interrupt.
static FIRST: AtomicU32 = AtomicU32::new(0);

const NOBODY: u32 = u32::MAX;

const NOTHING: usize = 0;
/// Interrupt the first CPU.
const PING: usize = 1;
/// Tell the time.
const TIME: usize = 2;
/// Be busy with interrupts off, until an NMI.
const BUSY: usize = 3;
/// Exchange a register for the answer.
const REGISTER: usize = 4;
/// Change the first CPU's code under its feet.
const CHANGE: usize = 5;

/// The vector of the interrupts between the two.
const VECTOR: u8 = 0x90;

static SECOND: CpuStart = CpuStart::new(second);

fn second_cpu(machine: &Machine) -> Result<u32, Miss> {
    let other = machine.cpus().find(|&id| id != machine.apic_id);
    other.ok_or(Miss::Skip("there is one CPU only"))
}

/// The second CPU: waits for interrupts, and follows an order at each.
extern "C" fn second() -> ! {
    lapic::write(DFR, !0);
    lapic::write(LDR, 1 << 25);
    STARTS.fetch_add(1, Ordering::Relaxed);
    ID.store(lapic::id(), Ordering::Release);
    loop {
        let asleep = code!("mov dword ptr [rdi], 1", "2: hlt", "jmp 2b");
        let regs = Regs::ZERO.with(RDI, WAITING.as_ptr().addr());
        let trap = Context::new(&asleep, regs).interrupts(Interrupts::On).run();
        WAITING.store(0, Ordering::Relaxed);
        if trap.vector == exception::NMI {
            NMIS.fetch_add(1, Ordering::Release);
            continue;
        }
        assert!(trap.vector == VECTOR.into(), "the second CPU took {trap:?}");
        lapic::end_of_interrupt();
        match ORDER.load(Ordering::Acquire) {
            PING => lapic::send(FIRST.load(Ordering::Relaxed), VECTOR.into()),
            TIME => ANSWER.store(cpu::time_stamp(), Ordering::Relaxed),
            BUSY => {
                let busy = code!("mov dword ptr [rdi], 1", "2: jmp 2b");
                let regs = Regs::ZERO.with(RDI, ANSWER.as_ptr().addr());
                let trap = Context::new(&busy, regs).run();
                assert!(
                    trap.vector == exception::NMI,
                    "the second CPU took {trap:?}"
                );
                NMIS.fetch_add(1, Ordering::Release);
            }
            REGISTER => {
                let before = msr::read(msr::KERNEL_GS_BASE);
                // SAFETY: this program does not use it.
                unsafe { msr::write(msr::KERNEL_GS_BASE, ANSWER.load(Ordering::Relaxed)) }
                ANSWER.store(before, Ordering::Relaxed);
            }
            CHANGE => (0..20_000).for_each(|n| paging::stage(0, &OPCODES[n % 4..][..1])),
            _ => {}
        }
        TAKEN.fetch_add(1, Ordering::Release);
    }
}

/// Starts the second CPU, runs the check with its id, and stops it again.
fn with_second(machine: &Machine, check: fn(&Machine, u32) -> Verdict) -> Verdict {
    let id = second_cpu(machine)?;
    launch(machine, id)?;
    let verdict = check(machine, id);
    CpuStart::init(&machine.timer(), id);
    verdict
}

fn launch(machine: &Machine, id: u32) -> Verdict {
    ID.store(NOBODY, Ordering::Relaxed);
    FIRST.store(machine.apic_id, Ordering::Relaxed);
    for counter in [&STARTS, &TAKEN, &NMIS] {
        counter.store(0, Ordering::Relaxed);
    }
    SECOND.launch(&machine.timer(), id);
    soon(machine, "the second CPU's start", || {
        ID.load(Ordering::Acquire) != NOBODY
    })
}

/// Gives an order and interrupts the second CPU.
fn order(order: usize, id: u32) {
    ORDER.store(order, Ordering::Release);
    lapic::send(id, VECTOR.into());
}

/// Gives an order and waits until it is done.
fn ordered(machine: &Machine, what: usize, id: u32) -> Verdict {
    let count = taken();
    order(what, id);
    soon(machine, "an answer", || taken() > count)
}

fn taken() -> usize {
    TAKEN.load(Ordering::Acquire)
}

fn nmis() -> usize {
    NMIS.load(Ordering::Acquire)
}

/// It starts where the startup interrupt says, in real mode.
fn start(machine: &Machine, id: u32) -> Verdict {
    const REAL_MODE: u32 = 0x6000_0010;
    equal("id", ID.load(Ordering::Relaxed), id)?;
    equal(
        "cr0",
        Hex(SECOND.first_cr0() as usize),
        Hex(REAL_MODE as usize),
    )?;
    ordered(machine, NOTHING, id)
}

/// A startup interrupt is nothing to a CPU that runs.
fn start_running(machine: &Machine, id: u32) -> Verdict {
    lapic::send(id, CpuStart::command());
    ordered(machine, NOTHING, id)?;
    equal("starts", STARTS.load(Ordering::Relaxed), 1)
}

/// After an INIT it waits for a startup interrupt, and for nothing else.
fn waits_for_startup(machine: &Machine) -> Verdict {
    sleeps_through(machine, VECTOR.into())
}

fn sleeps_through_nmi(machine: &Machine) -> Verdict {
    sleeps_through(machine, command::NMI | command::ASSERT)
}

/// A CPU that waits for its startup interrupt does not take another one, not even when it starts.
fn sleeps_through(machine: &Machine, command: u32) -> Verdict {
    let id = second_cpu(machine)?;
    launch(machine, id)?;
    let timer = machine.timer();
    CpuStart::init(&timer, id);
    lapic::send(id, command);
    timer.spin(timer.ticks_per_second() / 100);
    CpuStart::init(&timer, id);
    let starts = STARTS.load(Ordering::Relaxed);
    SECOND.prepare();
    lapic::send(id, CpuStart::command());
    let again = soon(machine, "another start", || {
        STARTS.load(Ordering::Relaxed) == 2
    });
    CpuStart::init(&timer, id);
    equal("starts", starts, 1)?;
    again?;
    equal("taken", (taken(), nmis()), (0, 0))
}

/// Both CPUs have the same time: what one reads lies between two readings of the other.
fn time(machine: &Machine, id: u32) -> Verdict {
    for _ in 0..100 {
        let before = cpu::time_stamp();
        ordered(machine, TIME, id)?;
        let (there, after) = (ANSWER.load(Ordering::Relaxed), cpu::time_stamp());
        let between = (before..=after).contains(&there);
        holds("time", between, there, (before, after))?;
    }
    Ok(())
}

/// A thousand interrupts there and back, with both CPUs asleep in between.
fn ping_pong(machine: &Machine, id: u32) -> Verdict {
    let timer = machine.timer();
    let asleep = code!("2: hlt", "jmp 2b");
    for round in 1..=1000 {
        // For the case that no interrupt comes back.
        timer.set(timer.now() + 10 * timer.ticks_per_second());
        order(PING, id);
        let trap = Context::new(&asleep, Regs::ZERO)
            .interrupts(Interrupts::On)
            .run();
        lapic::end_of_interrupt();
        equal(
            format_args!("round {round}"),
            Hex(trap.vector),
            Hex(VECTOR.into()),
        )?;
        soon(machine, "the end of the round", || taken() == round)?;
    }
    timer.stop();
    Ok(())
}

fn to_all(machine: &Machine, _: u32) -> Verdict {
    ORDER.store(NOTHING, Ordering::Release);
    for round in 1..=3 {
        lapic::send(0, command::ALL | u32::from(VECTOR));
        taken_here(machine, VECTOR)?;
        soon(machine, "the other's", || taken() == round)?;
    }
    // The destination that is everyone.
    lapic::send(0xff, VECTOR.into());
    taken_here(machine, VECTOR)?;
    soon(machine, "the other's", || taken() == 4)
}

fn to_others(machine: &Machine, _: u32) -> Verdict {
    ORDER.store(NOTHING, Ordering::Release);
    for round in 1..=3 {
        lapic::send(0, command::OTHERS | u32::from(VECTOR));
        soon(machine, "the other's", || taken() == round)?;
    }
    undisturbed()
}

/// The second CPU has bit 1 of the logical destinations, the first gets bit 0.
fn logical(machine: &Machine, _: u32) -> Verdict {
    ORDER.store(NOTHING, Ordering::Release);
    lapic::write(DFR, !0);
    lapic::write(LDR, 1 << 24);
    let send = |bits| lapic::send(bits, command::LOGICAL | u32::from(VECTOR));
    send(0b10);
    case("the other", soon(machine, "an interrupt", || taken() == 1))?;
    undisturbed()?;
    send(0b01);
    case("the first", taken_here(machine, VECTOR))?;
    send(0b11);
    case("both", taken_here(machine, VECTOR))?;
    soon(machine, "the other's", || taken() == 2)
}

/// One of the two gets it.
fn lowest_priority(machine: &Machine, _: u32) -> Verdict {
    const LOWEST: u32 = 1 << 8;
    ORDER.store(NOTHING, Ordering::Release);
    lapic::write(DFR, !0);
    lapic::write(LDR, 1 << 24);
    let mut here = 0;
    for round in 1..=10 {
        lapic::send(0b11, command::LOGICAL | LOWEST | u32::from(VECTOR));
        let pending = || lapic::has(lapic::register::IRR, VECTOR);
        soon(machine, "an interrupt", || {
            pending() || here + taken() == round
        })?;
        if pending() {
            interrupted(VECTOR)?;
            lapic::end_of_interrupt();
            here += 1;
        }
        equal("interrupts", here + taken(), round)?;
    }
    Ok(())
}

fn nmi_asleep(machine: &Machine, id: u32) -> Verdict {
    for round in 1..=10 {
        soon(machine, "waiting", || WAITING.load(Ordering::Relaxed) == 1)?;
        lapic::send(id, command::NMI | command::ASSERT);
        soon(machine, "the NMI", || nmis() == round)?;
    }
    ordered(machine, NOTHING, id)
}

fn nmi_busy(machine: &Machine, id: u32) -> Verdict {
    for round in 1..=10 {
        ANSWER.store(0, Ordering::Relaxed);
        order(BUSY, id);
        soon(machine, "being busy", || {
            ANSWER.load(Ordering::Relaxed) == 1
        })?;
        ORDER.store(NOTHING, Ordering::Release);
        // This one waits.
        lapic::send(id, VECTOR.into());
        lapic::send(id, command::NMI | command::ASSERT);
        soon(machine, "the NMI", || nmis() == round)?;
        soon(machine, "the interrupt", || taken() == 2 * round)?;
    }
    Ok(())
}

/// A device's interrupt goes to the CPU that its entry names.
fn from_ioapic(machine: &Machine, id: u32) -> Verdict {
    let (Some(controller), Some(input)) = (machine.io_apic(), machine.io_apic_input(pit::IRQ))
    else {
        return guests::report::skip("no I/O APIC");
    };
    ORDER.store(NOTHING, Ordering::Release);
    for round in 1..=5 {
        controller.set_entry(input, to(id) | u64::from(VECTOR));
        Channel::Zero.start(0, 1000);
        soon(machine, "the other's", || taken() == round)?;
        undisturbed()?;
        controller.set_entry(input, MASKED);
    }
    Ok(())
}

/// What one CPU writes to its registers is not the other's.
fn own_registers(machine: &Machine, id: u32) -> Verdict {
    const VALUES: [u64; 2] = [0x1234_5678, 0xffff_8000_0000_4321];
    // SAFETY: this program does not use it.
    unsafe { msr::write(msr::KERNEL_GS_BASE, VALUES[0]) }
    ANSWER.store(VALUES[1], Ordering::Relaxed);
    let verdict = ordered(machine, REGISTER, id);
    let here = msr::read(msr::KERNEL_GS_BASE);
    let verdict = verdict.and_then(|()| ordered(machine, REGISTER, id));
    // SAFETY: as before.
    unsafe { msr::write(msr::KERNEL_GS_BASE, 0) }
    verdict?;
    equal("here", Hex(here as usize), Hex(VALUES[0] as usize))?;
    let there = ANSWER.load(Ordering::Relaxed);
    equal("there", Hex(there as usize), Hex(VALUES[1] as usize))
}

/// Loads and stores between AL or EAX and where RDI points: their first bytes.
const OPCODES: [u8; 4] = [0x8b, 0x88, 0x8a, 0x89];

/// An instruction that leaves the CPU is looked at by whoever completes it: while another CPU makes
/// it a different one, it is done as one of the two.
fn code_changes(machine: &Machine, id: u32) -> Verdict {
    const INT3: u8 = 0xcc;
    let _paging = Paging::on();
    // The second byte says RDI, and the register of the same number as RAX.
    paging::stage(0, &[OPCODES[0], 0x07, INT3]);
    let code = Code {
        start: STAGE,
        end: STAGE + 2,
    };
    // Writing the id changes nothing.
    let regs = Regs::pattern().with(RDI, lapic::BASE + lapic::register::ID as usize);
    let count = taken();
    order(CHANGE, id);
    soon(machine, "the first change", || taken() > count || changed())?;
    while taken() == count {
        let after = completes(&code, regs)?;
        same_registers(&after, &regs.with(RAX, after[RAX]))?;
    }
    Ok(())
}

/// Whether the other CPU has begun.
fn changed() -> bool {
    paging::staged() != OPCODES[0]
}

/// A CPU can be stopped and started as often as one likes.
fn stop_and_start(machine: &Machine) -> Verdict {
    let id = second_cpu(machine)?;
    let timer: Timer = machine.timer();
    for round in 1..=20 {
        case("start", launch(machine, id))?;
        let answers = ordered(machine, NOTHING, id);
        holds(
            format_args!("round {round}"),
            answers.is_ok(),
            Words("silence"),
            Words("an answer"),
        )?;
        CpuStart::init(&timer, id);
    }
    Ok(())
}
