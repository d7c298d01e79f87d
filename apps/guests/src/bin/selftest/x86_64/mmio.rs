//! Access to devices in memory: every register and form of instruction, with the right extension of
//! what is read.

use core::sync::atomic::Ordering;

use guests::arch::context::reg::{RAX, RBX, RCX, RDI, RDX, RSI};
use guests::arch::context::{Code, Context, Mode, Regs};
use guests::arch::lapic::register::INITIAL_COUNT;
use guests::arch::{Machine, lapic, msr};
use guests::code;
use guests::report::{Hex, Verdict, case, equal, skip};

use super::Check;
use super::expect::{changes, changes_nothing, completed, completes, each, same_registers};
use super::paging::{self, APIC, Paging, USER_CODE};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("mmio.load_into_every_register", load_into_every_register),
    Check::new(
        "mmio.load_through_every_register",
        load_through_every_register,
    ),
    Check::new("mmio.store_from_every_register", store_from_every_register),
    Check::new("mmio.store_immediate", store_immediate),
    Check::new("mmio.sign_extension", sign_extension),
    Check::new("mmio.addresses", addresses),
    Check::new("mmio.segment", segment),
    Check::new("mmio.paged", paged),
    Check::new("mmio.user", user),
    Check::new("mmio.arithmetic", arithmetic),
    Check::new("mmio.read_modify_write", read_modify_write),
    Check::new("mmio.exchange", exchange),
    Check::new("mmio.string", string),
    Check::as_guest("mmio.hole_load", "QEMU reads zeros", hole_load),
    Check::as_guest("mmio.hole_store", "there may be a device", hole_store),
    Check::as_guest("mmio.hole_arithmetic", "QEMU reads zeros", hole_arithmetic),
    Check::as_guest("mmio.hole_string", "QEMU reads zeros", hole_string),
    Check::as_guest("mmio.beyond_ram", "QEMU reads zeros", beyond_ram),
];

/// A register that keeps 32 bits, and does nothing as long as the timer is masked.
const WORD: usize = lapic::BASE + INITIAL_COUNT as usize;
/// An address where no device is.
const HOLE: usize = 0xfed9_0000;

fn word() -> u32 {
    lapic::read(INITIAL_COUNT)
}

fn set_word(value: u32) {
    lapic::write(INITIAL_COUNT, value);
}

/// 16 parts: the same instruction with each register in one of its places, in bytes.
macro_rules! for_every_register {
    ($($line:literal),+) => {
        code!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            $($line,)+
            "int3",
            ".balign 16, 0xcc",
            ".endr",
        )
    };
}

fn load_into_every_register(_: &Machine) -> Verdict {
    // mov r, [rdi]
    let codes = for_every_register!(".byte 0x40 | (\\n >> 3) << 2, 0x8b, (\\n & 7) << 3 | 7");
    let regs = Regs::pattern().with(RDI, WORD);
    for n in 0..16 {
        let value = 0x8765_4320 + n;
        set_word(value as u32);
        case("mov", changes(&codes.part(n, 3), regs, n, value))?;
    }
    Ok(())
}

fn load_through_every_register(_: &Machine) -> Verdict {
    // mov eax, [r + 0x1234]
    let codes = for_every_register!(
        ".byte 0x40 | \\n >> 3, 0x8b, 0x84, 0x20 | (\\n & 7)",
        ".long 0x1234"
    );
    for n in 0..16 {
        let value = 0x8765_4320 + n;
        set_word(value as u32);
        let regs = Regs::pattern().with(n, WORD - 0x1234);
        case("mov", changes(&codes.part(n, 8), regs, RAX, value))?;
    }
    Ok(())
}

fn store_from_every_register(_: &Machine) -> Verdict {
    // mov [rdi], r
    let codes = for_every_register!(".byte 0x40 | (\\n >> 3) << 2, 0x89, (\\n & 7) << 3 | 7");
    let regs = Regs::pattern().with(RDI, WORD);
    for n in 0..16 {
        case("mov", changes_nothing(&codes.part(n, 3), regs))?;
        let what = format_args!("register {n}");
        equal(what, Hex(word() as usize), Hex(regs[n] & 0xffff_ffff))?;
    }
    Ok(())
}

