//! I/O ports: every width and form of instruction, with registers, memory and faults as they should
//! be.

use core::sync::atomic::Ordering;

use guests::arch::context::reg::{RAX, RCX, RDI, RDX, RSI};
use guests::arch::context::{Code, Context, Mode, Regs, exception};
use guests::arch::cpu::{FLAGS_DF, FLAGS_IOPL};
use guests::arch::{Machine, port, uart};
use guests::code;
use guests::report::{Hex, Verdict, case, equal};

use super::Check;
use super::expect::{changes, changes_nothing, completed, completes, each, faults, same_registers};
use super::paging::{self, ABSENT, DATA, Paging, READ_ONLY, USER_CODE};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("ports.byte", byte),
    Check::new("ports.immediate", immediate),
    Check::new("ports.hole", hole),
    Check::new("ports.hole_string", hole_string),
    Check::new("ports.post_code", post_code),
    Check::new("ports.no_pci_device", no_pci_device),
    Check::new("ports.string_in", string_in),
    Check::new("ports.string_out", string_out),
    Check::new("ports.string_none", string_none),
    Check::new("ports.string_short_address", string_short_address),
    Check::new("ports.string_fault", string_fault),
    Check::new("ports.string_two_pages", string_two_pages),
    Check::new("ports.user", user),
];

const SCRATCH: usize = (uart::BASE + uart::SCR) as usize;
/// Four ports that nobody answers.
const HOLE: usize = 0xe00;

/// `in` changes AL and nothing else, `out` nothing.
fn byte(_: &Machine) -> Verdict {
    for value in [0x80, 0x7f, 0xff, 0x00] {
        let regs = Regs::pattern().with(RDX, 0xdead_0000 | SCRATCH);
        let full = regs.with(RAX, 0x1234_5678_9abc_de00 | value);
        case("out", changes_nothing(&code!("out dx, al"), full))?;
        let expected = regs[RAX] & !0xff | value;
        case("in", changes(&code!("in al, dx"), regs, RAX, expected))?;
    }
    Ok(())
}

/// A port in the instruction: the mask of the first 8259.
fn immediate(_: &Machine) -> Verdict {
    let regs = Regs::pattern();
    for mask in [0xa5, 0xff] {
        let full = regs.with(RAX, 0x1234_5600 | mask);
        changes_nothing(&code!("out 0x21, al"), full)?;
        changes(&code!("in al, 0x21"), regs, RAX, regs[RAX] & !0xff | mask)?;
    }
    Ok(())
}

/// Where nobody answers, all bits read as one, and writes go nowhere.
fn hole(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RDX, HOLE);
    for (name, code) in each!["out dx, al", "out dx, ax", "out dx, eax"] {
        case(name, changes_nothing(&code, regs))?;
    }
    let rax = regs[RAX];
    for (name, code, expected) in [
        ("in al", code!("in al, dx"), rax | 0xff),
        ("in ax", code!("in ax, dx"), rax | 0xffff),
        ("in eax", code!("in eax, dx"), 0xffff_ffff),
        ("rex.w in eax", code!(".byte 0x48, 0xed"), 0xffff_ffff),
    ] {
        case(name, changes(&code, regs, RAX, expected))?;
    }
    Ok(())
}

fn hole_string(_: &Machine) -> Verdict {
    for (name, code, width) in [
        ("insb", code!("rep insb"), 1),
        ("insw", code!("rep insw"), 2),
        ("insd", code!("rep insd"), 4),
    ] {
        let data = paging::data();
        for word in &data.0[..4] {
            word.store(0, Ordering::Relaxed);
        }
        let start = data.address() + 1;
        let regs = Regs::pattern()
            .with(RDX, HOLE)
            .with(RDI, start)
            .with(RCX, 3);
        let after = case(name, completes(&code, regs))?;
        let expected = regs.with(RDI, start + 3 * width).with(RCX, 0);
        case(name, same_registers(&after, &expected))?;
        for at in 0..16 {
            let inside = (1..1 + 3 * width).contains(&at);
            let what = format_args!("byte {at}");
            case(
                name,
                equal(what, byte_at(at), if inside { 0xff } else { 0 }),
            )?;
        }
    }
    Ok(())
}

