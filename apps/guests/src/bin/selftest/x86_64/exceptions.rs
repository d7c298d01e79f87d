//! Exceptions of ring 0: every mistake comes back to the one who made it, with the vector, error
//! code, address and registers that the architecture prescribes, and execution goes on.

use guests::arch::context::reg::{RAX, RBX, RCX, RDI, RDX, RSI};
use guests::arch::context::{Context, Regs, exception};
use guests::arch::cpu::{FLAGS_CF, FLAGS_TF};
use guests::arch::lapic::register;
use guests::arch::segment::{self, Table, selector};
use guests::arch::{Machine, lapic, msr, uart};
use guests::report::{Hex, Verdict, case, equal};
use guests::{code, read_cr, write_cr};

use super::Check;
use super::expect::{
    NOT_CANONICAL, at_end, completes, each, faults, of_selector, page_faults, same_registers,
    traps_at, undefined,
};
use super::paging::{ABSENT, DATA, Paging, READ_ONLY, RESERVED};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("exceptions.breakpoint", breakpoint),
    Check::new("exceptions.undefined", undefined_opcodes),
    Check::new("exceptions.divide", divide),
    Check::new("exceptions.not_canonical", not_canonical),
    Check::new("exceptions.segment", bad_segment),
    Check::new("exceptions.page_fault", page_fault),
    Check::new("exceptions.fetch_fault", fetch_fault),
    Check::new("exceptions.double_fault", double_fault),
    Check::new("exceptions.flags", flags),
    Check::new("exceptions.single_step", single_step),
    Check::new("exceptions.step_over_exit", step_over_exit),
    Check::new("exceptions.hardware_breakpoint", hardware_breakpoint),
    Check::new("exceptions.watchpoint", watchpoint),
];

/// Of a page fault's error code.
const PRESENT: usize = 1 << 0;
const WRITE: usize = 1 << 1;
const RESERVED_BIT: usize = 1 << 3;
const FETCH: usize = 1 << 4;

fn supervisor(code: &guests::arch::context::Code) -> Context {
    Context::new(code, Regs::pattern())
}

fn breakpoint(_: &Machine) -> Verdict {
    for (name, code) in each!["int3", ".byte 0xcd, 3"] {
        let trapped = traps_at(supervisor(&code), code.end, exception::BREAKPOINT, 0);
        case(name, trapped)?;
    }
    Ok(())
}

fn undefined_opcodes(_: &Machine) -> Verdict {
    for (name, code) in each![
        "ud2",
        ".byte 0x0f, 0xb9, 0xc0", // ud1
        ".byte 0x06",             // push es
        ".byte 0x27",             // daa
        ".byte 0x0f, 0x0a",
        ".byte 0xf0, 0x89, 0xc8", // lock mov eax, ecx
    ] {
        case(name, undefined(&code))?;
    }
    Ok(())
}

fn divide(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RCX, 0);
    let by_zero = Context::new(&code!("div ecx"), regs);
    case("by zero", faults(by_zero, exception::DIVIDE, 0))?;
    let regs = Regs::pattern()
        .with(RAX, 1 << 63)
        .with(RDX, usize::MAX)
        .with(RCX, usize::MAX);
    let overflow = Context::new(&code!("idiv rcx"), regs);
    case("overflow", faults(overflow, exception::DIVIDE, 0))
}

fn not_canonical(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RBX, NOT_CANONICAL);
    for (name, code) in each![
        "mov rax, [rbx]",
        "mov [rbx], rax",
        "add byte ptr [rbx], 1",
        "lgdt [rbx]"
    ] {
        let context = Context::new(&code, regs);
        case(name, faults(context, exception::PROTECTION, 0))?;
    }
    Ok(())
}

fn bad_segment(_: &Machine) -> Verdict {
    for (name, code, segment, vector) in [
        (
            "beyond the table",
            code!("mov ds, ebx"),
            selector::BEYOND,
            exception::PROTECTION,
        ),
        (
            "absent",
            code!("mov ds, ebx"),
            selector::ABSENT,
            exception::NOT_PRESENT,
        ),
        (
            "absent stack",
            code!("mov ss, ebx"),
            selector::ABSENT,
            exception::STACK,
        ),
        (
            "busy task",
            code!("ltr bx"),
            selector::TASK,
            exception::PROTECTION,
        ),
    ] {
        let context = Context::new(&code, Regs::pattern().with(RBX, segment));
        case(name, faults(context, vector, of_selector(segment)))?;
    }
    Ok(())
}

fn page_fault(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let at = |code, address| Context::new(code, Regs::pattern().with(RBX, address));
    let (read, write) = (code!("mov rax, [rbx]"), code!("mov [rbx], rax"));
    case("absent", page_faults(at(&read, ABSENT + 8), 0, ABSENT + 8))?;
    case(
        "absent, write",
        page_faults(at(&write, ABSENT), WRITE, ABSENT),
    )?;
    let read_only = page_faults(at(&write, READ_ONLY), PRESENT | WRITE, READ_ONLY);
    case("read-only", read_only)?;
    let reserved = |error| page_faults(at(&read, RESERVED), error, RESERVED);
    // QEMU says so of an entry that is not there, as it were.
    let verdict = reserved(PRESENT | RESERVED_BIT).or_else(|_| reserved(RESERVED_BIT));
    case("reserved bit", verdict)?;
    // The part of it that is not there.
    case("straddled", page_faults(at(&read, ABSENT - 4), 0, ABSENT))
}

