//! User mode: whatever a user process does wrong is an exception for its own supervisor, and never
//! more than that.

use guests::arch::Machine;
use guests::arch::context::reg::{A0, A1, A6, A7};
use guests::arch::context::{Code, Context, Mode, Regs, exception};
use guests::code;
use guests::report::{Verdict, Words, case, equal, holds};
use guests::{read_csr, write_csr};
use sbi_spec::srst;

use super::Check;
use super::expect::{ANY, completed, each, illegal, same_registers, traps};
use super::paging::{Paging, USER_CODE};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("user.runs", runs),
    Check::new("user.ecall", ecall),
    Check::new("user.sbi_call", sbi_call),
    Check::new("user.breakpoint", breakpoint),
    Check::new("user.illegal_instruction", illegal_instruction),
    Check::new("user.supervisor_csr", supervisor_csr),
    Check::new("user.machine_csr", machine_csr),
    Check::new("user.hypervisor_csr", hypervisor_csr),
    Check::new("user.supervisor_instruction", supervisor_instruction),
    Check::new("user.machine_instruction", machine_instruction),
    Check::new("user.hypervisor_instruction", hypervisor_instruction),
    Check::new("user.wfi", wfi),
    Check::new("user.counters_forbidden", counters_forbidden),
    Check::as_guest(
        "user.time_forbidden",
        "OpenSBI reads it for anyone",
        time_forbidden,
    ),
    Check::new("user.counters_allowed", counters_allowed),
];

/// The code as user mode sees it.
fn user(code: &Code, regs: Regs) -> Context {
    Context::new(&code.seen_at(USER_CODE), regs).mode(Mode::User)
}

fn all_illegal<const N: usize>(machine: &Machine, codes: [(&str, Code); N]) -> Verdict {
    let _paging = Paging::on(machine);
    for (name, code) in codes {
        case(name, illegal(user(&code, Regs::pattern()), &code))?;
    }
    Ok(())
}

fn runs(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let code = code!("add a0, a0, a1");
    let regs = Regs::pattern();
    let after = completed(user(&code, regs), &code.seen_at(USER_CODE))?;
    same_registers(&after, &regs.with(A0, regs[A0].wrapping_add(regs[A1])))
}

fn ecall(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    traps(
        user(&code!("ecall"), Regs::pattern()),
        &[exception::USER_ECALL],
        &[0],
    )
}

/// The call that would switch the machine off, by both its names, is only a call to the kernel.
fn sbi_call(machine: &Machine) -> Verdict {
    const LEGACY_SHUTDOWN: usize = 8;
    let _paging = Paging::on(machine);
    for extension in [srst::EID_SRST, LEGACY_SHUTDOWN] {
        let regs = Regs::ZERO.with(A6, srst::SYSTEM_RESET).with(A7, extension);
        traps(user(&code!("ecall"), regs), &[exception::USER_ECALL], &[0])?;
    }
    Ok(())
}

fn breakpoint(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let context = user(&code!("ebreak"), Regs::pattern());
    traps(context, &[exception::BREAKPOINT], &[0, context.regs[0]])
}

fn illegal_instruction(machine: &Machine) -> Verdict {
    all_illegal(machine, each![".4byte 0xffffffff", ".2byte 0x0000"])
}

fn supervisor_csr(machine: &Machine) -> Verdict {
    all_illegal(
        machine,
        each![
            "csrr a0, sstatus",
            "csrw sstatus, a0",
            "csrr a0, satp",
            "csrw stvec, a0",
            "csrr a0, sip",
            "csrw sscratch, a0",
            "csrr a0, 0x14d", // stimecmp
        ],
    )
}

fn machine_csr(machine: &Machine) -> Verdict {
    all_illegal(
        machine,
        each!["csrr a0, mstatus", "csrr a0, mhartid", "csrw mie, a0"],
    )
}

fn hypervisor_csr(machine: &Machine) -> Verdict {
    all_illegal(
        machine,
        each![
            "csrr a0, 0x600", // hstatus
            "csrw 0x680, a0", // hgatp
            "csrr a0, 0x200", // vsstatus
            "csrw 0x645, a0", // hvip
        ],
    )
}

fn supervisor_instruction(machine: &Machine) -> Verdict {
    all_illegal(machine, each!["sret", "sfence.vma", "sfence.vma a0, a1"])
}

fn machine_instruction(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    // QEMU gives the bits of an earlier instruction.
    traps(
        user(&code!("mret"), Regs::pattern()),
        &[exception::ILLEGAL],
        ANY,
    )
}

fn hypervisor_instruction(machine: &Machine) -> Verdict {
    all_illegal(
        machine,
        each![
            ".insn r 0x73, 4, 0x34, a0, a1, x0", // hlv.w
            ".insn r 0x73, 4, 0x35, x0, a1, a2", // hsv.w
            ".insn r 0x73, 0, 0x11, x0, x0, x0", // hfence.vvma
            ".insn r 0x73, 0, 0x31, x0, x0, x0", // hfence.gvma
        ],
    )
}

/// WFI in user mode is illegal, unless it ends within a bounded time.
fn wfi(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let code = code!("wfi");
    let mut context = user(&code, Regs::pattern());
    match context.run().cause {
        exception::BREAKPOINT => same_registers(&context.regs, &Regs::pattern()),
        _ => illegal(user(&code, Regs::pattern()), &code),
    }
}

/// Sets which counters user mode may read.
fn allow_counters(mask: usize) {
    // SAFETY: concerns user mode only.
    unsafe { write_csr!("scounteren", mask) }
}

fn counters_forbidden(machine: &Machine) -> Verdict {
    allow_counters(0);
    all_illegal(machine, each!["rdcycle a0", "rdinstret a0"])
}

fn time_forbidden(machine: &Machine) -> Verdict {
    allow_counters(0);
    all_illegal(machine, each!["rdtime a0"])
}

fn counters_allowed(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    allow_counters(0b111);
    equal("scounteren", read_csr!("scounteren") & 0b111, 0b111)?;
    for (name, code) in each!["rdtime a0", "rdcycle a0", "rdinstret a0"] {
        let after = completed(user(&code, Regs::pattern()), &code.seen_at(USER_CODE));
        let after = case(name, after)?;
        let changed = after[A0] != Regs::pattern()[A0];
        holds(name, changed, Words("nothing"), Words("a value"))?;
    }
    allow_counters(0);
    Ok(())
}
