//! What no well-meaning guest does: it gets an answer or a fault, and lives on.

use core::sync::atomic::Ordering;

use guests::arch::context::reg::{RAX, RBX, RCX, RDI, RDX, RSI, RSP};
use guests::arch::context::{Context, Regs, exception};
use guests::arch::lapic::{self, command};
use guests::arch::segment::selector;
use guests::arch::{Machine, cpu, port, uart};
use guests::report::{Hex, Verdict, case, equal, one_of, skip};
use guests::{code, read_cr};

use super::Check;
use super::expect::{
    NOT_CANONICAL, changes_nothing, completes, each, faults, of_selector, page_faults,
    same_registers, undisturbed,
};
use super::paging::{self, DATA, PAGE, Paging};

pub(crate) const CHECKS: &[Check] = &[
    Check::as_guest("hostile.device_loads", "it is undefined", device_loads),
    Check::as_guest("hostile.device_stores", "it is undefined", device_stores),
    Check::new("hostile.every_port_reads", every_port_reads),
    Check::new("hostile.every_port_takes_zero", every_port_takes_zero),
    Check::new("hostile.strings_not_canonical", strings_not_canonical),
    Check::new("hostile.commands", commands),
    Check::as_guest("hostile.absent", "the CPU may have it", absent),
    Check::as_guest("hostile.counters", "the CPU may have some", counters),
    Check::new("hostile.caches", caches),
    Check::new("hostile.machine_status", machine_status),
    Check::new("hostile.load_machine_status", load_machine_status),
    Check::new("hostile.tasks", tasks),
    Check::new("hostile.far_jumps", far_jumps),
    Check::new("hostile.nested_task", nested_task),
    Check::new("hostile.icebp", icebp),
    Check::new("hostile.lazy_memory", lazy_memory),
];

/// The context ends in one of the ways in which a CPU could end it.
fn survives(mut context: Context) -> Verdict {
    const WAYS: [usize; 5] = [
        exception::BREAKPOINT,
        exception::INVALID_OPCODE,
        exception::STACK,
        exception::PROTECTION,
        exception::PAGE_FAULT,
    ];
    let trap = context.run();
    one_of("vector", Hex(trap.vector), WAYS.into_iter().map(Hex))
}

/// Pages whose bytes are devices' registers: the local APIC's and the I/O APIC's.
const DEVICE_PAGES: [usize; 2] = [lapic::BASE, 0xfec0_0000];

fn device_loads(_: &Machine) -> Verdict {
    for page in DEVICE_PAGES {
        for (name, code) in each![
            "mov al, [rdi]",
            "mov ax, [rdi]",
            "mov eax, [rdi]",
            "mov rax, [rdi]",
            "test byte ptr [rdi], 1"
        ] {
            for offset in (0..PAGE - 8).step_by(7) {
                let regs = Regs::pattern().with(RDI, page + offset);
                let after = case(name, completes(&code, regs))?;
                case(name, same_registers(&after, &regs.with(RAX, after[RAX])))?;
            }
        }
    }
    Ok(())
}

/// Not the aligned ones of four bytes, which mean something.
fn device_stores(_: &Machine) -> Verdict {
    for page in DEVICE_PAGES {
        let regs = |offset| Regs::pattern().with(RDI, page + offset);
        for (name, code) in each![
            "mov [rdi], al",
            "mov [rdi], ax",
            "mov [rdi], rax",
            "or byte ptr [rdi], 0x55"
        ] {
            for offset in (0..PAGE - 8).step_by(7) {
                case(name, changes_nothing(&code, regs(offset)))?;
            }
        }
        let code = code!("mov [rdi], eax");
        for offset in (1..PAGE - 8)
            .step_by(4)
            .chain((0x400..PAGE - 8).step_by(16))
        {
            case("mov [rdi], eax", changes_nothing(&code, regs(offset)))?;
        }
    }
    undisturbed()
}

fn every_port_reads(_: &Machine) -> Verdict {
    for port in 0..=u16::MAX {
        let _: u8 = port::read(port);
    }
    for port in (0..0x1000).chain(0xff80..=u16::MAX) {
        let _: u16 = port::read(port);
        let _: u32 = port::read(port);
    }
    undisturbed()
}

