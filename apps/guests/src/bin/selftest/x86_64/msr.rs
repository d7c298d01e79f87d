//! Model-specific registers: those that are there keep what is written, and the others fault.

use guests::arch::Machine;
use guests::arch::context::reg::{RAX, RCX, RDX};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::cpu::Feature;
use guests::arch::lapic::{BASE, BASE_ENABLE, BASE_X2APIC};
use guests::arch::msr;
use guests::code;
use guests::report::{Hex, Verdict, case, equal, one_of};

use super::Check;
use super::expect::{changes_nothing, completes, faults, same_registers};
use super::registers::leave_often;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("msr.registers", registers),
    Check::new("msr.apic_base", apic_base),
    Check::new("msr.efer", efer),
    Check::as_guest("msr.efer_reserved", "QEMU ignores it", efer_reserved),
    Check::new("msr.tsc_deadline", tsc_deadline),
    Check::new("msr.kept", kept),
    Check::new("msr.pat", pat),
    Check::as_guest("msr.pat_reserved", "QEMU ignores it", pat_reserved),
    Check::as_guest("msr.unknown", "QEMU has every MSR", unknown),
    Check::as_guest("msr.virtualization", "a CPU may have it", virtualization),
    Check::new("msr.every_read", every_read),
    Check::new("msr.every_write", every_write),
];

fn read() -> Code {
    code!("rdmsr")
}

fn write() -> Code {
    code!("wrmsr")
}

/// The registers that a write of `value` to `msr` takes.
fn with(msr: u32, value: u64) -> Regs {
    Regs::pattern()
        .with(RCX, msr as usize)
        .with(RAX, (value & 0xffff_ffff) as usize)
        .with(RDX, (value >> 32) as usize)
}

fn forbidden(code: &Code, regs: Regs) -> Verdict {
    faults(Context::new(code, regs), exception::PROTECTION, 0)
}

/// A read writes two registers, with their upper halves zero; the upper half of RCX is nothing.
fn registers(_: &Machine) -> Verdict {
    let value = msr::read(msr::APIC_BASE);
    // QEMU looks up in the map of intercepts with bits 32 and 33 too.
    let upper = 0xdead_beec << 32;
    for rcx in [msr::APIC_BASE as usize, upper | msr::APIC_BASE as usize] {
        let regs = Regs::pattern().with(RCX, rcx);
        let after = completes(&read(), regs)?;
        same_registers(&after, &with(msr::APIC_BASE, value).with(RCX, rcx))?;
        let write_back = with(msr::APIC_BASE, value).with(RCX, rcx);
        let dirty = write_back
            .with(RAX, upper | write_back[RAX])
            .with(RDX, upper | write_back[RDX]);
        changes_nothing(&write(), dirty)?;
    }
    Ok(())
}

/// The boot CPU's APIC is on, in the usual place.
fn apic_base(_: &Machine) -> Verdict {
    const BOOT: u64 = 1 << 8;
    let value = msr::read(msr::APIC_BASE) & !BASE_X2APIC;
    equal(
        "APIC_BASE",
        Hex(value as usize),
        Hex(BASE | (BASE_ENABLE | BOOT) as usize),
    )
}

fn efer(_: &Machine) -> Verdict {
    use msr::{EFER, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE};
    let before = msr::read(EFER);
    let bits = EFER_LMA | EFER_LME | EFER_NXE;
    equal("EFER", Hex((before & bits) as usize), Hex(bits as usize))?;
    changes_nothing(&write(), with(EFER, before ^ EFER_SCE))?;
    let toggled = msr::read(EFER);
    changes_nothing(&write(), with(EFER, before))?;
    equal(
        "EFER.SCE",
        Hex(toggled as usize),
        Hex((before ^ EFER_SCE) as usize),
    )
}

/// Reserved bits, what is not there, and leaving long mode by the back door.
fn efer_reserved(_: &Machine) -> Verdict {
    let before = msr::read(msr::EFER);
    for (name, value) in [
        ("bit 1", before | 1 << 1),
        ("bit 63", before | 1 << 63),
        ("SVME", before | msr::EFER_SVME),
        ("LME", before & !msr::EFER_LME),
    ] {
        case(name, forbidden(&write(), with(msr::EFER, value)))?;
        equal(
            name,
            Hex(msr::read(msr::EFER) as usize),
            Hex(before as usize),
        )?;
    }
    Ok(())
}

/// It is there with its feature, and reads zero while the timer waits for a count.
fn tsc_deadline(machine: &Machine) -> Verdict {
    machine.timer().stop();
    let regs = Regs::pattern().with(RCX, msr::TSC_DEADLINE as usize);
    if Feature::TscDeadline.is_there() {
        let after = completes(&read(), regs)?;
        return same_registers(&after, &regs.with(RAX, 0).with(RDX, 0));
    }
    Ok(())
}

