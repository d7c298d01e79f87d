//! Access to devices: every width, register and form of instruction, with the right extension of
//! what is read, and faults where no device answers.

use guests::arch::context::reg::{A0, A1, A2, SP};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::plic::Plic;
use guests::arch::{Machine, uart};
use guests::code;
use guests::report::{Hex, Miss, Verdict, Words, case, equal, holds};

use super::Check;
use super::expect::{
    HOLE, changes, completes, each, each_compressed, same_registers, traps, traps_at,
};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("mmio.byte_extension", byte_extension),
    Check::new("mmio.word_extension", word_extension),
    Check::new("mmio.load_into_every_register", load_into_every_register),
    Check::new(
        "mmio.load_through_every_register",
        load_through_every_register,
    ),
    Check::new("mmio.store_from_every_register", store_from_every_register),
    Check::new("mmio.offsets", offsets),
    Check::new("mmio.compressed_loads", compressed_loads),
    Check::new("mmio.compressed_stores", compressed_stores),
    Check::new("mmio.compressed_stack", compressed_stack),
    Check::new("mmio.bad_width", bad_width),
    Check::new("mmio.misaligned", misaligned),
    Check::new("mmio.hole_load", hole_load),
    Check::new("mmio.hole_store", hole_store),
    Check::new("mmio.hole_atomic", hole_atomic),
    Check::new("mmio.hole_fetch", hole_fetch),
    Check::as_guest(
        "mmio.device_fetch",
        "QEMU executes from devices",
        device_fetch,
    ),
    Check::as_guest(
        "mmio.device_atomic",
        "QEMU does it in two steps",
        device_atomic,
    ),
];

/// Bytes whose extension differs, and the one that a fresh register would hold.
const BYTES: [u8; 4] = [0x80, 0x7f, 0xff, 0x00];

fn scratch() -> usize {
    uart::base() + uart::SCR
}

fn byte_extension(_: &Machine) -> Verdict {
    let (store, lb, lbu) = (
        code!("sb a0, 0(a1)"),
        code!("lb a0, 0(a1)"),
        code!("lbu a0, 0(a1)"),
    );
    let regs = Regs::pattern().with(A1, scratch());
    for byte in BYTES {
        // What is above the byte in the register does not matter.
        let full = regs.with(A0, 0x1234_5678_9abc_de00 | usize::from(byte));
        case("sb", same_registers(&completes(&store, full)?, &full))?;
        case("lb", changes(&lb, regs, A0, i64::from(byte as i8) as usize))?;
        case("lbu", changes(&lbu, regs, A0, usize::from(byte)))?;
        case(
            "lb to x0",
            same_registers(&completes(&code!("lb x0, 0(a1)"), regs)?, &regs),
        )?;
    }
    Ok(())
}

/// A 32-bit register that keeps what is written, with bit 31: the enable bits of the PLIC's
/// sources 0 to 31. The bit of source 0 is no bit.
fn word(machine: &Machine) -> Result<usize, Miss> {
    match machine.plic() {
        Some(plic) if plic.sources >= 31 => Ok(plic.enable()),
        Some(_) => Err(Miss::Skip("the PLIC has less than 31 sources")),
        None => Err(Miss::Skip("no PLIC")),
    }
}

const WORDS: [u32; 4] = [0x8000_0002, 0x7fff_fffe, 0xffff_fffe, 0];

fn word_extension(machine: &Machine) -> Verdict {
    let regs = Regs::pattern().with(A1, word(machine)?);
    let (store, lw, lwu) = (
        code!("sw a0, 0(a1)"),
        code!("lw a0, 0(a1)"),
        code!("lwu a0, 0(a1)"),
    );
    for word in WORDS {
        let full = regs.with(A0, 0x1234_5678_0000_0000 | word as usize);
        case("sw", same_registers(&completes(&store, full)?, &full))?;
        case(
            "lw",
            changes(&lw, regs, A0, i64::from(word as i32) as usize),
        )?;
        case("lwu", changes(&lwu, regs, A0, word as usize))?;
    }
    Ok(())
}