/// All but the console's, in which every zero would show. None of them ends the machine.
fn every_port_takes_zero(_: &Machine) -> Verdict {
    let console = uart::BASE..uart::BASE + 8;
    for port in (0..=u16::MAX).filter(|port| !console.contains(port)) {
        port::write(port, 0_u8);
    }
    let wide = (0..0x1000).filter(|port| !(uart::BASE - 3..uart::BASE + 8).contains(port));
    for port in wide {
        port::write(port, 0_u16);
        port::write(port, 0_u32);
    }
    Ok(())
}

fn strings_not_canonical(_: &Machine) -> Verdict {
    const PORT: usize = 0xe00;
    let regs = Regs::pattern()
        .with(RDX, PORT)
        .with(RCX, usize::MAX)
        .with(RDI, NOT_CANONICAL)
        .with(RSI, NOT_CANONICAL);
    for (name, code) in each!["insb", "rep insd", "outsb", "rep outsd", "rep movsb"] {
        case(
            name,
            faults(Context::new(&code, regs), exception::PROTECTION, 0),
        )?;
    }
    // From the last canonical byte on.
    let last = regs.with(RSI, (1 << 47) - 1);
    survives(Context::new(&code!("rep outsw"), last))?;
    survives(Context::new(
        &code!("rep outsb"),
        regs.with(RSI, usize::MAX),
    ))?;
    survives(Context::new(&code!("rep insb"), regs.with(RDI, usize::MAX)))
}

/// Interrupt commands that nobody has a use for.
fn commands(machine: &Machine) -> Verdict {
    const SMI: u32 = 2 << 8;
    const REMOTE_READ: u32 = 3 << 8;
    const EXTERNAL: u32 = 7 << 8;
    const LOWEST: u32 = 1 << 8;
    const LEVEL: u32 = 1 << 15;
    /// INIT, level de-assert: synchronizes arbitration, and is nothing since the Pentium 4.
    const DEASSERT: u32 = 5 << 8 | LEVEL;
    let id = machine.apic_id;
    for (name, destination, command) in [
        ("SMI to nobody", 0x7f, SMI | command::ASSERT),
        ("remote read", id, REMOTE_READ),
        (
            "external interrupt to nobody",
            0x7f,
            EXTERNAL | command::ASSERT,
        ),
        ("vector 0", id, command::ASSERT),
        ("vector 15", id, command::ASSERT | 15),
        ("vector 0 to itself", id, command::SELF),
        ("lowest priority, vector 1", id, LOWEST | 1),
        ("lowest priority to nobody", 0x7f, LOWEST | 0x70),
        ("de-assert", id, DEASSERT | command::ALL),
        ("startup to itself", id, command::STARTUP | command::SELF),
        ("startup to nobody", 0x7f, command::STARTUP),
        ("INIT to nobody", 0x7f, command::INIT),
        ("NMI to nobody", 0x7f, command::NMI | command::ASSERT),
        ("reserved bits", 0x7f, 0xfff3_2000),
    ] {
        lapic::send(destination, command);
        case(name, undisturbed())?;
    }
    Ok(())
}

