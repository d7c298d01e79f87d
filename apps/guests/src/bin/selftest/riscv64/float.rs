//! The floating-point registers keep their values whatever the hart does in between, and
//! `sstatus.FS` decides whether they can be used.

use core::sync::atomic::{AtomicU64, Ordering};

use guests::arch::context::reg::{A0, A1, A2};
use guests::arch::context::{Context, Regs, exception};
use guests::arch::{Machine, csr, sbi, uart};
use guests::code;
use guests::report::{Hex, Verdict, case, equal, skip};

use super::Check;
use super::expect::{HOLE, completed, each, illegal, traps};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("float.off", off),
    Check::new("float.becomes_dirty", becomes_dirty),
    Check::new("float.kept", kept),
    Check::new("float.hole", hole),
];

const OFF: usize = 0;
const CLEAN: usize = 2 << 13;
const DIRTY: usize = 3 << 13;
/// `sstatus.SD`: some extension's state is dirty.
const SD: usize = 1 << 63;

type Registers = [AtomicU64; 32];

fn has_double(machine: &Machine) -> Verdict {
    if machine.has("d") {
        Ok(())
    } else {
        skip("no D extension")
    }
}

fn off(machine: &Machine) -> Verdict {
    has_double(machine)?;
    for (name, code) in each![
        ".insn r 0x53, 7, 0x01, x0, x0, x0", // fadd.d f0, f0, f0
        ".insn i 0x07, 3, x0, 0(a1)",        // fld f0, 0(a1)
        "csrr a0, 0x003",                    // fcsr
    ] {
        let context = Context::new(&code, Regs::pattern()).status(csr::SSTATUS_FS, OFF);
        case(name, illegal(context, &code))?;
    }
    Ok(())
}

fn becomes_dirty(machine: &Machine) -> Verdict {
    has_double(machine)?;
    let code = code!(".option arch, +d", "fmv.d.x f1, a0");
    let mut context = Context::new(&code, Regs::pattern()).status(csr::SSTATUS_FS, CLEAN);
    equal("scause", context.run().cause, exception::BREAKPOINT)?;
    let bits = csr::SSTATUS_FS | SD;
    equal(
        "sstatus.FS and SD",
        Hex(context.status & bits),
        Hex(DIRTY | SD),
    )
}

/// Loads every register and `fcsr`, does everything that leaves the guest, and stores them.
fn kept(machine: &Machine) -> Verdict {
    has_double(machine)?;
    static BEFORE: Registers = [const { AtomicU64::new(0) }; 32];
    static AFTER: Registers = [const { AtomicU64::new(0) }; 32];
    for (n, register) in BEFORE.iter().enumerate() {
        register.store(
            0x4142_2418_8142_2418_u64.rotate_left(n as u32),
            Ordering::Relaxed,
        );
    }
    let load = code!(
        ".option arch, +d",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, \
         22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "fld f\\n, 8*\\n(a1)",
        ".endr",
        "csrw fcsr, a2",
    );
    let store = code!(
        ".option arch, +d",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, \
         22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
        "fsd f\\n, 8*\\n(a1)",
        ".endr",
        "csrr a2, fcsr",
    );
    const FCSR: usize = 0b010_10101;
    let regs = Regs::pattern()
        .with(A1, BEFORE.as_ptr().addr())
        .with(A2, FCSR);
    completed(
        Context::new(&load, regs).status(csr::SSTATUS_FS, CLEAN),
        &load,
    )?;
    leave_often(machine);
    let regs = Regs::pattern().with(A1, AFTER.as_ptr().addr());
    let regs = completed(Context::new(&store, regs), &store)?;
    equal("fcsr", Hex(regs[A2]), Hex(FCSR))?;
    for (n, (before, after)) in BEFORE.iter().zip(&AFTER).enumerate() {
        let [after, before] = [after, before].map(|word| word.load(Ordering::Relaxed) as usize);
        equal(format_args!("f{n}"), Hex(after), Hex(before))?;
    }
    Ok(())
}

/// Exits of every kind, short and long: calls, device accesses, timers, sleep.
pub(super) fn leave_often(machine: &Machine) {
    let timer = machine.timer();
    for n in 0..200 {
        sbi::spec_version();
        sbi::send_ipi(0, 0);
        uart::write(uart::SCR, n as u8);
        uart::read(uart::SCR);
        timer.sleep_until(timer.now() + timer.ticks_per_second() / 100_000 * n);
    }
    timer.set(u64::MAX);
}

/// A load into a floating-point register from where nothing is faults like any other.
fn hole(machine: &Machine) -> Verdict {
    has_double(machine)?;
    let on = |code| {
        let regs = Regs::pattern().with(A1, HOLE).with(A0, 0);
        Context::new(code, regs).status(csr::SSTATUS_FS, CLEAN)
    };
    let load = code!(".option arch, +d", "fld f1, 0(a1)");
    case("fld", traps(on(&load), &[exception::LOAD_ACCESS], &[HOLE]))?;
    let store = code!(".option arch, +d", "fsw f1, 0(a1)");
    case(
        "fsw",
        traps(on(&store), &[exception::STORE_ACCESS], &[HOLE]),
    )
}