fn store_immediate(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RDI, WORD);
    changes_nothing(&code!("mov dword ptr [rdi], 0x89abcdef"), regs)?;
    equal("stored", Hex(word() as usize), Hex(0x89ab_cdef))
}

fn sign_extension(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RDI, WORD);
    for value in [0x8000_0001_u32, 0x7fff_ffff] {
        set_word(value);
        let extended = i64::from(value.cast_signed()) as usize;
        let code = code!("movsxd rax, dword ptr [rdi]");
        case("movsxd", changes(&code, regs, RAX, extended))?;
    }
    Ok(())
}

/// The address is what the instruction computes.
fn addresses(_: &Machine) -> Verdict {
    set_word(0x1357_9bdf);
    let regs = Regs::pattern().with(RCX, 8).with(RSI, WORD / 8 - 1);
    for (name, code, rdi) in [
        ("disp8", code!("mov eax, [rdi - 128]"), WORD + 128),
        ("index", code!("mov eax, [rdi + rcx*8 + 1]"), WORD - 65),
        ("index alone", code!("mov eax, [rsi*8 + 8]"), 0),
        (
            "negative",
            code!("mov eax, [rdi - 0x12345678]"),
            WORD + 0x1234_5678,
        ),
        ("absolute", code!(".byte 0xa1; .quad 0xfee00380"), 0),
        (
            "32 bits",
            code!("mov eax, [edi + 0x100]"),
            7 << 32 | (WORD - 0x100),
        ),
        (
            "wrapped",
            code!("mov eax, [edi + 0x7fffffff]"),
            WORD - 0x7fff_ffff,
        ),
    ] {
        let got = changes(&code, regs.with(RDI, rdi), RAX, 0x1357_9bdf);
        case(name, got)?;
    }
    changes_nothing(&code!(".byte 0xa3; .quad 0xfee00380"), regs)?;
    equal("stored", Hex(word() as usize), Hex(regs[RAX] & 0xffff_ffff))
}

/// FS and GS have bases.
fn segment(_: &Machine) -> Verdict {
    set_word(0x2468_ace0);
    let regs = Regs::pattern().with(RDI, 0x300);
    for (name, register, code) in [
        ("fs", msr::FS_BASE, code!("mov eax, fs:[rdi]")),
        ("gs", msr::GS_BASE, code!("mov eax, gs:[rdi]")),
    ] {
        // SAFETY: this program uses neither segment.
        unsafe { msr::write(register, (WORD - 0x300) as u64) }
        let got = changes(&code, regs, RAX, 0x2468_ace0);
        // SAFETY: as before.
        unsafe { msr::write(register, 0) }
        case(name, got)?;
    }
    Ok(())
}

/// A device at another virtual address, accessed by code at another, too.
fn paged(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    set_word(0x0246_8ace);
    let regs = Regs::pattern().with(RDI, APIC + INITIAL_COUNT as usize);
    let code = code!("mov eax, [rdi]", "add eax, 1", "mov [rdi], eax").seen_at(USER_CODE);
    changes(&code, regs, RAX, 0x0246_8acf)?;
    equal("stored", Hex(word() as usize), Hex(0x0246_8acf))
}

fn user(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    set_word(0x0369_cf25);
    let code = code!("mov eax, [rdi]", "add eax, 1", "mov [rdi], eax").seen_at(USER_CODE);
    let regs = Regs::pattern().with(RDI, APIC + INITIAL_COUNT as usize);
    let after = completed(Context::new(&code, regs).mode(Mode::User), &code)?;
    same_registers(&after, &regs.with(RAX, 0x0369_cf26))?;
    equal("stored", Hex(word() as usize), Hex(0x0369_cf26))
}