fn fetch_fault(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("jmp rbx");
    for (name, address, error) in [
        ("absent", ABSENT, FETCH),
        ("no execution", DATA, PRESENT | FETCH),
    ] {
        let context = Context::new(&code, Regs::pattern().with(RBX, address));
        let trap = traps_at(context, address, exception::PAGE_FAULT, error);
        equal("cr2", Hex(case(name, trap)?.address), Hex(address))?;
    }
    Ok(())
}

/// A page fault that cannot be delivered, since the gates end before its own.
fn double_fault(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let gates = Table::of_gates(exception::PAGE_FAULT);
    let code = code!("lidt [rdi]", "mov rax, [rbx]");
    let regs = Regs::pattern()
        .with(RDI, (&raw const gates).addr())
        .with(RBX, ABSENT);
    let mut context = Context::new(&code, regs);
    let trap = context.run();
    segment::load_gates();
    equal("vector", Hex(trap.vector), Hex(exception::DOUBLE_FAULT))?;
    equal("error code", Hex(trap.error), Hex(0))?;
    same_registers(&context.regs, &regs)
}

/// All flags of arithmetic are as they were, in code that does not change them.
fn flags(_: &Machine) -> Verdict {
    const ARITHMETIC: usize = 0x8d5;
    const RESUME: usize = 1 << 16;
    for (name, code) in each!["nop", "cpuid", "ud2", "in al, 0x61", "mov rax, cr0"] {
        for set in [0, ARITHMETIC, FLAGS_CF, ARITHMETIC & !FLAGS_CF] {
            let mut context = Context::new(&code, Regs::ZERO).flags(ARITHMETIC, set);
            context.run();
            case(
                name,
                equal("rflags", Hex(context.flags & !RESUME), Hex(set | 2)),
            )?;
        }
    }
    Ok(())
}

/// Reads and clears DR6.
fn debug_status() -> usize {
    const NOTHING: usize = 0xffff_0ff0;
    let status = read_cr!("dr6");
    // SAFETY: only says what the last debug exception was.
    unsafe { write_cr!("dr6", NOTHING) }
    status
}

const STEPPED: usize = 1 << 14;

fn single_step(_: &Machine) -> Verdict {
    debug_status();
    let code = code!("nop", "nop");
    let context = supervisor(&code).flags(FLAGS_TF, FLAGS_TF);
    traps_at(context, code.start + 1, exception::DEBUG, 0)?;
    equal("dr6.BS", Hex(debug_status() & STEPPED), Hex(STEPPED))
}

/// An instruction that is executed for the guest is one step, too.
fn step_over_exit(_: &Machine) -> Verdict {
    for (name, code, len) in [
        ("cpuid", code!("cpuid", "nop"), 2),
        ("in", code!("in al, dx", "nop"), 1),
        ("out", code!("out dx, al", "nop"), 1),
        ("rdmsr", code!("rdmsr", "nop"), 2),
        ("mmio", code!("mov eax, [rbx]", "nop"), 2),
        ("cr", code!("mov cr8, rsi", "nop"), 4),
    ] {
        debug_status();
        let regs = Regs::ZERO
            .with(RCX, msr::APIC_BASE as usize)
            .with(RDX, usize::from(uart::BASE + uart::SCR))
            .with(RSI, 0)
            .with(RBX, lapic::BASE + register::VERSION as usize);
        let mut context = Context::new(&code, regs).flags(FLAGS_TF, FLAGS_TF);
        let trap = context.run();
        case(
            name,
            equal("vector", Hex(trap.vector), Hex(exception::DEBUG)),
        )?;
        case(name, equal("rip", Hex(trap.pc), Hex(code.start + len)))?;
        let stepped = debug_status() & STEPPED;
        case(name, equal("dr6.BS", Hex(stepped), Hex(STEPPED)))?;
    }
    Ok(())
}

/// Sets breakpoint 0, or none with `control` 0.
fn watch(address: usize, control: usize) {
    // SAFETY: the exceptions that follow are for contexts only.
    unsafe {
        write_cr!("dr0", address);
        write_cr!("dr7", control | 1 << 10);
    }
}

fn hardware_breakpoint(_: &Machine) -> Verdict {
    debug_status();
    let code = code!("nop", "nop", "nop");
    const EXECUTION: usize = 0b10;
    watch(code.start + 2, EXECUTION);
    let trapped = traps_at(supervisor(&code), code.start + 2, exception::DEBUG, 0);
    watch(0, 0);
    trapped?;
    equal("dr6", Hex(debug_status() & 0xf), Hex(1))?;
    at_end(supervisor(&code).run(), &code)
}

fn watchpoint(_: &Machine) -> Verdict {
    debug_status();
    let word = 0_u64;
    let code = code!("mov rax, [rsi]", "mov [rsi], rax", "nop");
    let regs = Regs::ZERO.with(RSI, (&raw const word).addr());
    const WRITE_OF_8: usize = 0b10 | 0b1001 << 16;
    watch(regs[RSI], WRITE_OF_8);
    let trapped = traps_at(
        Context::new(&code, regs),
        code.start + 6,
        exception::DEBUG,
        0,
    );
    watch(0, 0);
    trapped?;
    equal("dr6", Hex(debug_status() & 0xf), Hex(1))?;
    completes(&code, regs).map(|_| ())
}
