//! The local APIC by memory: its registers, and interrupts that the CPU sends itself.

use guests::arch::lapic::register::{
    DFR, ESR, ICR, ICR_HIGH, ID, INITIAL_COUNT, IRR, ISR, LDR, LVT_ERROR, LVT_LINT0, LVT_LINT1,
    LVT_TIMER, PPR, SVR, TPR, VERSION,
};
use guests::arch::lapic::{self, MASKED, command, has, read, write};
use guests::arch::{Machine, Timer};
use guests::report::{Hex, Verdict, Words, case, equal, holds};
use guests::write_cr;

use super::Check;
use super::expect::{interrupted, undisturbed};
use crate::soon::soon;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("lapic.identity", identity),
    Check::new("lapic.destinations", destinations),
    Check::new("lapic.priorities", priorities),
    Check::new("lapic.task_priority", task_priority),
    Check::new("lapic.command", sent_command),
    Check::new("lapic.local_vectors", local_vectors),
    Check::as_guest(
        "lapic.software_disabled",
        "QEMU's does not",
        software_disabled,
    ),
    Check::new("lapic.every_vector", every_vector),
    Check::new("lapic.by_destination", by_destination),
    Check::new("lapic.to_nobody", to_nobody),
    Check::new("lapic.pending_once", pending_once),
    Check::new("lapic.nesting", nesting),
    Check::new("lapic.end_of_nothing", end_of_nothing),
    Check::new("lapic.masked", masked),
    Check::new("lapic.error_status", error_status),
];

fn hex(value: u32) -> Hex {
    Hex(value as usize)
}

fn identity(machine: &Machine) -> Verdict {
    equal("id", read(ID) >> 24, machine.apic_id)?;
    let version = read(VERSION);
    let integrated = (0x10..0x20).contains(&(version & 0xff)) && version >> 16 & 0xff >= 3;
    holds(
        "version",
        integrated,
        hex(version),
        Words("an integrated APIC"),
    )
}

/// Logical id and destination format keep the bits that they have.
fn destinations(_: &Machine) -> Verdict {
    for id in [0x01_u32, 0x80, 0xff, 0] {
        write(LDR, id << 24);
        equal("LDR", hex(read(LDR)), hex(id << 24))?;
    }
    for model in [0x0fff_ffff, 0xffff_ffff] {
        write(DFR, model);
        equal("DFR", hex(read(DFR)), hex(model))?;
    }
    Ok(())
}

/// The processor's priority is that of the task, or of what is in service.
fn priorities(_: &Machine) -> Verdict {
    for task in [0, 0x10, 0x35, 0xf0, 0xff] {
        write(TPR, task);
        equal("TPR", hex(read(TPR)), hex(task))?;
        equal("PPR", hex(read(PPR)), hex(task))?;
    }
    write(TPR, 0);
    raise(0x65);
    interrupted(0x65)?;
    for (task, expected) in [(0, 0x60), (0x50, 0x60), (0x70, 0x70)] {
        write(TPR, task);
        equal("PPR in service", hex(read(PPR)), hex(expected))?;
    }
    write(TPR, 0);
    lapic::end_of_interrupt();
    equal("PPR at the end", hex(read(PPR)), hex(0))
}

/// The register and CR8 are one: they hold back classes up to theirs, and let go.
fn task_priority(machine: &Machine) -> Verdict {
    const VECTOR: u8 = 0x75;
    for held in [0x70, 0x7f, 0x80] {
        write(TPR, held);
        raise(VECTOR);
        soon(machine, "IRR", || has(IRR, VECTOR))?;
        case("held back", undisturbed())?;
        // SAFETY: interrupts are off in Rust code.
        unsafe { write_cr!("cr8", 6_usize) }
        equal("TPR", hex(read(TPR)), hex(0x60))?;
        case("by CR8", taken(machine, VECTOR))?;
        write(TPR, held);
        raise(VECTOR);
        case("held back again", undisturbed())?;
        write(TPR, 0x6f);
        case("by the register", taken(machine, VECTOR))?;
        write(TPR, 0);
    }
    Ok(())
}

/// What was sent last can be read, whoever it was for; a vector below 16 is sent to nobody.
fn sent_command(_: &Machine) -> Verdict {
    for (destination, sent) in [(0xfe, 0x72_u32), (0x55, command::LOGICAL | 0x73)] {
        lapic::send(destination, sent);
        equal("ICR", hex(read(ICR)), hex(sent))?;
        equal(
            "ICR, upper half",
            hex(read(ICR_HIGH)),
            hex(destination << 24),
        )?;
    }
    write(ESR, 0);
    raise(5);
    write(ESR, 0);
    equal("ESR", hex(read(ESR) & 1 << 5), hex(1 << 5))?;
    write(ESR, 0);
    undisturbed()
}

