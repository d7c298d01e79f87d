//! The floating-point and vector registers keep their values whatever the CPU does in between, and
//! the control registers decide whether they can be used.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guests::arch::Machine;
use guests::arch::context::reg::{RAX, RBX, RCX, RDI, RDX, RSI};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::cpu::{CR0_TS, CR4_OSXSAVE, Feature};
use guests::report::{Hex, Verdict, case, equal, skip};
use guests::{code, read_cr, write_cr};

use super::Check;
use super::expect::{changes_nothing, completes, each, faults};
use super::registers::leave_often;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("vector.x87_kept", x87_kept),
    Check::new("vector.sse_kept", sse_kept),
    Check::new("vector.avx_kept", avx_kept),
    Check::new("vector.avx512_kept", avx512_kept),
    Check::new("vector.task_switched", task_switched),
    Check::new("vector.emulated", emulated),
    Check::new("vector.saved_size", saved_size),
    Check::new("vector.saved", saved),
];

/// 32 registers of 512 bits.
#[repr(align(64))]
struct Registers([AtomicU64; 32 * 8]);

static BEFORE: Registers = Registers([const { AtomicU64::new(0) }; _]);
static AFTER: Registers = Registers([const { AtomicU64::new(0) }; _]);

/// Loads registers with a pattern, does everything that leaves the CPU, and stores them.
fn kept(machine: &Machine, load: &Code, store: &Code, words: usize) -> Verdict {
    for (n, word) in BEFORE.0.iter().enumerate() {
        let pattern = 0x4142_2418_8142_2418_u64.rotate_left(n as u32) ^ n as u64;
        word.store(pattern, Ordering::Relaxed);
    }
    let regs = Regs::ZERO.with(RSI, BEFORE.0.as_ptr().addr());
    changes_nothing(load, regs)?;
    leave_often(machine);
    let regs = Regs::ZERO.with(RDI, AFTER.0.as_ptr().addr());
    changes_nothing(store, regs)?;
    for (n, (before, after)) in BEFORE.0.iter().zip(&AFTER.0).take(words).enumerate() {
        let [after, before] =
            [after, before].map(|word| Hex(word.load(Ordering::Relaxed) as usize));
        equal(format_args!("word {n}"), after, before)?;
    }
    Ok(())
}

fn x87_kept(machine: &Machine) -> Verdict {
    static CONTROL: AtomicU32 = AtomicU32::new(0);
    let control = |value: u32, code: &Code| {
        CONTROL.store(value, Ordering::Relaxed);
        changes_nothing(code, Regs::ZERO.with(RBX, CONTROL.as_ptr().addr()))
    };
    control(0x0a7f, &code!("fninit", "fldcw [rbx]"))?;
    let load = code!(
        ".irp n, 7, 6, 5, 4, 3, 2, 1, 0",
        "fild qword ptr [rsi + 8*\\n]",
        ".endr"
    );
    let store = code!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
        "fistp qword ptr [rdi + 8*\\n]",
        ".endr"
    );
    kept(machine, &load, &store, 8)?;
    control(0, &code!("fnstcw [rbx]"))?;
    let word = CONTROL.load(Ordering::Relaxed) as usize;
    control(0, &code!("fninit"))?;
    equal("control word", Hex(word), Hex(0x0a7f))
}

fn sse_kept(machine: &Machine) -> Verdict {
    static CONTROL: AtomicU32 = AtomicU32::new(0);
    let control = |value: u32, code: &Code| {
        CONTROL.store(value, Ordering::Relaxed);
        changes_nothing(code, Regs::ZERO.with(RBX, CONTROL.as_ptr().addr()))
    };
    control(0x7fa5, &code!("ldmxcsr [rbx]"))?;
    let load = code!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movups xmm\\n, [rsi + 16*\\n]",
        ".endr"
    );
    let store = code!(
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movups [rdi + 16*\\n], xmm\\n",
        ".endr"
    );
    kept(machine, &load, &store, 32)?;
    control(0, &code!("stmxcsr [rbx]"))?;
    let word = CONTROL.load(Ordering::Relaxed) as usize;
    control(0x1f80, &code!("ldmxcsr [rbx]"))?;
    equal("mxcsr", Hex(word), Hex(0x7fa5))
}

/// Runs a check with CR4.OSXSAVE set; afterwards XCR0 is as at first.
pub(super) fn with_xsave(check: impl FnOnce() -> Verdict) -> Verdict {
    if !Feature::Xsave.is_there() {
        return skip("no XSAVE");
    }
    let before = read_cr!("cr4");
    // SAFETY: this program uses no registers of that kind.
    unsafe { write_cr!("cr4", before | CR4_OSXSAVE) }
    let verdict = check();
    let reset = set_features(1);
    // SAFETY: as it was.
    unsafe { write_cr!("cr4", before) }
    verdict.and(reset)
}