/// Instructions that compute with what they read.
fn arithmetic(_: &Machine) -> Verdict {
    const VALUE: usize = 0x8421_1248;
    set_word(VALUE as u32);
    let regs = Regs::pattern()
        .with(RDI, WORD)
        .with(RAX, 0x1111_1111)
        .with(RBX, 0);
    for (name, code, rax, rbx) in [
        ("add", code!("add eax, [rdi]"), VALUE + 0x1111_1111, 0),
        ("or", code!("or eax, [rdi]"), VALUE | 0x1111_1111, 0),
        ("and", code!("and eax, [rdi]"), VALUE & 0x1111_1111, 0),
        ("xor", code!("xor eax, [rdi]"), VALUE ^ 0x1111_1111, 0),
        ("cmp", code!("cmp [rdi], eax", "seta bl"), 0x1111_1111, 1),
        (
            "cmp same",
            code!("cmp dword ptr [rdi], 0x84211248", "sete bl"),
            0x1111_1111,
            1,
        ),
        ("test", code!("test [rdi], eax", "setnz bl"), 0x1111_1111, 1),
        (
            "test sign",
            code!("test dword ptr [rdi], 0x80000000", "sets bl"),
            0x1111_1111,
            1,
        ),
    ] {
        let expected = regs.with(RAX, rax).with(RBX, rbx);
        let after = case(name, completes(&code, regs))?;
        case(name, same_registers(&after, &expected))?;
    }
    equal("afterwards", Hex(word() as usize), Hex(VALUE))
}

/// Instructions that write what they computed.
fn read_modify_write(_: &Machine) -> Verdict {
    const VALUE: u32 = 0x4231_8421;
    let regs = Regs::pattern().with(RDI, WORD).with(RAX, 0x1111_1111);
    for (name, code, expected) in [
        ("add", code!("add [rdi], eax"), VALUE + 0x1111_1111),
        ("or", code!("or [rdi], eax"), VALUE | 0x1111_1111),
        ("and", code!("and [rdi], eax"), VALUE & 0x1111_1111),
        ("xor", code!("xor [rdi], eax"), VALUE ^ 0x1111_1111),
        ("or imm", code!("or dword ptr [rdi], 6"), VALUE | 6),
        ("and imm", code!("and dword ptr [rdi], -256"), VALUE & !0xff),
        ("lock or", code!("lock or [rdi], eax"), VALUE | 0x1111_1111),
    ] {
        set_word(VALUE);
        case(name, changes_nothing(&code, regs))?;
        case(
            name,
            equal("stored", Hex(word() as usize), Hex(expected as usize)),
        )?;
    }
    Ok(())
}

fn exchange(_: &Machine) -> Verdict {
    set_word(0x1234_4321);
    let regs = Regs::pattern().with(RDI, WORD);
    changes(&code!("xchg [rdi], eax"), regs, RAX, 0x1234_4321)?;
    equal("stored", Hex(word() as usize), Hex(regs[RAX] & 0xffff_ffff))
}

/// From a device to memory and back.
fn string(_: &Machine) -> Verdict {
    let data = paging::data();
    let memory = data.address();
    let stored = |at: usize| data.0[at].load(Ordering::Relaxed) as usize;
    set_word(0x1122_3344);
    let regs = Regs::pattern().with(RCX, 1);
    let into = regs.with(RSI, WORD).with(RDI, memory);
    case(
        "movsd",
        moved(
            &code!("movsd"),
            into,
            into.with(RSI, WORD + 4).with(RDI, memory + 4),
        ),
    )?;
    equal("movsd", Hex(stored(0) & 0xffff_ffff), Hex(0x1122_3344))?;
    let after = into.with(RSI, WORD + 4).with(RDI, memory + 4).with(RCX, 0);
    case("rep movsd", moved(&code!("rep movsd"), into, after))?;
    let lods = into.with(RSI, WORD + 4).with(RAX, 0x1122_3344);
    case("lodsd", moved(&code!("lodsd"), into, lods))?;
    let store = regs.with(RDI, WORD).with(RAX, 0x5566_7788);
    case(
        "stosd",
        moved(&code!("stosd"), store, store.with(RDI, WORD + 4)),
    )?;
    equal("stosd", Hex(word() as usize), Hex(0x5566_7788))?;
    data.0[0].store(0x0f0e_0d0c, Ordering::Relaxed);
    let out = regs.with(RSI, memory).with(RDI, WORD);
    let after = out.with(RSI, memory + 4).with(RDI, WORD + 4);
    case("movsd out", moved(&code!("movsd"), out, after))?;
    equal("movsd out", Hex(word() as usize), Hex(0x0f0e_0d0c))
}