/// Instructions that the CPU does not announce.
fn absent(_: &Machine) -> Verdict {
    let seven = cpu::cpuid(7, 0);
    let extended = cpu::cpuid(0x8000_0001, 0);
    let more = cpu::cpuid(0x8000_0008, 0);
    let of_amd = u32::from_le_bytes(*b"Auth") == cpu::cpuid(0, 0).b;
    let regs = Regs::pattern()
        .with(RAX, DATA)
        .with(RBX, 0)
        .with(RCX, 0)
        .with(RDX, 0);
    for (name, announced, code) in [
        ("rsm", false, code!("rsm")),
        (
            "encls",
            seven.b >> 2 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xcf"),
        ),
        (
            "enclu",
            seven.b >> 2 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xd7"),
        ),
        (
            "invpcid",
            seven.b >> 10 & 1 == 1,
            code!("invpcid rax, [rsp]"),
        ),
        (
            "xbegin",
            seven.b >> 11 & 1 == 1,
            code!(".byte 0xc7, 0xf8, 0, 0, 0, 0"),
        ),
        ("stac", seven.b >> 20 & 1 == 1, code!("stac")),
        (
            "wrpkru",
            seven.c >> 3 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xef"),
        ),
        (
            "rdpid",
            seven.c >> 22 & 1 == 1,
            code!(".byte 0xf3, 0x0f, 0xc7, 0xf8"),
        ),
        (
            "umwait",
            seven.c >> 5 & 1 == 1,
            code!(".byte 0xf2, 0x0f, 0xae, 0xf0"),
        ),
        (
            "pconfig",
            seven.d >> 18 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xc5"),
        ),
        (
            "monitorx",
            extended.c >> 29 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xfa"),
        ),
        (
            "mwaitx",
            extended.c >> 29 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xfb"),
        ),
        (
            "rdpru",
            more.b >> 4 & 1 == 1,
            code!(".byte 0x0f, 0x01, 0xfd"),
        ),
        ("sysenter in AMD's long mode", !of_amd, code!("sysenter")),
    ] {
        if !announced {
            case(
                name,
                faults(Context::new(&code, regs), exception::INVALID_OPCODE, 0),
            )?;
        }
    }
    Ok(())
}

/// There are none.
fn counters(_: &Machine) -> Verdict {
    if cpu::cpuid(10, 0).a & 0xff != 0 {
        return skip("the CPU has performance counters");
    }
    for number in [0, 1, 0x4000_0000, 0x8000_0000, u32::MAX as usize] {
        let context = Context::new(&code!("rdpmc"), Regs::pattern().with(RCX, number));
        faults(context, exception::PROTECTION, 0)?;
    }
    Ok(())
}

/// A guest that throws caches away loses nothing, its own or another's.
fn caches(_: &Machine) -> Verdict {
    paging::data().0[0].store(0x1234_5678, Ordering::Relaxed);
    for (name, code) in each!["invd", "wbinvd", ".byte 0xf3, 0x0f, 0x09"] {
        case(name, changes_nothing(&code, Regs::pattern()))?;
    }
    let kept = paging::data().0[0].load(Ordering::Relaxed);
    equal("data", Hex(kept as usize), Hex(0x1234_5678))
}

/// SMSW in all its forms.
fn machine_status(_: &Machine) -> Verdict {
    let cr0 = read_cr!("cr0");
    let data = paging::data();
    let regs = Regs::pattern().with(RDI, data.address());
    data.0[0].store(u64::MAX, Ordering::Relaxed);
    let store = code!("smsw word ptr [rdi]");
    case("smsw memory", changes_nothing(&store, regs))?;
    let stored = data.0[0].load(Ordering::Relaxed) as usize;
    equal("stored", Hex(stored), Hex(!0xffff | cr0 & 0xffff))?;
    let after = completes(&code!("smsw rax"), regs)?;
    equal("smsw rax", Hex(after[RAX] & 0xffff), Hex(cr0 & 0xffff))?;
    let _paging = Paging::on();
    let absent = Context::new(&store, regs.with(RDI, paging::ABSENT));
    page_faults(absent, 2, paging::ABSENT)
}

/// LMSW from memory, whose four bits it takes; PE it cannot clear.
fn load_machine_status(_: &Machine) -> Verdict {
    let cr0 = read_cr!("cr0");
    let data = paging::data();
    let regs = Regs::pattern().with(RDI, data.address()).with(RAX, cr0);
    let load = code!("lmsw word ptr [rdi]");
    for value in [0xfff0 | cpu::CR0_TS, 0] {
        data.0[0].store(value as u64, Ordering::Relaxed);
        case("lmsw memory", changes_nothing(&load, regs))?;
        let after = read_cr!("cr0");
        changes_nothing(&code!("mov cr0, rax"), regs)?;
        equal("cr0", Hex(after), Hex(cr0 & !0b1110 | value & 0b1110))?;
    }
    let _paging = Paging::on();
    let absent = Context::new(&load, regs.with(RDI, paging::ABSENT));
    page_faults(absent, 0, paging::ABSENT)
}

