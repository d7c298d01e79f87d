//! Exceptions of supervisor mode: every mistake comes back to the one who made it, with the cause,
//! address and registers that the architecture prescribes, and execution goes on.

use guests::arch::Machine;
use guests::arch::context::reg::{A0, A1, A2, A3, A4, A5, A6, S3};
use guests::arch::context::{Code, Context, Interrupts, Regs, exception};
use guests::arch::{csr, uart};
use guests::code;
use guests::report::{Hex, Verdict, case, equal};

use super::Check;
use super::expect::{ANY, changes, completes, each, illegal, traps, traps_at};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("traps.breakpoint", breakpoint),
    Check::new("traps.illegal_instruction", illegal_instruction),
    Check::new("traps.machine_csr", machine_csr),
    Check::new("traps.machine_instruction", machine_instruction),
    Check::new("traps.read_only_csr", read_only_csr),
    Check::as_guest(
        "traps.hypervisor_csr",
        "the H extension is real",
        hypervisor_csr,
    ),
    Check::as_guest(
        "traps.hypervisor_load",
        "the H extension is real",
        hypervisor_load,
    ),
    Check::as_guest(
        "traps.hypervisor_fence",
        "the H extension is real",
        hypervisor_fence,
    ),
    Check::new("traps.interrupt_state", interrupt_state),
    Check::new("traps.ram_ends", ram_ends),
    Check::new("traps.ram_end_fetch", ram_end_fetch),
    Check::new("traps.ram_end_straddled", ram_end_straddled),
    Check::new("traps.misaligned", misaligned),
    Check::new("traps.misaligned_atomic", misaligned_atomic),
    Check::new("traps.csrs_kept", csrs_kept),
];

fn supervisor(code: &Code) -> Context {
    Context::new(code, Regs::pattern())
}

fn breakpoint(_: &Machine) -> Verdict {
    for code in [code!("ebreak"), code!(".option rvc", "c.ebreak")] {
        traps(
            supervisor(&code),
            &[exception::BREAKPOINT],
            &[0, code.start],
        )?;
    }
    Ok(())
}

fn all_illegal<const N: usize>(codes: [(&str, Code); N]) -> Verdict {
    for (name, code) in codes {
        case(name, illegal(supervisor(&code), &code))?;
    }
    Ok(())
}

fn illegal_instruction(_: &Machine) -> Verdict {
    all_illegal(each![
        ".4byte 0xffffffff",
        ".2byte 0x0000", // defined to be illegal, the only one of two bytes that is
        ".4byte 0x0000007f",
        ".insn r 0x33, 0, 0x7f, a0, a1, a2",
    ])
}

fn machine_csr(_: &Machine) -> Verdict {
    all_illegal(each![
        "csrr a0, mstatus",
        "csrw mstatus, a0",
        "csrr a0, mhartid",
        "csrw mie, a0",
        "csrr a0, pmpcfg0",
        "csrw 0x7c0, a0", // custom
        "csrr a0, 0x5c0", // custom, supervisor
    ])
}

fn machine_instruction(_: &Machine) -> Verdict {
    // QEMU gives the bits of an earlier instruction.
    traps(supervisor(&code!("mret")), &[exception::ILLEGAL], ANY)
}

fn read_only_csr(_: &Machine) -> Verdict {
    all_illegal(each![
        "csrw cycle, a0",
        "csrrs a0, time, a1",
        "csrrwi a0, instret, 1"
    ])
}

fn hypervisor_csr(_: &Machine) -> Verdict {
    all_illegal(each![
        "csrr a0, 0x600",      // hstatus
        "csrw 0x600, a0",      // hstatus
        "csrr a0, 0x680",      // hgatp
        "csrrs a0, 0x645, a1", // hvip
        "csrr a0, 0x643",      // htval
        "csrw 0x605, a0",      // htimedelta
        "csrr a0, 0x200",      // vsstatus
        "csrw 0x280, a0",      // vsatp
        "csrr a0, 0x24d",      // vstimecmp
        "csrr a0, 0xe12",      // hgeip
    ])
}

fn hypervisor_load(_: &Machine) -> Verdict {
    all_illegal(each![
        ".insn r 0x73, 4, 0x34, a0, a1, x0", // hlv.w
        ".insn r 0x73, 4, 0x34, a0, a1, x3", // hlvx.wu
        ".insn r 0x73, 4, 0x35, x0, a1, a2", // hsv.w
    ])
}

fn hypervisor_fence(_: &Machine) -> Verdict {
    all_illegal(each![
        ".insn r 0x73, 0, 0x11, x0, x0, x0", // hfence.vvma
        ".insn r 0x73, 0, 0x31, x0, x0, x0", // hfence.gvma
        ".insn r 0x73, 0, 0x31, x0, a0, a1",
    ])
}

/// A trap turns interrupts off and remembers whether they were on.
fn interrupt_state(_: &Machine) -> Verdict {
    let code = code!("mret"); // illegal
    for (interrupts, previous) in [(Interrupts::On, csr::SSTATUS_SPIE), (Interrupts::Off, 0)] {
        let mut context = supervisor(&code).interrupts(interrupts);
        context.run();
        let bits = csr::SSTATUS_SPIE | csr::SSTATUS_SIE;
        equal(
            "sstatus.SPIE and SIE",
            Hex(context.status & bits),
            Hex(previous),
        )?;
    }
    Ok(())
}

