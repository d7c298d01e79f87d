//! Calls to a hypervisor, and the instructions that make one.

use guests::arch::Machine;
use guests::arch::context::reg::RAX;
use guests::arch::context::{Context, Mode, Regs, exception};
use guests::arch::cpu::cpuid;
use guests::report::{Hex, Verdict, case, one_of, skip};

use super::Check;
use super::expect::{each, faults, same_registers, undefined};
use super::paging::{Paging, USER_CODE};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("hypercall.unknown", unknown),
    Check::new("hypercall.from_user", from_user),
    Check::as_guest("hypercall.svm", "the CPU may have it", svm),
    Check::as_guest("hypercall.vmx", "the CPU may have it", vmx),
    Check::as_guest(
        "hypercall.vmx_pointers",
        "the CPU may have it",
        vmx_pointers,
    ),
];

/// Either nobody is called, or the answer is in RAX; nothing else changes.
fn answered(mut context: Context) -> Verdict {
    let before = context.regs;
    let trap = context.run();
    let vectors = [exception::INVALID_OPCODE, exception::BREAKPOINT];
    one_of("vector", Hex(trap.vector), vectors.into_iter().map(Hex))?;
    let answer = if trap.vector == exception::BREAKPOINT {
        context.regs[RAX]
    } else {
        before[RAX]
    };
    same_registers(&context.regs, &before.with(RAX, answer))
}

fn unknown(_: &Machine) -> Verdict {
    for (name, code) in each!["vmmcall", "vmcall", ".byte 0x66, 0x0f, 0x01, 0xd9"] {
        case(name, answered(Context::new(&code, Regs::pattern())))?;
    }
    Ok(())
}

/// Ring 3 may not speak for its kernel.
fn from_user(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    for (name, code) in each!["vmmcall", "vmcall"] {
        for rax in [0, 1, 8, 0x5352_5354] {
            let regs = Regs::pattern().with(RAX, rax);
            let context = Context::new(&code.seen_at(USER_CODE), regs).mode(Mode::User);
            case(name, answered(context))?;
        }
    }
    Ok(())
}

fn svm(_: &Machine) -> Verdict {
    for (name, code) in each![
        "vmrun rax",
        "vmload rax",
        "vmsave rax",
        "stgi",
        "clgi",
        "skinit eax",
        "invlpga rax, ecx"
    ] {
        // An address that is one, so that nothing else is wrong.
        let context = Context::new(&code, Regs::pattern().with(RAX, 0x1000));
        case(name, faults(context, exception::INVALID_OPCODE, 0))?;
    }
    Ok(())
}

fn vmx(_: &Machine) -> Verdict {
    for (name, code) in each![
        "vmxoff",
        "vmlaunch",
        "vmresume",
        "vmread rax, rbx",
        "vmwrite rax, rbx",
        "invept rax, [rsp]",
        "invvpid rax, [rsp]",
        "vmfunc"
    ] {
        case(name, undefined(&code))?;
    }
    Ok(())
}

/// As an emulated CPU of another vendor, QEMU takes these for something else.
fn vmx_pointers(_: &Machine) -> Verdict {
    const INTEL: u32 = u32::from_le_bytes(*b"Genu");
    if cpuid(0, 0).b != INTEL {
        return skip("the CPU is not Intel's");
    }
    for (name, code) in each![
        "vmxon [rsp]",
        "vmclear [rsp]",
        "vmptrld [rsp]",
        "vmptrst [rsp]"
    ] {
        case(name, undefined(&code))?;
    }
    Ok(())
}
