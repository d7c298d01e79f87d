//! Control and debug registers: they keep what is written, and refuse what cannot be.

use guests::arch::context::reg::{RAX, RBX, RCX};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::cpu::{CR0_TS, CR4_DE, CR4_PAE, Feature};
use guests::arch::lapic::register;
use guests::arch::{Machine, lapic};
use guests::report::{Hex, Verdict, case, equal};
use guests::{code, read_cr, write_cr};

use super::Check;
use super::expect::{changes, changes_nothing, completes, each, faults, same_registers, undefined};
use super::registers::leave_often;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("cr.cr0_reads", cr0_reads),
    Check::new("cr.task_switched", task_switched),
    Check::new("cr.lmsw", lmsw),
    Check::as_guest("cr.cr0_invalid", "QEMU takes some", cr0_invalid),
    Check::new("cr.cr2", cr2),
    Check::new("cr.cr3", cr3),
    Check::new("cr.cr4_bits", cr4_bits),
    Check::as_guest("cr.cr4_invalid", "QEMU takes some", cr4_invalid),
    Check::new("cr.cr8", cr8),
    Check::as_guest("cr.cr8_invalid", "QEMU takes all", cr8_invalid),
    Check::new("cr.absent", absent),
    Check::new("cr.debug_registers", debug_registers),
    Check::new("cr.debug_alias", debug_alias),
    Check::as_guest("cr.debug_invalid", "QEMU takes some", debug_invalid),
    Check::new("cr.xsetbv", xsetbv),
    Check::new("cr.xsetbv_off", xsetbv_off),
    Check::new("cr.caches", caches),
    Check::new("cr.monitor", monitor),
];

/// PG, WP, NE, ET, MP, PE.
const CR0: usize = 0x8001_0033;

fn cr0_reads(_: &Machine) -> Verdict {
    changes(&code!("mov rax, cr0"), Regs::pattern(), RAX, CR0)?;
    changes(&code!("mov r15, cr0"), Regs::pattern(), 15, CR0)?;
    let low = Regs::pattern()[RAX] & !0xffff_ffff | CR0;
    let smsw = completes(&code!("smsw eax"), Regs::pattern())?;
    equal("smsw", Hex(smsw[RAX] & 0xffff), Hex(low & 0xffff))
}

/// CR0.TS by both its instructions.
fn task_switched(_: &Machine) -> Verdict {
    changes_nothing(
        &code!("mov cr0, rax"),
        Regs::pattern().with(RAX, CR0 | CR0_TS),
    )?;
    let set = read_cr!("cr0");
    let wait = Context::new(&code!("fwait"), Regs::pattern());
    let fault = faults(wait, exception::NO_DEVICE, 0);
    changes_nothing(&code!("clts"), Regs::pattern())?;
    equal("set", Hex(set), Hex(CR0 | CR0_TS))?;
    fault?;
    equal("cleared", Hex(read_cr!("cr0")), Hex(CR0))?;
    changes_nothing(&code!("fwait"), Regs::pattern())
}

/// It sets four bits, and cannot clear PE.
fn lmsw(_: &Machine) -> Verdict {
    let low = 0xffff_fff0 | CR0_TS | 0b10;
    let places = [0, low];
    let from_memory = Regs::pattern()
        .with(RBX, (&raw const places).addr())
        .with(RCX, 1);
    for (name, write, regs) in [
        ("ax", code!("lmsw ax"), Regs::pattern().with(RAX, low)),
        ("memory", code!("lmsw word ptr [rbx + 8*rcx]"), from_memory),
    ] {
        case(name, changes_nothing(&write, regs))?;
        let set = read_cr!("cr0");
        changes_nothing(&code!("mov cr0, rax"), Regs::pattern().with(RAX, CR0))?;
        case(name, equal("cr0", Hex(set), Hex(CR0 | CR0_TS)))?;
    }
    Ok(())
}

/// The write is refused, and the register is as before.
fn refused(name: &str, write: &Code, value: usize, read: fn() -> usize) -> Verdict {
    let before = read();
    let context = Context::new(write, Regs::pattern().with(RAX, value));
    case(name, faults(context, exception::PROTECTION, 0))?;
    case(name, equal("afterwards", Hex(read()), Hex(before)))
}