fn local_vectors(_: &Machine) -> Verdict {
    for entry in [LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        for value in [MASKED | 0xa5, MASKED | 0x5a] {
            write(entry, value);
            let what = format_args!("register {entry:#x}");
            equal(what, hex(read(entry)), hex(value))?;
        }
    }
    Ok(())
}

/// Switched off by software, an APIC masks its own sources and keeps them masked.
fn software_disabled(_: &Machine) -> Verdict {
    write(LVT_TIMER, 0x50);
    write(SVR, 0xff);
    let masked = read(LVT_TIMER) & MASKED;
    write(LVT_TIMER, 0x50);
    let still = read(LVT_TIMER) & MASKED;
    write(SVR, 0x1ff);
    equal("masked", hex(masked), hex(MASKED))?;
    equal("kept", hex(still), hex(MASKED))
}

/// Sends an interrupt to this CPU.
pub(super) fn raise(vector: u8) {
    lapic::send(0, command::SELF | u32::from(vector));
}

/// The interrupt is pending, is taken, and can be ended.
pub(super) fn taken(machine: &Machine, vector: u8) -> Verdict {
    soon(machine, "IRR", || has(IRR, vector))?;
    equal("ISR before", has(ISR, vector), false)?;
    interrupted(vector)?;
    equal("IRR", has(IRR, vector), false)?;
    equal("ISR", has(ISR, vector), true)?;
    lapic::end_of_interrupt();
    equal("ISR at the end", has(ISR, vector), false)
}

fn every_vector(machine: &Machine) -> Verdict {
    // What is below is for exceptions.
    for vector in 0x20..=0xfe {
        raise(vector);
        taken(machine, vector)?;
    }
    Ok(())
}

/// By its physical id, by its logical id, and as one of all.
fn by_destination(machine: &Machine) -> Verdict {
    const VECTOR: u8 = 0x71;
    write(DFR, !0);
    write(LDR, 1 << 30);
    for (name, destination, mode) in [
        ("physical", machine.apic_id, 0),
        ("logical", 1 << 6, command::LOGICAL),
        ("logical, among others", 3 << 6, command::LOGICAL),
        ("lowest priority", 1 << 6, command::LOGICAL | 1 << 8),
        ("self", 0, command::SELF),
    ] {
        lapic::send(destination, mode | command::ASSERT | u32::from(VECTOR));
        case(name, taken(machine, VECTOR))?;
    }
    Ok(())
}

/// What is for others does not come here.
fn to_nobody(_: &Machine) -> Verdict {
    write(DFR, !0);
    write(LDR, 1 << 24);
    lapic::send(0xfe, 0x72);
    lapic::send(1 << 7, command::LOGICAL | 0x72);
    undisturbed()?;
    equal("IRR", has(IRR, 0x72), false)?;
    equal("ICR", hex(read(ICR) & command::PENDING), hex(0))
}

/// The same vector twice while it is pending is once; while it is in service, once more.
fn pending_once(machine: &Machine) -> Verdict {
    const VECTOR: u8 = 0x81;
    raise(VECTOR);
    raise(VECTOR);
    taken(machine, VECTOR)?;
    undisturbed()?;
    raise(VECTOR);
    interrupted(VECTOR)?;
    raise(VECTOR);
    undisturbed()?;
    lapic::end_of_interrupt();
    taken(machine, VECTOR)
}

/// A higher class interrupts a lower one, and only that.
fn nesting(machine: &Machine) -> Verdict {
    raise(0x52);
    interrupted(0x52)?;
    raise(0x5f);
    raise(0x42);
    case("same class", undisturbed())?;
    raise(0x61);
    raise(0x63);
    case("highest first", interrupted(0x63))?;
    equal(
        "both in service",
        (has(ISR, 0x63), has(ISR, 0x52)),
        (true, true),
    )?;
    lapic::end_of_interrupt();
    equal("the lower one still is", has(ISR, 0x52), true)?;
    case("next", taken(machine, 0x61))?;
    lapic::end_of_interrupt();
    case("then", taken(machine, 0x5f))?;
    case("last", taken(machine, 0x42))
}

fn end_of_nothing(_: &Machine) -> Verdict {
    for _ in 0..10 {
        lapic::end_of_interrupt();
    }
    undisturbed()?;
    equal("PPR", hex(read(PPR)), hex(0))
}

/// A masked timer runs and says nothing.
fn masked(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    write(LVT_TIMER, MASKED | u32::from(Timer::VECTOR));
    write(INITIAL_COUNT, 1000);
    timer.spin(timer.ticks_per_second() / 100);
    undisturbed()?;
    equal("IRR", has(IRR, Timer::VECTOR), false)?;
    write(LVT_TIMER, Timer::VECTOR.into());
    undisturbed()
}

/// Nothing is wrong, and a write is how to look.
fn error_status(_: &Machine) -> Verdict {
    write(ESR, 0);
    write(ESR, 0);
    equal("ESR", hex(read(ESR)), hex(0))
}
