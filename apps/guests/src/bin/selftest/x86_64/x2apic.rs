//! The local APIC by MSR.

use guests::arch::context::reg::{RAX, RCX, RDX};
use guests::arch::context::{Context, Regs, exception};
use guests::arch::cpu::Feature;
use guests::arch::lapic::register::{
    DFR, EOI, ESR, ICR, ICR_HIGH, ID, INITIAL_COUNT, IRR, LDR, PPR, SVR, TPR, VERSION,
};
use guests::arch::lapic::{self, BASE_ENABLE, BASE_X2APIC, Mode, command, msr_of, read, write};
use guests::arch::{Machine, Timer, msr};
use guests::code;
use guests::report::{Hex, Verdict, case, equal, skip};

use super::Check;
use super::expect::{changes_nothing, faults, interrupted};
use super::lapic::{raise, taken};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("x2apic.modes", modes),
    Check::new("x2apic.identity", |machine| on(|| identity(machine))),
    Check::new("x2apic.priorities", |_| on(priorities)),
    Check::new("x2apic.self", |machine| on(|| to_self(machine))),
    Check::new("x2apic.by_destination", |machine| {
        on(|| by_destination(machine))
    }),
    Check::new("x2apic.timer", |machine| on(|| timer(machine))),
    Check::new("x2apic.nmi", |machine| on(|| nmi(machine))),
    Check::as_guest("x2apic.absent", "QEMU ignores some", |_| on(absent)),
    Check::as_guest("x2apic.off", "QEMU answers", off),
];

/// Registers for a write of `value` to `IA32_APIC_BASE`.
fn base(flags: u64) -> Regs {
    let value = msr::read(msr::APIC_BASE) & !(BASE_ENABLE | BASE_X2APIC) | flags;
    with(msr::APIC_BASE, value)
}

fn with(msr: u32, value: u64) -> Regs {
    Regs::pattern()
        .with(RCX, msr as usize)
        .with(RAX, (value & 0xffff_ffff) as usize)
        .with(RDX, (value >> 32) as usize)
}

fn refused(name: &str, regs: Regs) -> Verdict {
    let write = Context::new(&code!("wrmsr"), regs);
    case(name, faults(write, exception::PROTECTION, 0))
}

/// Runs a check in x2APIC mode; afterwards the APIC is what it was.
fn on(check: impl FnOnce() -> Verdict) -> Verdict {
    if !Feature::X2apic.is_there() || lapic::mode() == Mode::Off {
        return skip("no x2APIC");
    }
    let write = code!("wrmsr");
    changes_nothing(&write, base(BASE_ENABLE | BASE_X2APIC))?;
    lapic::enable();
    let verdict = check();
    // There is no way back but by switching it off.
    changes_nothing(&write, base(0))?;
    changes_nothing(&write, base(BASE_ENABLE))?;
    if lapic::mode() == Mode::Off {
        return skip("an APIC that is off stays off");
    }
    lapic::enable();
    verdict
}

/// Which mode follows which.
fn modes(_: &Machine) -> Verdict {
    if !Feature::X2apic.is_there() {
        return refused("x2APIC", base(BASE_ENABLE | BASE_X2APIC));
    }
    refused("without APIC", base(BASE_X2APIC))?;
    on(|| refused("back", base(BASE_ENABLE)))?;
    equal("mode", lapic::mode(), Mode::Xapic)
}

/// The id is whole, and the logical one follows from it.
fn identity(machine: &Machine) -> Verdict {
    equal("id", read(ID), machine.apic_id)?;
    let logical = (machine.apic_id >> 4) << 16 | 1 << (machine.apic_id & 0xf);
    equal("LDR", Hex(read(LDR) as usize), Hex(logical as usize))?;
    equal("version", Hex((read(VERSION) & 0xf0) as usize), Hex(0x10))
}

fn priorities() -> Verdict {
    for task in [0x35, 0xf0, 0] {
        write(TPR, task);
        equal("PPR", read(PPR), task)?;
    }
    Ok(())
}

/// By the register that is there for that, and as everywhere.
fn to_self(machine: &Machine) -> Verdict {
    const SELF_IPI: u32 = 0x3f0;
    for vector in [0x20, 0x7f, 0xfe] {
        write(SELF_IPI, vector.into());
        case("self", taken(machine, vector))?;
        raise(vector);
        case("ICR", taken(machine, vector))?;
    }
    Ok(())
}

fn by_destination(machine: &Machine) -> Verdict {
    for (name, destination, mode) in [
        ("physical", machine.apic_id, 0),
        ("logical", read(LDR), command::LOGICAL),
        ("all", u32::MAX, 0),
    ] {
        lapic::send(destination, mode | 0x73);
        case(name, taken(machine, 0x73))?;
    }
    let sent = msr::read(msr_of(ICR));
    equal("ICR", Hex(sent as usize & 0xffff_ffff), Hex(0x73))
}

fn timer(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    for n in 0..20 {
        let deadline = timer.now() + timer.ticks_per_second() / 10_000 * n;
        timer.sleep_until(deadline);
    }
    timer.stop();
    Ok(())
}

fn nmi(machine: &Machine) -> Verdict {
    let code = code!("wrmsr", "2: loop 2b");
    let value = u64::from(machine.apic_id) << 32 | u64::from(command::NMI | command::ASSERT);
    let trap = Context::new(&code, with(msr_of(ICR), value)).run();
    equal("vector", Hex(trap.vector), Hex(exception::NMI))
}

/// What an x2APIC does not have, and bits that it reserves.
fn absent() -> Verdict {
    for register in [DFR, ICR_HIGH, 0x40, 0x400, 0xff0] {
        let code = code!("rdmsr");
        let context = Context::new(&code, with(msr_of(register), 0));
        let what = case("read", faults(context, exception::PROTECTION, 0));
        what?;
    }
    let read_only = [(ID, 0), (VERSION, 0), (PPR, 0), (IRR, 0)];
    let reserved = [
        (EOI, 1),
        (ESR, 1),
        (TPR, 0x100),
        (INITIAL_COUNT, 1 << 32),
        (SVR, 1 << 31),
    ];
    for (register, value) in read_only.into_iter().chain(reserved) {
        refused("write", with(msr_of(register), value))?;
    }
    raise(Timer::VECTOR);
    interrupted(Timer::VECTOR)?;
    lapic::end_of_interrupt();
    Ok(())
}

/// In xAPIC mode those MSRs are not there.
fn off(_: &Machine) -> Verdict {
    for (name, code) in super::expect::each!["rdmsr", "wrmsr"] {
        let context = Context::new(&code, with(msr_of(TPR), 0));
        case(name, faults(context, exception::PROTECTION, 0))?;
    }
    Ok(())
}
