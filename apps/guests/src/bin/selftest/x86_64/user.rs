//! Ring 3: whatever a process does wrong is an exception for its own kernel, and never more than
//! that; and the fast ways between the two.

use guests::arch::context::reg::{R11, RAX, RBX, RCX, RDX};
use guests::arch::context::{Code, Context, Interrupts, Mode, Regs, exception};
use guests::arch::cpu::{CR4_TSD, FLAGS_CF, FLAGS_IF};
use guests::arch::segment::{USER_VECTOR, selector};
use guests::arch::{Machine, cpu, msr};
use guests::report::{Hex, Verdict, case, equal};
use guests::{code, read_cr, write_cr};

use super::Check;
use super::expect::{completed, each, faults, of_gate, page_faults, same_registers, traps_at};
use super::paging::{ABSENT, DATA, Paging, READ_ONLY, SUPERVISOR, USER_CODE};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("user.runs", runs),
    Check::new("user.privileged", privileged),
    Check::new("user.undefined", undefined),
    Check::new("user.breakpoint", breakpoint),
    Check::new("user.software_interrupt", software_interrupt),
    Check::new("user.page_fault", page_fault),
    Check::new("user.fetch_fault", fetch_fault),
    Check::new("user.cpuid", cpuid),
    Check::new("user.time_stamp", time_stamp),
    Check::new("user.interrupt_flag", interrupt_flag),
    Check::new("user.syscall_off", syscall_off),
    Check::new("user.syscall", syscall),
    Check::new("user.sysret", sysret),
    Check::new("user.swapgs", swapgs),
];

/// The code as ring 3 sees it.
fn user(code: &Code, regs: Regs) -> Context {
    Context::new(&code.seen_at(USER_CODE), regs).mode(Mode::User)
}

fn runs(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("add rax, rbx");
    let regs = Regs::pattern();
    let after = completed(user(&code, regs), &code.seen_at(USER_CODE))?;
    same_registers(&after, &regs.with(RAX, regs[RAX].wrapping_add(regs[RBX])))
}

fn privileged(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let regs = Regs::pattern()
        .with(RBX, DATA)
        .with(RCX, msr::APIC_BASE as usize);
    for (name, code) in each![
        "hlt",
        "cli",
        "sti",
        "clts",
        "mov rax, cr0",
        "mov cr0, rax",
        "mov rax, cr2",
        "mov cr3, rax",
        "mov rax, cr4",
        "mov cr8, rax",
        "mov rax, cr8",
        "mov rax, dr7",
        "mov dr7, rax",
        "lmsw ax",
        "rdmsr",
        "wrmsr",
        "lgdt [rbx]",
        "lidt [rbx]",
        "lldt ax",
        "ltr ax",
        "invlpg [rbx]",
        "swapgs",
    ] {
        case(name, faults(user(&code, regs), exception::PROTECTION, 0))?;
    }
    Ok(())
}

fn undefined(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    for (name, code) in each!["ud2", ".byte 0x06", ".byte 0xf0, 0x90"] {
        let context = user(&code, Regs::pattern());
        case(name, faults(context, exception::INVALID_OPCODE, 0))?;
    }
    Ok(())
}

fn breakpoint(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("int3").seen_at(USER_CODE);
    let context = Context::new(&code, Regs::pattern()).mode(Mode::User);
    traps_at(context, code.end, exception::BREAKPOINT, 0).map(|_| ())
}

/// A gate is for those whom it lets through.
fn software_interrupt(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("int 0x80").seen_at(USER_CODE);
    let context = Context::new(&code, Regs::pattern()).mode(Mode::User);
    traps_at(context, code.end, USER_VECTOR.into(), 0)?;
    for (name, code, vector) in [
        ("int 0x81", code!("int 0x81"), 0x81),
        ("int 2", code!("int 2"), 2),
        ("int 14", code!("int 14"), 14),
    ] {
        let context = user(&code, Regs::pattern());
        case(
            name,
            faults(context, exception::PROTECTION, of_gate(vector)),
        )?;
    }
    Ok(())
}

const PRESENT: usize = 1 << 0;
const WRITE: usize = 1 << 1;
const USER: usize = 1 << 2;
const FETCH: usize = 1 << 4;

fn page_fault(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let (read, write) = (code!("mov rax, [rbx]"), code!("mov [rbx], rax"));
    for (name, code, address, error) in [
        ("absent", read, ABSENT, USER),
        ("absent, write", write, ABSENT, USER | WRITE),
        ("read-only", write, READ_ONLY + 8, USER | WRITE | PRESENT),
        ("the kernel's", read, SUPERVISOR, USER | PRESENT),
        (
            "the kernel's, write",
            write,
            SUPERVISOR,
            USER | WRITE | PRESENT,
        ),
        ("the kernel's code", read, 0x20_0000, USER | PRESENT),
    ] {
        let context = user(&code, Regs::pattern().with(RBX, address));
        case(name, page_faults(context, error, address))?;
    }
    Ok(())
}

fn fetch_fault(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("jmp rbx");
    for (name, address, error) in [
        ("absent", ABSENT, USER | FETCH),
        ("no execution", DATA, USER | FETCH | PRESENT),
        ("the kernel's", 0x20_0000, USER | FETCH | PRESENT),
    ] {
        let context = user(&code, Regs::pattern().with(RBX, address));
        let trap = case(
            name,
            traps_at(context, address, exception::PAGE_FAULT, error),
        )?;
        case(name, equal("cr2", Hex(trap.address), Hex(address)))?;
    }
    Ok(())
}