fn cr0_invalid(_: &Machine) -> Verdict {
    let write = code!("mov cr0, rax");
    const NW: usize = 1 << 29;
    const PG: usize = 1 << 31;
    for (name, value) in [
        ("PG without PE", CR0 & !1),
        ("NW without CD", CR0 | NW),
        ("no PG in 64-bit mode", CR0 & !PG),
        ("bit 32", CR0 | 1 << 32),
        ("bit 63", CR0 | 1 << 63),
    ] {
        refused(name, &write, value, || read_cr!("cr0"))?;
    }
    Ok(())
}

/// CR2 holds any value, across whatever leaves the CPU.
fn cr2(machine: &Machine) -> Verdict {
    let value = Regs::pattern()[RAX];
    changes_nothing(&code!("mov cr2, rax"), Regs::pattern())?;
    leave_often(machine);
    changes(&code!("mov rbx, cr2"), Regs::pattern(), RBX, value)
}

fn cr3(machine: &Machine) -> Verdict {
    let value = read_cr!("cr3");
    let write = code!("mov cr3, rax", "mov rbx, cr3");
    let regs = Regs::pattern().with(RAX, value);
    changes(&write, regs, RBX, value)?;
    leave_often(machine);
    equal("cr3", Hex(read_cr!("cr3")), Hex(value))
}

/// Bits that every CPU has can be set and cleared.
fn cr4_bits(_: &Machine) -> Verdict {
    let before = read_cr!("cr4");
    const TSD: usize = 1 << 2;
    const PGE: usize = 1 << 7;
    const PCE: usize = 1 << 8;
    for bit in [TSD, CR4_DE, PGE, PCE] {
        let code = code!(
            "mov cr4, rax",
            "mov rbx, cr4",
            "mov cr4, rcx",
            "mov rdx, cr4"
        );
        let regs = Regs::ZERO.with(RAX, before ^ bit).with(1, before);
        let after = completes(&code, regs)?;
        let expected = regs.with(RBX, before ^ bit).with(2, before);
        case("cr4", same_registers(&after, &expected))?;
    }
    Ok(())
}

fn cr4_invalid(_: &Machine) -> Verdict {
    let before = read_cr!("cr4");
    let write = code!("mov cr4, rax");
    const VMXE: usize = 1 << 13;
    const SMXE: usize = 1 << 14;
    for (name, value) in [
        ("no PAE in 64-bit mode", before & !CR4_PAE),
        ("VMXE", before | VMXE),
        ("SMXE", before | SMXE),
        ("bit 15", before | 1 << 15),
        ("bit 31", before | 1 << 31),
        ("bit 63", before | 1 << 63),
    ] {
        refused(name, &write, value, || read_cr!("cr4"))?;
    }
    Ok(())
}

/// CR8 is the upper half of the APIC's task priority.
fn cr8(_: &Machine) -> Verdict {
    let (write, read) = (code!("mov cr8, rax"), code!("mov rbx, cr8"));
    let verdict = (|| {
        for value in 0..16 {
            let regs = Regs::pattern().with(RAX, value);
            changes_nothing(&write, regs)?;
            changes(&read, Regs::pattern(), RBX, value)?;
            let tpr = lapic::read(register::TPR) as usize;
            equal("TPR", Hex(tpr), Hex(value << 4))?;
        }
        lapic::write(register::TPR, 0x5a);
        changes(&read, Regs::pattern(), RBX, 5)
    })();
    lapic::write(register::TPR, 0);
    verdict
}

fn cr8_invalid(_: &Machine) -> Verdict {
    let write = code!("mov cr8, rax");
    for value in [16, 1 << 32, 1 << 63] {
        refused("cr8", &write, value, || read_cr!("cr8"))?;
    }
    Ok(())
}

fn absent(_: &Machine) -> Verdict {
    for (name, code) in each![
        ".byte 0x0f, 0x20, 0xc8",       // mov rax, cr1
        ".byte 0x0f, 0x22, 0xe8",       // mov cr5, rax
        ".byte 0x0f, 0x20, 0xf8",       // mov rax, cr7
        ".byte 0x44, 0x0f, 0x22, 0xc8", // mov cr9, rax
        ".byte 0x44, 0x0f, 0x20, 0xf8", // mov rax, cr15
    ] {
        case(name, undefined(&code))?;
    }
    Ok(())
}