/// A far pointer on the data page.
fn far_pointer(offset: u64, selector: usize) -> Regs {
    let data = paging::data();
    data.0[0].store(offset, Ordering::Relaxed);
    data.0[1].store(selector as u64, Ordering::Relaxed);
    Regs::pattern().with(RDI, data.address())
}

/// In 64-bit mode no jump, call or return switches tasks.
fn tasks(_: &Machine) -> Verdict {
    let regs = far_pointer(0, selector::TASK);
    for (name, code) in each![
        ".byte 0x48, 0xff, 0x2f", // jmp far, 64-bit offset
        ".byte 0x48, 0xff, 0x1f", // call far
        "jmp fword ptr [rdi]",
        "call fword ptr [rdi]"
    ] {
        // As 32 bits of offset, the selector is what is in the middle of the first word: null.
        let error = if name.starts_with('.') {
            of_selector(selector::TASK)
        } else {
            0
        };
        case(
            name,
            faults(Context::new(&code, regs), exception::PROTECTION, error),
        )?;
    }
    // It is in use already.
    let busy = Regs::pattern().with(RAX, selector::TASK);
    let context = Context::new(&code!("ltr ax"), busy);
    faults(context, exception::PROTECTION, of_selector(selector::TASK))
}

fn far_jumps(_: &Machine) -> Verdict {
    let code = code!(".byte 0x48, 0xff, 0x2f");
    for (name, selector) in [
        ("null", 0),
        ("data", selector::DATA),
        ("ring 3", selector::USER_CODE),
        ("beyond the table", selector::BEYOND),
        ("of a local table", 0x0c),
    ] {
        let context = Context::new(&code, far_pointer(0x1000, selector));
        let error = of_selector(selector);
        let error = if selector & 4 == 4 { error | 4 } else { error };
        case(name, faults(context, exception::PROTECTION, error))?;
    }
    let offset = NOT_CANONICAL as u64;
    let context = Context::new(&code, far_pointer(offset, selector::CODE));
    survives(context)
}

/// IRET does not return to another task in 64-bit mode.
fn nested_task(_: &Machine) -> Verdict {
    const NT: usize = 1 << 14;
    let data = paging::data().address();
    let regs = Regs::pattern().with(RSP, data + 256);
    let context = Context::new(&code!("iretq"), regs).flags(NT, NT);
    faults(context, exception::PROTECTION, 0)
}

/// A trap like a breakpoint's, to the vector of debug exceptions.
fn icebp(_: &Machine) -> Verdict {
    let code = code!(".byte 0xf1");
    let regs = Regs::pattern();
    let trap = super::expect::traps_at(Context::new(&code, regs), code.end, exception::DEBUG, 0)?;
    equal("rip", Hex(trap.pc), Hex(code.end))
}

/// Memory that is filled on first touch is touched first by a device's string, by a stack, by an exchange.
fn lazy_memory(machine: &Machine) -> Verdict {
    const LAZY: usize = 0x1000_0000;
    const LARGE: usize = 2 << 20;
    if !machine.has_ram_at(LAZY) {
        return skip("there is no RAM at 256 MiB");
    }
    uart::write(uart::SCR, 0x5a);
    let port = usize::from(uart::BASE + uart::SCR);
    // Over the boundary between two pages, however large they are.
    let start = LAZY + LARGE - 3;
    let regs = Regs::pattern()
        .with(RDX, port)
        .with(RDI, start)
        .with(RCX, 6);
    let after = regs.with(RDI, start + 6).with(RCX, 0);
    same_registers(&completes(&code!("rep insb"), regs)?, &after)?;
    let read = |at: usize| {
        let after = completes(&code!("mov rax, [rdi]"), Regs::pattern().with(RDI, at));
        after.map(|after| after[RAX])
    };
    equal("first", Hex(read(start)?), Hex(0x5a5a_5a5a_5a5a))?;
    equal("before", Hex(read(start - 8)?), Hex(0))?;
    let regs = Regs::pattern().with(RSP, LAZY + 0x8000);
    same_registers(
        &completes(&code!("push rax", "pop rbx"), regs)?,
        &regs.with(RBX, regs[RAX]),
    )
}
