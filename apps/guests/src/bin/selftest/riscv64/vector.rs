//! The vector registers keep their values whatever the hart does in between, and `sstatus.VS`
//! decides whether they can be used.

use core::sync::atomic::{AtomicU8, Ordering};

use guests::arch::context::reg::{A0, A1, A2, A3, A4, A5};
use guests::arch::context::{Context, Regs, exception};
use guests::arch::{Machine, csr};
use guests::code;
use guests::report::{Hex, Verdict, case, equal, skip};

use super::Check;
use super::expect::{completed, each, illegal};
use super::float::leave_often;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("vector.off", off),
    Check::new("vector.becomes_dirty", becomes_dirty),
    Check::new("vector.kept", kept),
];

const OFF: usize = 0;
const CLEAN: usize = 2 << 9;
const DIRTY: usize = 3 << 9;

/// Bytes of a vector register at most: 1024 bits.
const LONGEST: usize = 128;

fn has_vector(machine: &Machine) -> Verdict {
    if machine.has("v") {
        Ok(())
    } else {
        skip("no V extension")
    }
}

fn off(machine: &Machine) -> Verdict {
    has_vector(machine)?;
    for (name, code) in each![
        ".insn r 0x57, 7, 0x00, a0, a1, x0", // vsetvli a0, a1, e8, m1
        "csrr a0, 0xc22",                    // vlenb
        "csrr a0, 0x008",                    // vstart
    ] {
        let context = Context::new(&code, Regs::pattern()).status(csr::SSTATUS_VS, OFF);
        case(name, illegal(context, &code))?;
    }
    Ok(())
}

fn becomes_dirty(machine: &Machine) -> Verdict {
    has_vector(machine)?;
    let code = code!(".option arch, +v", "vsetvli a0, a1, e8, m1, ta, ma");
    let mut context = Context::new(&code, Regs::pattern()).status(csr::SSTATUS_VS, CLEAN);
    equal("scause", context.run().cause, exception::BREAKPOINT)?;
    equal(
        "sstatus.VS",
        Hex(context.status & csr::SSTATUS_VS),
        Hex(DIRTY),
    )
}

/// Loads all registers, sets the vector unit's state, leaves the guest in every way, and looks.
fn kept(machine: &Machine) -> Verdict {
    has_vector(machine)?;
    static BEFORE: [AtomicU8; 32 * LONGEST] = [const { AtomicU8::new(0) }; _];
    static AFTER: [AtomicU8; 32 * LONGEST] = [const { AtomicU8::new(0) }; _];
    for (n, byte) in BEFORE.iter().enumerate() {
        byte.store((n * 7 + n / 251 + 1) as u8, Ordering::Relaxed);
    }
    let on = |code, regs| Context::new(code, regs).status(csr::SSTATUS_VS, CLEAN);
    let length = code!("csrr a0, 0xc22");
    let length = completed(on(&length, Regs::ZERO), &length)?[A0];
    if length > LONGEST {
        return skip("vector registers of more than 1024 bits");
    }

    let load = code!(
        ".option arch, +v",
        "slli a3, a0, 3",
        ".irp n, 0, 8, 16, 24",
        "vl8re8.v v\\n, (a1)",
        "add a1, a1, a3",
        ".endr",
        "vsetvli zero, a2, e16, m2, ta, mu",
        "csrwi vxrm, 2",
        "csrwi vxsat, 1",
        "csrwi vstart, 3",
    );
    const ELEMENTS: usize = 5;
    let regs = Regs::ZERO
        .with(A0, length)
        .with(A1, BEFORE.as_ptr().addr())
        .with(A2, ELEMENTS);
    completed(on(&load, regs), &load)?;
    leave_often(machine);
    let state = code!(
        "csrr a2, 0xc20",
        "csrr a3, 0xc21",
        "csrr a4, 0x00f",
        "csrr a5, 0x008"
    );
    let regs = completed(Context::new(&state, Regs::ZERO), &state)?;
    equal("vl", regs[A2], ELEMENTS)?;
    equal("vtype", Hex(regs[A3]), Hex(1 << 6 | 1 << 3 | 1))?;
    equal("vcsr", Hex(regs[A4]), Hex(2 << 1 | 1))?;
    equal("vstart", regs[A5], 3)?;

    let store = code!(
        ".option arch, +v",
        "csrwi vstart, 0",
        "slli a3, a0, 3",
        ".irp n, 0, 8, 16, 24",
        "vs8r.v v\\n, (a1)",
        "add a1, a1, a3",
        ".endr",
    );
    let regs = Regs::ZERO.with(A0, length).with(A1, AFTER.as_ptr().addr());
    completed(Context::new(&store, regs), &store)?;
    for (n, (before, after)) in BEFORE.iter().zip(&AFTER).take(32 * length).enumerate() {
        let [after, before] = [after, before].map(|byte| byte.load(Ordering::Relaxed));
        equal(
            format_args!("v{} byte {}", n / length, n % length),
            after,
            before,
        )?;
    }
    Ok(())
}