/// Writes XCR0.
fn set_features(xcr0: usize) -> Verdict {
    let regs = Regs::pattern().with(RCX, 0).with(RAX, xcr0).with(RDX, 0);
    case("xsetbv", changes_nothing(&code!("xsetbv"), regs))
}

fn avx_kept(machine: &Machine) -> Verdict {
    if !Feature::Avx.is_there() {
        return skip("no AVX");
    }
    with_xsave(|| {
        set_features(0b111)?;
        let load = code!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "vmovups ymm\\n, [rsi + 32*\\n]",
            ".endr"
        );
        let store = code!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "vmovups [rdi + 32*\\n], ymm\\n",
            ".endr"
        );
        kept(machine, &load, &store, 64)
    })
}

fn avx512_kept(machine: &Machine) -> Verdict {
    const AVX512: usize = 0b1110_0111;
    if supported_features() & AVX512 != AVX512 {
        return skip("no AVX-512");
    }
    with_xsave(|| {
        set_features(AVX512)?;
        let load = code!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, \
             22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "vmovups zmm\\n, [rsi + 64*\\n]",
            ".endr"
        );
        let store = code!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, \
             22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "vmovups [rdi + 64*\\n], zmm\\n",
            ".endr"
        );
        kept(machine, &load, &store, 256)
    })
}

/// The features that XCR0 can have.
fn supported_features() -> usize {
    if !Feature::Xsave.is_there() {
        return 0;
    }
    guests::arch::cpu::cpuid(0xd, 0).a as usize
}

/// Runs a check with a bit of CR0 set.
fn with_cr0(bit: usize, check: impl FnOnce() -> Verdict) -> Verdict {
    let before = read_cr!("cr0");
    // SAFETY: this program uses no registers of that kind.
    unsafe { write_cr!("cr0", before | bit) }
    let verdict = check();
    // SAFETY: as it was.
    unsafe { write_cr!("cr0", before) }
    verdict
}

fn task_switched(_: &Machine) -> Verdict {
    with_cr0(CR0_TS, || {
        for (name, code) in each!["fld1", "movups xmm0, xmm1", "ldmxcsr [rsi]", "fwait"] {
            let regs = Regs::pattern().with(RSI, BEFORE.0.as_ptr().addr());
            let context = Context::new(&code, regs);
            case(name, faults(context, exception::NO_DEVICE, 0))?;
        }
        Ok(())
    })
}

fn emulated(_: &Machine) -> Verdict {
    const EM: usize = 1 << 2;
    with_cr0(EM, || {
        let x87 = Context::new(&code!("fld1"), Regs::pattern());
        case("fld1", faults(x87, exception::NO_DEVICE, 0))?;
        let sse = Context::new(&code!("movups xmm0, xmm1"), Regs::pattern());
        case("movups", faults(sse, exception::INVALID_OPCODE, 0))
    })
}

/// CPUID tells how much XSAVE needs of what is on.
fn saved_size(_: &Machine) -> Verdict {
    with_xsave(|| {
        const LEGACY: usize = 576;
        for (features, expected) in [(1, LEGACY), (3, LEGACY), (7, LEGACY + 256)] {
            if supported_features() & features != features {
                continue;
            }
            set_features(features)?;
            let size = guests::arch::cpu::cpuid(0xd, 0).b as usize;
            equal(format_args!("XCR0 {features}"), size, expected)?;
        }
        Ok(())
    })
}

/// XSAVE writes what is in use and says so.
fn saved(_: &Machine) -> Verdict {
    with_xsave(|| {
        set_features(0b11)?;
        for word in &AFTER.0 {
            word.store(0, Ordering::Relaxed);
        }
        let code = code!("movups xmm3, [rsi]", "xsave64 [rdi]");
        let regs = Regs::ZERO
            .with(RSI, BEFORE.0.as_ptr().addr())
            .with(RDI, AFTER.0.as_ptr().addr())
            .with(RAX, 0b11);
        completes(&code, regs)?;
        const XMM3: usize = (160 + 3 * 16) / 8;
        const STATE: usize = 512 / 8;
        let word = |words: &Registers, n: usize| Hex(words.0[n].load(Ordering::Relaxed) as usize);
        equal("xmm3", word(&AFTER, XMM3), word(&BEFORE, 0))?;
        let state = AFTER.0[STATE].load(Ordering::Relaxed) & 0b10;
        equal("state", state, 0b10)
    })
}