fn moved(code: &Code, regs: Regs, expected: Regs) -> Verdict {
    same_registers(&completes(code, regs)?, &expected)
}

/// Where nobody answers, all bits read as one.
fn ones(address: usize) -> Verdict {
    let regs = Regs::pattern().with(RDI, address);
    let rax = regs[RAX];
    for (name, code, expected) in [
        ("mov byte", code!("mov al, [rdi]"), rax | 0xff),
        ("mov word", code!("mov ax, [rdi]"), rax | 0xffff),
        ("mov dword", code!("mov eax, [rdi]"), 0xffff_ffff),
        ("mov qword", code!("mov rax, [rdi]"), usize::MAX),
        ("movzx byte", code!("movzx eax, byte ptr [rdi]"), 0xff),
        ("movzx word", code!("movzx rax, word ptr [rdi]"), 0xffff),
        (
            "movsx byte to word",
            code!("movsx ax, byte ptr [rdi]"),
            rax | 0xffff,
        ),
        (
            "movsx byte",
            code!("movsx eax, byte ptr [rdi]"),
            0xffff_ffff,
        ),
        ("movsx word", code!("movsx rax, word ptr [rdi]"), usize::MAX),
        ("movsxd", code!("movsxd rax, dword ptr [rdi]"), usize::MAX),
        ("misaligned", code!("mov eax, [rdi + 3]"), 0xffff_ffff),
    ] {
        case(name, changes(&code, regs, RAX, expected))?;
    }
    let code = code!("mov ah, [rdi]");
    case("mov ah", changes(&code, regs, RAX, rax | 0xff00))
}

fn hole_load(_: &Machine) -> Verdict {
    ones(HOLE)
}

fn hole_store(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RDI, HOLE);
    for (name, code) in each![
        "mov [rdi], al",
        "mov [rdi], ah",
        "mov [rdi], ax",
        "mov [rdi], eax",
        "mov [rdi], rax",
        "mov byte ptr [rdi], 7",
        "mov word ptr [rdi], 7",
        "mov dword ptr [rdi], 7",
        "mov qword ptr [rdi], -7",
        "or byte ptr [rdi], 7",
        "add [rdi], rax",
    ] {
        case(name, changes_nothing(&code, regs))?;
    }
    Ok(())
}

fn hole_arithmetic(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RDI, HOLE).with(RBX, 0);
    for (name, code) in each![
        "cmp byte ptr [rdi], -1; sete bl",
        "cmp word ptr [rdi], -1; sete bl",
        "cmp qword ptr [rdi], -1; sete bl",
        "test byte ptr [rdi], 0x80; setnz bl",
    ] {
        case(name, changes(&code, regs, RBX, 1))?;
    }
    changes(&code!("and rax, [rdi]"), regs, RAX, regs[RAX])?;
    changes(&code!("xchg [rdi], dl"), regs, RDX, regs[RDX] | 0xff)
}

fn hole_string(_: &Machine) -> Verdict {
    let data = paging::data();
    for word in &data.0[..3] {
        word.store(0, Ordering::Relaxed);
    }
    let memory = data.address();
    let regs = Regs::pattern()
        .with(RSI, HOLE)
        .with(RDI, memory)
        .with(RCX, 9);
    let after = regs.with(RSI, HOLE + 9).with(RDI, memory + 9).with(RCX, 0);
    moved(&code!("rep movsb"), regs, after)?;
    let expected = [u64::MAX, 0xff, 0];
    for (n, expected) in expected.into_iter().enumerate() {
        let got = data.0[n].load(Ordering::Relaxed);
        equal("moved", Hex(got as usize), Hex(expected as usize))?;
    }
    let regs = Regs::pattern().with(RDI, HOLE).with(RCX, 5);
    let after = regs.with(RDI, HOLE + 20).with(RCX, 0);
    moved(&code!("rep stosd"), regs, after)
}

/// The first byte that is not RAM.
fn beyond_ram(machine: &Machine) -> Verdict {
    match machine.ram_end() {
        Some(end) => ones(end),
        None => skip("the loader does not say where RAM ends"),
    }
}