/// 31 parts: the same instruction with each register in one of its places.
macro_rules! for_every_register {
    ($line:literal) => {
        code!(
            ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
             23, 24, 25, 26, 27, 28, 29, 30, 31",
            $line,
            "ebreak",
            ".endr",
        )
    };
}

fn load_into_every_register(_: &Machine) -> Verdict {
    let codes = for_every_register!("lbu x\\n, 0(a1)"); // x11 is also the base
    let regs = Regs::pattern().with(A1, scratch());
    for n in 1..32 {
        let value = 0x80 + n;
        uart::write(uart::SCR, value as u8);
        let loaded = changes(&codes.part(n - 1, 4), regs, n, value);
        case("lbu", loaded)?;
    }
    Ok(())
}

fn load_through_every_register(_: &Machine) -> Verdict {
    let codes = for_every_register!("lbu a0, 0(x\\n)");
    for n in 1..32 {
        let value = 0x80 + n;
        uart::write(uart::SCR, value as u8);
        let regs = Regs::pattern().with(n, scratch());
        case("lbu", changes(&codes.part(n - 1, 4), regs, A0, value))?;
    }
    Ok(())
}

fn store_from_every_register(_: &Machine) -> Verdict {
    let codes = for_every_register!("sb x\\n, 0(a1)");
    let regs = Regs::pattern().with(A1, scratch());
    for n in 1..32 {
        uart::write(uart::SCR, !(regs[n] as u8));
        case(
            "sb",
            same_registers(&completes(&codes.part(n - 1, 4), regs)?, &regs),
        )?;
        equal(
            format_args!("sb x{n}"),
            uart::read(uart::SCR),
            regs[n] as u8,
        )?;
    }
    // x0 is a register to store from, too.
    case("sb x0", completes(&code!("sb x0, 0(a1)"), regs))?;
    equal("sb x0", uart::read(uart::SCR), 0)
}

fn offsets(_: &Machine) -> Verdict {
    for (distance, load, store) in [
        (
            1_usize.wrapping_neg(),
            code!("lbu a0, -1(a1)"),
            code!("sb a2, -1(a1)"),
        ),
        (
            2048_usize.wrapping_neg(),
            code!("lbu a0, -2048(a1)"),
            code!("sb a2, -2048(a1)"),
        ),
        (2047, code!("lbu a0, 2047(a1)"), code!("sb a2, 2047(a1)")),
    ] {
        let base = scratch().wrapping_sub(distance);
        let regs = Regs::pattern().with(A1, base).with(A2, 0x1c3);
        uart::write(uart::SCR, 0x3c);
        changes(&load, regs, A0, 0x3c)?;
        completes(&store, regs)?;
        equal("stored", uart::read(uart::SCR), 0xc3)?;
    }
    Ok(())
}

/// Eight parts: a compressed instruction with each register that three bits can name.
macro_rules! for_every_short_register {
    ($line:literal) => {
        code!(
            ".option rvc",
            ".irp n, 8, 9, 10, 11, 12, 13, 14, 15",
            $line,
            "c.ebreak",
            ".endr",
        )
    };
}

fn compressed_loads(machine: &Machine) -> Verdict {
    let word = word(machine)?;
    let value = store_negative(word)?;
    let into = for_every_short_register!("c.lw x\\n, 0(x11)");
    let through = for_every_short_register!("c.lw x10, 124(x\\n)");
    for n in 8..16 {
        let regs = Regs::pattern().with(A1, word);
        case("c.lw into", changes(&into.part(n - 8, 2), regs, n, value))?;
        let regs = Regs::pattern().with(n, word - 124);
        case(
            "c.lw through",
            changes(&through.part(n - 8, 2), regs, A0, value),
        )?;
    }
    Ok(())
}