/// The last bytes of RAM are there, and the first after them are not.
fn ram_ends(machine: &Machine) -> Verdict {
    let end = machine.ram().end;
    let last = Regs::pattern().with(A1, end - 8);
    completes(&code!("ld a0, 0(a1)"), last)?;
    let regs = Regs::pattern().with(A1, end);
    for (name, code) in each!["ld a0, 0(a1)", "lb a0, 0(a1)", "lr.d a0, (a1)"] {
        let context = Context::new(&code, regs);
        case(name, traps(context, &[exception::LOAD_ACCESS], &[end]))?;
    }
    for (name, code) in each!["sd a0, 0(a1)", "sb a0, 0(a1)", "amoadd.w a0, a2, (a1)"] {
        let context = Context::new(&code, regs);
        case(name, traps(context, &[exception::STORE_ACCESS], &[end]))?;
    }
    Ok(())
}

fn ram_end_fetch(machine: &Machine) -> Verdict {
    let end = machine.ram().end;
    let context = Context::new(&code!("jr a1"), Regs::pattern().with(A1, end));
    traps_at(context, end, &[exception::FETCH_ACCESS], &[end])
}

/// Half in RAM, half not: the fault names the access, or the part of it that is outside.
fn ram_end_straddled(machine: &Machine) -> Verdict {
    let end = machine.ram().end;
    let regs = Regs::pattern().with(A1, end - 4);
    let load = Context::new(&code!("ld a0, 0(a1)"), regs);
    let causes = [exception::LOAD_MISALIGNED, exception::LOAD_ACCESS];
    traps(load, &causes, &[end - 4, end])?;
    let store = Context::new(&code!("sd a0, 0(a1)"), regs);
    let causes = [exception::STORE_MISALIGNED, exception::STORE_ACCESS];
    traps(store, &causes, &[end - 4, end])
}

/// A misaligned access to RAM works or faults, but does not do half of its work.
fn misaligned(_: &Machine) -> Verdict {
    #[repr(align(16))]
    struct Bytes([u8; 16]);
    let bytes = Bytes(core::array::from_fn(|n| 0x81 + n as u8));
    let address = bytes.0.as_ptr().addr() + 3;
    let regs = Regs::pattern().with(A1, address);
    let code = code!("ld a0, 0(a1)");
    let mut context = Context::new(&code, regs);
    if context.run().cause == exception::BREAKPOINT {
        changes(&code, regs, A0, 0x8b8a_8988_8786_8584)
    } else {
        traps(
            Context::new(&code, regs),
            &[exception::LOAD_MISALIGNED],
            &[address],
        )
    }
}

/// An atomic access must be aligned; this one crosses whatever block an extension might allow.
fn misaligned_atomic(_: &Machine) -> Verdict {
    #[repr(align(128))]
    struct Bytes([u64; 16]);
    let bytes = Bytes([1; 16]);
    let address = bytes.0.as_ptr().addr() + 60;
    let regs = Regs::pattern().with(A1, address);
    let reserve = Context::new(&code!("lr.d a0, (a1)"), regs);
    traps(
        reserve,
        &[exception::LOAD_MISALIGNED, exception::LOAD_ACCESS],
        &[address],
    )?;
    // A misaligned AMO is a store; QEMU with one hart takes it for a load.
    let causes = [
        exception::STORE_MISALIGNED,
        exception::STORE_ACCESS,
        exception::LOAD_MISALIGNED,
    ];
    let add = Context::new(&code!("amoadd.d a0, a2, (a1)"), regs);
    traps(add, &causes, &[address])
}

/// The registers of the last trap are the guest's own: neither an SBI call nor a device access
/// changes them.
fn csrs_kept(_: &Machine) -> Verdict {
    let code = code!(
        "csrrw s2, sscratch, a2", // a context keeps its address there
        "csrw sepc, a3",
        "csrw stval, a4",
        "csrw scause, a5",
        "csrw scounteren, a6",
        "li a7, 0x10", // BASE, get_spec_version
        "li a6, 0",
        "ecall",
        "lbu t1, 5(s3)",
        "csrrw a2, sscratch, s2",
        "csrr a3, sepc",
        "csrr a4, stval",
        "csrr a5, scause",
        "csrr a6, scounteren",
    );
    let regs = Regs::pattern()
        .with(A2, 0x1234_5678_9abc_def0)
        .with(A3, 0x8765_4320)
        .with(A4, usize::MAX)
        .with(A5, exception::STORE_PAGE)
        .with(A6, 0b101)
        .with(S3, uart::base());
    let after = completes(&code, regs)?;
    for (name, n) in [
        ("sscratch", A2),
        ("sepc", A3),
        ("stval", A4),
        ("scause", A5),
        ("scounteren", A6),
    ] {
        equal(name, Hex(after[n]), Hex(regs[n]))?;
    }
    Ok(())
}