fn debug_registers(machine: &Machine) -> Verdict {
    const NOTHING_ENABLED: usize = 1 << 10;
    let write = code!(
        "mov dr0, rax",
        "mov dr1, rbx",
        "mov dr2, rcx",
        "mov dr3, rdx"
    );
    let read = code!(
        "mov rax, dr0",
        "mov rbx, dr1",
        "mov rcx, dr2",
        "mov rdx, dr3"
    );
    changes_nothing(&write, Regs::pattern())?;
    leave_often(machine);
    same_registers(
        &completes(&read, Regs::ZERO.with(4, Regs::pattern()[4]))?,
        &{
            let pattern = Regs::pattern();
            (0..4)
                .fold(Regs::ZERO, |regs, n| regs.with(n, pattern[n]))
                .with(4, pattern[4])
        },
    )?;
    completes(&write, Regs::ZERO)?;
    equal("dr7", Hex(read_cr!("dr7")), Hex(NOTHING_ENABLED))
}

/// DR4 is DR6 as long as CR4.DE does not say otherwise.
fn debug_alias(_: &Machine) -> Verdict {
    let before = read_cr!("cr4");
    let read = code!(".byte 0x0f, 0x21, 0xe0"); // mov rax, dr4
    changes(&read, Regs::pattern(), RAX, read_cr!("dr6"))?;
    // SAFETY: concerns that instruction only.
    unsafe { write_cr!("cr4", before | CR4_DE) }
    let verdict = undefined(&read);
    // SAFETY: as it was.
    unsafe { write_cr!("cr4", before) }
    verdict
}

fn debug_invalid(_: &Machine) -> Verdict {
    refused("dr6", &code!("mov dr6, rax"), 1 << 32, || read_cr!("dr6"))?;
    refused("dr7", &code!("mov dr7, rax"), 1 << 63 | 1 << 10, || {
        read_cr!("dr7")
    })
}

/// Combinations of XCR0 that cannot be, and registers that are not there.
fn xsetbv(_: &Machine) -> Verdict {
    super::vector::with_xsave(|| {
        let write = code!("xsetbv");
        for (name, register, value) in [
            ("no x87", 0, 0),
            ("SSE without x87", 0, 2),
            ("AVX without SSE", 0, 5),
            ("bit 63", 0, 1 << 63 | 1),
            ("bit 62", 0, 1 << 62 | 3),
            ("half of MPX", 0, 0xb),
            ("half of AVX-512", 0, 0x27),
            ("XCR1", 1, 1),
            ("XCR0xffffffff", 0xffff_ffff, 1),
        ] {
            let regs = Regs::pattern()
                .with(1, register)
                .with(RAX, value & 0xffff_ffff)
                .with(2, value >> 32);
            let context = Context::new(&write, regs);
            case(name, faults(context, exception::PROTECTION, 0))?;
        }
        for value in [1, 3] {
            let regs = Regs::pattern().with(1, 0).with(RAX, value).with(2, 0);
            changes_nothing(&write, regs)?;
            let read = completes(&code!("xgetbv"), Regs::pattern().with(1, 0))?;
            equal("XCR0", Hex(read[RAX]), Hex(value))?;
        }
        Ok(())
    })
}

fn xsetbv_off(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(1, 0).with(RAX, 1).with(2, 0);
    for (name, code) in each!["xsetbv", "xgetbv"] {
        let context = Context::new(&code, regs);
        case(name, faults(context, exception::INVALID_OPCODE, 0))?;
    }
    Ok(())
}

/// What concerns caches and translations is done, and nothing else.
fn caches(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RAX, 0x1000);
    for (name, code) in each!["wbinvd", "invlpg [rax]", "clflush [rax]", "mfence"] {
        case(name, changes_nothing(&code, regs))?;
    }
    Ok(())
}

/// MONITOR and MWAIT, where they are not there.
fn monitor(_: &Machine) -> Verdict {
    if Feature::Monitor.is_there() {
        return guests::report::skip("MONITOR is there");
    }
    let regs = Regs::pattern().with(RAX, 0x1000).with(1, 0).with(2, 0);
    for (name, code) in each!["monitor", "mwait"] {
        let context = Context::new(&code, regs);
        case(name, faults(context, exception::INVALID_OPCODE, 0))?;
    }
    Ok(())
}