/// CPUID is for everyone, and says the same.
fn cpuid(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("cpuid");
    for leaf in [0, 1, 0x8000_0001, 0x4000_0000] {
        let regs = Regs::pattern().with(RAX, leaf).with(RCX, 0);
        let after = completed(user(&code, regs), &code.seen_at(USER_CODE))?;
        let kernel = cpu::cpuid(leaf as u32, 0);
        let mut expected = regs;
        for (register, value) in [
            (RAX, kernel.a),
            (RBX, kernel.b),
            (RCX, kernel.c),
            (RDX, kernel.d),
        ] {
            expected = expected.with(register, value as usize);
        }
        same_registers(&after, &expected)?;
    }
    Ok(())
}

/// The kernel decides who knows the time.
fn time_stamp(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let before = read_cr!("cr4");
    let code = code!("rdtsc");
    completed(user(&code, Regs::pattern()), &code.seen_at(USER_CODE))?;
    // SAFETY: concerns ring 3 only.
    unsafe { write_cr!("cr4", before | CR4_TSD) }
    let forbidden = faults(user(&code, Regs::pattern()), exception::PROTECTION, 0);
    // SAFETY: as it was.
    unsafe { write_cr!("cr4", before) }
    forbidden
}

/// POPF does not change what ring 3 may not.
fn interrupt_flag(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let code = code!("push rax", "popfq");
    const IOPL: usize = 3 << 12;
    let regs = Regs::pattern()
        .with(guests::arch::context::reg::RSP, DATA + 256)
        .with(RAX, IOPL | 2);
    let mut context = user(&code, regs).interrupts(Interrupts::On);
    let trap = context.run();
    equal("vector", Hex(trap.vector), Hex(exception::BREAKPOINT))?;
    equal("rflags", Hex(context.flags), Hex(FLAGS_IF | 2))
}

/// Writes the registers of SYSCALL, of which `SCE` says whether it is there.
fn set_syscall(target: usize, efer_sce: u64) {
    let star = (selector::USER_DATA as u64 - 8) << 48 | (selector::CODE as u64) << 32;
    let efer = msr::read(msr::EFER) & !msr::EFER_SCE;
    // SAFETY: concerns those instructions only, which this program has in contexts.
    unsafe {
        msr::write(msr::STAR, star & !(3 << 48));
        msr::write(msr::LSTAR, target as u64);
        msr::write(msr::SFMASK, FLAGS_CF as u64);
        msr::write(msr::EFER, efer | efer_sce);
    }
}

fn syscall_off(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    set_syscall(0, 0);
    let context = user(&code!("syscall"), Regs::pattern());
    faults(context, exception::INVALID_OPCODE, 0)
}

/// SYSCALL goes where LSTAR says, into ring 0, and leaves its way back in two registers.
fn syscall(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let kernel = code!("nop");
    set_syscall(kernel.start, msr::EFER_SCE);
    let code = code!("syscall").seen_at(USER_CODE);
    let regs = Regs::pattern();
    let mut context = Context::new(&code, regs)
        .mode(Mode::User)
        .flags(FLAGS_CF, FLAGS_CF);
    let flags = context.flags;
    let trap = context.run();
    set_syscall(0, 0);
    super::expect::at_end(trap, &kernel)?;
    equal("cs", Hex(context.cs), Hex(selector::CODE))?;
    equal("ss", Hex(context.ss), Hex(selector::DATA))?;
    equal("rflags", Hex(context.flags), Hex(flags & !FLAGS_CF))?;
    same_registers(&context.regs, &regs.with(RCX, code.end).with(R11, flags))
}

fn sysret(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    set_syscall(0, msr::EFER_SCE);
    let (code, target) = (code!("sysretq"), code!("nop").seen_at(USER_CODE));
    let regs = Regs::pattern()
        .with(RCX, target.start)
        .with(R11, FLAGS_CF | 2);
    let mut context = Context::new(&code, regs);
    let trap = context.run();
    set_syscall(0, 0);
    super::expect::at_end(trap, &target)?;
    equal("cs", Hex(context.cs), Hex(selector::USER_CODE))?;
    equal("ss", Hex(context.ss), Hex(selector::USER_DATA))?;
    equal("rflags", Hex(context.flags), Hex(FLAGS_CF | 2))?;
    same_registers(&context.regs, &regs)
}

/// SWAPGS exchanges the two bases, of which both are the guest's.
fn swapgs(machine: &Machine) -> Verdict {
    const VALUES: [u64; 2] = [0xffff_8000_1234_5678, 0x7654_3210];
    // SAFETY: this program does not use GS.
    unsafe {
        msr::write(msr::GS_BASE, VALUES[0]);
        msr::write(msr::KERNEL_GS_BASE, VALUES[1]);
    }
    let code = code!("swapgs", "cpuid", "in al, 0x61");
    let ran = completed(Context::new(&code, Regs::ZERO), &code);
    super::registers::leave_often(machine);
    let got = [msr::GS_BASE, msr::KERNEL_GS_BASE].map(msr::read);
    // SAFETY: as before.
    unsafe {
        msr::write(msr::GS_BASE, 0);
        msr::write(msr::KERNEL_GS_BASE, 0);
    }
    ran?;
    equal(
        "bases",
        got.map(|n| Hex(n as usize)),
        [VALUES[1], VALUES[0]].map(|n| Hex(n as usize)),
    )
}