/// A byte of the data page.
fn byte_at(at: usize) -> u8 {
    let word = paging::data().0[at / 8].load(Ordering::Relaxed);
    word.to_le_bytes()[at % 8]
}

/// Sets the bytes of the data page.
fn fill(byte: impl Fn(usize) -> u8) {
    for (n, word) in paging::data().0.iter().enumerate() {
        let bytes = core::array::from_fn(|k| byte(8 * n + k));
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

fn post_code(_: &Machine) -> Verdict {
    changes_nothing(&code!("out 0x80, al"), Regs::pattern())
}

/// A PCI bus, if there is one, has no device in its last slot.
fn no_pci_device(_: &Machine) -> Verdict {
    port::write(0xcf8, 0x80ff_ff00_u32);
    let vendor: u32 = port::read(0xcfc);
    port::write(0xcf8, 0_u32);
    equal("vendor", Hex(vendor as usize), Hex(0xffff_ffff))
}

fn string_in(_: &Machine) -> Verdict {
    uart::write(uart::SCR, 0xa7);
    fill(|_| 0x55);
    let address = paging::data().address();
    for (name, code, count, flags, step) in [
        ("insb", code!("insb"), 77, 0, 1),
        ("rep insb", code!("rep insb"), 200, 0, 1),
        ("repne insb", code!(".byte 0xf2, 0x6c"), 3, 0, 1),
        ("std rep insb", code!("rep insb"), 100, FLAGS_DF, usize::MAX),
    ] {
        let regs = Regs::pattern()
            .with(RDX, SCRATCH)
            .with(RDI, address + 256)
            .with(RCX, count);
        let context = Context::new(&code, regs).flags(FLAGS_DF, flags);
        let after = case(name, completed(context, &code))?;
        let (times, left) = if name == "insb" {
            (1, count)
        } else {
            (count, 0)
        };
        let end = regs[RDI].wrapping_add(times.wrapping_mul(step));
        let expected = regs.with(RDI, end).with(RCX, left);
        case(name, same_registers(&after, &expected))?;
    }
    // The longest went up to here, and the one downwards down to there.
    for (at, expected) in [(456, 0x55), (455, 0xa7), (157, 0xa7), (156, 0x55)] {
        equal(format_args!("byte {at}"), byte_at(at), expected)?;
    }
    Ok(())
}

fn string_out(_: &Machine) -> Verdict {
    fill(|at| at as u8);
    let address = paging::data().address();
    for (name, code, count, flags, last) in [
        ("outsb", code!("outsb"), 50, 0, 10),
        ("rep outsb", code!("rep outsb"), 50, 0, 59),
        ("std rep outsb", code!("rep outsb"), 4, FLAGS_DF, 7),
    ] {
        let regs = Regs::pattern()
            .with(RDX, SCRATCH)
            .with(RSI, address + 10)
            .with(RCX, count);
        let context = Context::new(&code, regs).flags(FLAGS_DF, flags);
        let after = case(name, completed(context, &code))?;
        let step: usize = if flags == 0 { 1 } else { usize::MAX };
        let (times, left) = if name == "outsb" {
            (1, count)
        } else {
            (count, 0)
        };
        let end = regs[RSI].wrapping_add(step.wrapping_mul(times));
        let expected = regs.with(RSI, end).with(RCX, left);
        case(name, same_registers(&after, &expected))?;
        case(name, equal("last", uart::read(uart::SCR), last))?;
    }
    Ok(())
}

/// No times is no access, even to memory that is not there.
fn string_none(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    uart::write(uart::SCR, 0x3c);
    let regs = Regs::pattern()
        .with(RDX, SCRATCH)
        .with(RSI, ABSENT)
        .with(RDI, ABSENT)
        .with(RCX, 0);
    for (name, code) in each!["rep outsb", "rep insb", "rep insd"] {
        case(name, changes_nothing(&code, regs))?;
    }
    equal("scratch", uart::read(uart::SCR), 0x3c)
}

/// With addresses of 32 bits, the upper halves do not count, and are zero afterwards.
fn string_short_address(_: &Machine) -> Verdict {
    fill(|at| at as u8);
    let address = paging::data().address();
    let upper = 0x7777_7777 << 32;
    let regs = Regs::pattern()
        .with(RDX, SCRATCH)
        .with(RSI, upper | (address + 20))
        .with(RCX, upper | 3);
    let code = code!(".byte 0x67, 0xf3, 0x6e"); // rep outsb
    let after = completes(&code, regs)?;
    same_registers(&after, &regs.with(RSI, address + 23).with(RCX, 0))?;
    equal("last", uart::read(uart::SCR), 22)
}

/// A fault in the middle leaves the registers at the element that caused it.
fn string_fault(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    fill(|at| at as u8);
    const BEFORE: usize = 5;
    for (name, code, register, width, address, error) in [
        ("outsb", code!("rep outsb"), RSI, 1, ABSENT, 0),
        ("insb", code!("rep insb"), RDI, 1, ABSENT, 2),
        ("insd", code!("rep insd"), RDI, 4, ABSENT, 2),
        ("outsd", code!("rep outsd"), RSI, 4, ABSENT, 0),
    ] {
        let port = if width == 1 { SCRATCH } else { HOLE };
        let regs = Regs::pattern()
            .with(RDX, port)
            .with(register, address - BEFORE * width)
            .with(RCX, 20);
        let mut context = Context::new(&code, regs);
        let trap = context.run();
        case(
            name,
            equal("vector", Hex(trap.vector), Hex(exception::PAGE_FAULT)),
        )?;
        case(name, equal("error code", Hex(trap.error), Hex(error)))?;
        case(name, equal("cr2", Hex(trap.address), Hex(address)))?;
        case(name, equal("rip", Hex(trap.pc), Hex(code.start)))?;
        let expected = regs.with(register, address).with(RCX, 20 - BEFORE);
        case(name, same_registers(&context.regs, &expected))?;
    }
    let regs = Regs::pattern().with(RDX, SCRATCH).with(RDI, READ_ONLY);
    super::expect::page_faults(Context::new(&code!("insb"), regs), 3, READ_ONLY)
}

/// An element half in one page and half in another that is not there is not written at all.
fn string_two_pages(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    fill(|_| 0x55);
    let start = ABSENT - 2;
    let regs = Regs::pattern().with(RDX, HOLE).with(RDI, start);
    super::expect::page_faults(Context::new(&code!("insd"), regs), 2, ABSENT)?;
    equal("byte", byte_at(start - DATA), 0x55)
}

/// Ring 3 may use ports as far as IOPL lets it.
fn user(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    let on = |code: &Code, regs| Context::new(&code.seen_at(USER_CODE), regs).mode(Mode::User);
    uart::write(uart::SCR, 0x9d);
    let regs = Regs::pattern()
        .with(RDX, SCRATCH)
        .with(RSI, DATA)
        .with(RDI, DATA);
    for (name, code) in each![
        "in al, dx",
        "out dx, al",
        "in eax, 0x80",
        "insb",
        "rep outsb"
    ] {
        case(name, faults(on(&code, regs), exception::PROTECTION, 0))?;
    }
    equal("scratch", uart::read(uart::SCR), 0x9d)?;
    let code = code!("in al, dx");
    let allowed = on(&code, regs).flags(FLAGS_IOPL, FLAGS_IOPL);
    let after = completed(allowed, &code.seen_at(USER_CODE))?;
    same_registers(&after, &regs.with(RAX, regs[RAX] & !0xff | 0x9d))
}