/// A CPU's own registers keep what is written, whatever it does in between.
fn kept(machine: &Machine) -> Verdict {
    use msr::{
        CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE, LSTAR, SFMASK, STAR, SYSENTER_CS, SYSENTER_EIP,
        SYSENTER_ESP, TSC_AUX,
    };
    const ADDRESS: u64 = 0xffff_8765_4321_0fed;
    let values = [
        (FS_BASE, ADDRESS),
        (GS_BASE, ADDRESS + 1),
        (KERNEL_GS_BASE, ADDRESS + 2),
        (STAR, 0x0018_0008_1234_5678),
        (LSTAR, ADDRESS + 3),
        (CSTAR, ADDRESS + 4),
        (SFMASK, 0x4_7700),
        (SYSENTER_CS, 8),
        (SYSENTER_ESP, ADDRESS + 5),
        (SYSENTER_EIP, ADDRESS + 6),
        (TSC_AUX, 0x1234),
    ];
    let values = values
        .iter()
        .filter(|(msr, _)| *msr != TSC_AUX || Feature::Rdtscp.is_there());
    for &(msr, value) in values.clone() {
        case("written", changes_nothing(&write(), with(msr, value)))?;
    }
    leave_often(machine);
    let mut verdict = Ok(());
    for &(msr, value) in values {
        let got = Hex(msr::read(msr) as usize);
        verdict = verdict.and(equal(
            format_args!("msr {msr:#x}"),
            got,
            Hex(value as usize),
        ));
        changes_nothing(&write(), with(msr, 0))?;
    }
    verdict
}

fn pat(_: &Machine) -> Verdict {
    let before = msr::read(msr::PAT);
    const VALUE: u64 = 0x0001_0405_0607_0406;
    changes_nothing(&write(), with(msr::PAT, VALUE & !7 | before & 7))?;
    let read = msr::read(msr::PAT);
    changes_nothing(&write(), with(msr::PAT, before))?;
    equal(
        "PAT",
        Hex(read as usize),
        Hex((VALUE & !7 | before & 7) as usize),
    )
}

/// Memory types 2 and 3 are none.
fn pat_reserved(_: &Machine) -> Verdict {
    let before = msr::read(msr::PAT);
    for kind in [2, 3, 8, 0x80] {
        let value = before & !(0xff << 56) | kind << 56;
        case("PAT", forbidden(&write(), with(msr::PAT, value)))?;
    }
    Ok(())
}

fn unknown(_: &Machine) -> Verdict {
    for number in [
        0x4b56_4d00,
        0x1fff,
        0xc000_1fff,
        0xc001_1fff,
        0xffff_ffff,
        0x1234_5678,
    ] {
        for (name, code) in [("read", read()), ("write", write())] {
            let verdict = forbidden(&code, with(number, 0));
            case(name, verdict)?;
        }
    }
    Ok(())
}

/// The switches of virtualization are not the guest's.
fn virtualization(_: &Machine) -> Verdict {
    const VMX_BASIC: u32 = 0x480;
    const VMX_PROCBASED: u32 = 0x482;
    const VM_CR: u32 = 0xc001_0114;
    const VM_HSAVE_PA: u32 = 0xc001_0117;
    for number in [VMX_BASIC, VMX_PROCBASED, VM_HSAVE_PA] {
        case("read", forbidden(&read(), with(number, 0)))?;
    }
    for number in [VM_CR, VM_HSAVE_PA] {
        case("write", forbidden(&write(), with(number, 0x1000)))?;
    }
    Ok(())
}

/// The ranges in which the vendors have their registers.
fn numbers() -> impl Iterator<Item = u32> {
    [0, 0xc000_0000, 0xc001_0000]
        .into_iter()
        .flat_map(|first| first..first + 0x1400)
}

/// A read of any register gives a value or a fault, and nothing else happens.
fn every_read(_: &Machine) -> Verdict {
    for number in numbers() {
        let mut context = Context::new(&read(), with(number, 0));
        let trap = context.run();
        let vectors = [exception::BREAKPOINT, exception::PROTECTION];
        let what = format_args!("vector of msr {number:#x}");
        one_of(what, Hex(trap.vector), vectors.into_iter().map(Hex))?;
        if trap.vector == exception::PROTECTION {
            let unchanged = same_registers(&context.regs, &with(number, 0));
            case("fault", unchanged)?;
        }
    }
    Ok(())
}

/// So does a write of what is there already.
fn every_write(_: &Machine) -> Verdict {
    for number in numbers() {
        let mut context = Context::new(&read(), with(number, 0));
        // Time would go back.
        if number == msr::TSC || context.run().vector == exception::PROTECTION {
            continue;
        }
        let regs = context.regs;
        let trap = Context::new(&write(), regs).run();
        let vectors = [exception::BREAKPOINT, exception::PROTECTION];
        let what = format_args!("vector of msr {number:#x}");
        one_of(what, Hex(trap.vector), vectors.into_iter().map(Hex))?;
    }
    Ok(())
}