fn compressed_stores(machine: &Machine) -> Verdict {
    let word = word(machine)?;
    let from = for_every_short_register!("c.sw x\\n, 64(x11)");
    let through = for_every_short_register!("c.sw x10, 0(x\\n)");
    for n in 8..16 {
        let regs = Regs::pattern().with(A1, word - 64);
        case("c.sw from", stores(&from.part(n - 8, 2), regs, word, n))?;
        let regs = Regs::pattern().with(n, word);
        case(
            "c.sw through",
            stores(&through.part(n - 8, 2), regs, word, A0),
        )?;
    }
    Ok(())
}

/// The code stores a register, and changes none.
fn stores(code: &Code, regs: Regs, word: usize, register: usize) -> Verdict {
    same_registers(&completes(code, regs)?, &regs)?;
    let read = completes(&code!("lwu a0, 0(a1)"), Regs::pattern().with(A1, word))?;
    // Of the bit of source 0 nothing is known.
    equal(
        "stored",
        Hex(read[A0] | 1),
        Hex(regs[register] & 0xffff_ffff | 1),
    )
}

/// Stores a word with bit 31 set; what a load that extends the sign reads.
fn store_negative(word: usize) -> Result<usize, Miss> {
    const VALUE: u32 = 0x8765_4320;
    let regs = Regs::pattern().with(A0, VALUE as usize).with(A1, word);
    completes(&code!("sw a0, 0(a1)"), regs)?;
    Ok(i64::from(VALUE.cast_signed()) as usize)
}

fn compressed_stack(machine: &Machine) -> Verdict {
    let word = word(machine)?;
    let regs = Regs::pattern().with(SP, word - 12);
    let store = code!(".option rvc", "c.swsp a0, 12(sp)");
    case("c.swsp", stores(&store, regs, word, A0))?;
    let loaded = store_negative(word)?;
    let load = code!(".option rvc", "c.lwsp a2, 12(sp)");
    case("c.lwsp", changes(&load, regs, A2, loaded))
}

/// The PLIC has registers of 32 bits, and answers nothing else.
fn bad_width(machine: &Machine) -> Verdict {
    let regs = Regs::pattern().with(A1, word(machine)?);
    for (name, code) in each!["ld a0, 0(a1)", "lh a0, 0(a1)", "lbu a0, 0(a1)"] {
        case(
            name,
            traps(
                Context::new(&code, regs),
                &[exception::LOAD_ACCESS],
                &[regs[A1]],
            ),
        )?;
    }
    for (name, code) in each!["sd a0, 0(a1)", "sh a0, 0(a1)", "sb a0, 0(a1)"] {
        case(
            name,
            traps(
                Context::new(&code, regs),
                &[exception::STORE_ACCESS],
                &[regs[A1]],
            ),
        )?;
    }
    let read = completes(&code!("lwu a0, 0(a1)"), regs)?;
    case(
        "afterwards",
        completes(&code!("sw a0, 0(a1)"), regs.with(A0, read[A0])).map(|_| ()),
    )
}

fn misaligned(machine: &Machine) -> Verdict {
    let address = word(machine)? + 2;
    let regs = Regs::pattern().with(A1, address);
    let causes = [exception::LOAD_MISALIGNED, exception::LOAD_ACCESS];
    traps(
        Context::new(&code!("lw a0, 0(a1)"), regs),
        &causes,
        &[address],
    )?;
    let causes = [exception::STORE_MISALIGNED, exception::STORE_ACCESS];
    traps(
        Context::new(&code!("sw a0, 0(a1)"), regs),
        &causes,
        &[address],
    )
}

fn hole_load(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(A1, HOLE).with(SP, HOLE);
    let plain = each![
        "lb a0, 0(a1)",
        "lbu a0, 0(a1)",
        "lh a0, 0(a1)",
        "lhu a0, 0(a1)",
        "lw a0, 0(a1)",
        "lwu a0, 0(a1)",
        "ld a0, 0(a1)",
    ];
    let short = each_compressed![
        "c.lw a0, 0(a1)",
        "c.ld a0, 0(a1)",
        "c.lwsp a0, 0(sp)",
        "c.ldsp a0, 0(sp)",
    ];
    for (name, code) in plain.into_iter().chain(short) {
        case(
            name,
            traps(
                Context::new(&code, regs),
                &[exception::LOAD_ACCESS],
                &[HOLE],
            ),
        )?;
    }
    // An address is what the instruction computes, not the register.
    let regs = regs.with(A1, HOLE - 40);
    let code = code!(".option rvc", "c.ld a0, 40(a1)");
    traps(
        Context::new(&code, regs),
        &[exception::LOAD_ACCESS],
        &[HOLE],
    )
}

fn hole_store(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(A1, HOLE).with(SP, HOLE);
    let plain = each![
        "sb a0, 0(a1)",
        "sh a0, 0(a1)",
        "sw a0, 0(a1)",
        "sd a0, 0(a1)"
    ];
    let short = each_compressed![
        "c.sw a0, 0(a1)",
        "c.sd a0, 0(a1)",
        "c.swsp a0, 0(sp)",
        "c.sdsp a0, 0(sp)",
    ];
    for (name, code) in plain.into_iter().chain(short) {
        case(
            name,
            traps(
                Context::new(&code, regs),
                &[exception::STORE_ACCESS],
                &[HOLE],
            ),
        )?;
    }
    Ok(())
}

fn hole_atomic(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(A1, HOLE);
    for (name, code) in each!["lr.w a0, (a1)", "lr.d a0, (a1)"] {
        case(
            name,
            traps(
                Context::new(&code, regs),
                &[exception::LOAD_ACCESS],
                &[HOLE],
            ),
        )?;
    }
    for (name, code) in each![
        "amoswap.w a0, a2, (a1)",
        "amoadd.d a0, a2, (a1)",
        "amomaxu.w a0, a2, (a1)",
    ] {
        case(
            name,
            traps(
                Context::new(&code, regs),
                &[exception::STORE_ACCESS],
                &[HOLE],
            ),
        )?;
    }
    // Without a reservation SC fails, and need not look at the address.
    let code = code!("sc.w a0, a2, (a1)");
    let mut context = Context::new(&code, regs);
    if context.run().cause != exception::BREAKPOINT {
        return traps(
            Context::new(&code, regs),
            &[exception::STORE_ACCESS],
            &[HOLE],
        );
    }
    let failed = context.regs[A0] != 0;
    holds("a0 of sc.w", failed, context.regs[A0], Words("a failure"))
}

fn hole_fetch(_: &Machine) -> Verdict {
    let context = Context::new(&code!("jr a1"), Regs::pattern().with(A1, HOLE));
    traps_at(context, HOLE, &[exception::FETCH_ACCESS], &[HOLE])
}

fn device_fetch(machine: &Machine) -> Verdict {
    let plic = machine.plic().map(|plic: Plic| plic.base);
    for address in [Some(uart::base()), plic].into_iter().flatten() {
        let context = Context::new(&code!("jr a1"), Regs::pattern().with(A1, address));
        traps_at(context, address, &[exception::FETCH_ACCESS], &[address])?;
    }
    Ok(())
}

fn device_atomic(machine: &Machine) -> Verdict {
    let word = word(machine)?;
    let regs = Regs::pattern().with(A1, word);
    let lr = Context::new(&code!("lr.w a0, (a1)"), regs);
    case("lr.w", traps(lr, &[exception::LOAD_ACCESS], &[word]))?;
    let amo = Context::new(&code!("amoor.w a0, a2, (a1)"), regs);
    case("amoor.w", traps(amo, &[exception::STORE_ACCESS], &[word]))
}
