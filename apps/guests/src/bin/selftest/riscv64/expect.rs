//! What a check expects of a snippet: that it completes, and with which registers, or that it
//! traps, and how.

use guests::arch::context::{Code, Context, Regs, Trap, exception};
use guests::arch::csr;
use guests::report::{Hex, Miss, Verdict, Words, equal, holds, one_of};

/// An address in the middle of a hole: nothing is there on QEMU's `virt` machine or in AxHV's VMs.
pub(crate) const HOLE: usize = 0x0900_0000;

/// Snippets of one line each, with their text: `[(&str, Code); n]`.
macro_rules! each {
    ($($line:literal),+ $(,)?) => { [$(($line, guests::code!($line))),+] };
}
/// As `each!`, of compressed instructions.
macro_rules! each_compressed {
    ($($line:literal),+ $(,)?) => { [$(($line, guests::code!(".option rvc", $line))),+] };
}
pub(crate) use {each, each_compressed};

/// The trap is the `ebreak` at the end of the code.
pub(crate) fn at_end(trap: Trap, code: &Code) -> Verdict {
    equal("scause", Hex(trap.cause), Hex(exception::BREAKPOINT))?;
    equal("sepc", Hex(trap.pc), Hex(code.end))
}

/// The context runs to the end of its code; its registers there.
pub(crate) fn completed(mut context: Context, code: &Code) -> Result<Regs, Miss> {
    at_end(context.run(), code)?;
    Ok(context.regs)
}

/// The code runs to its end in supervisor mode; its registers there.
pub(crate) fn completes(code: &Code, regs: Regs) -> Result<Regs, Miss> {
    completed(Context::new(code, regs), code)
}

/// Every register but the PC is as expected.
pub(crate) fn same_registers(got: &Regs, expected: &Regs) -> Verdict {
    let equal_one = |n| equal(format_args!("x{n}"), Hex(got[n]), Hex(expected[n]));
    got.difference(expected).map_or(Ok(()), equal_one)
}

/// The code runs to its end and changes one register to a value, and no other.
pub(crate) fn changes(code: &Code, regs: Regs, register: usize, value: usize) -> Verdict {
    let after = completes(code, regs)?;
    same_registers(&after, &regs.with(register, value))
}

/// For `traps`: `stval` does not matter.
pub(crate) const ANY: &[usize] = &[];

/// The context's first instruction traps, for one of the `causes`, with one of the `values` in
/// `stval`. It changes no register, and `sstatus.SPP` tells its mode.
pub(crate) fn traps(context: Context, causes: &[usize], values: &[usize]) -> Verdict {
    let pc = context.regs[0];
    traps_at(context, pc, causes, values)
}

/// As `traps`, but for the PC, which is not the context's first.
pub(crate) fn traps_at(
    mut context: Context,
    pc: usize,
    causes: &[usize],
    values: &[usize],
) -> Verdict {
    let (before, mode) = (context.regs, context.status & csr::SSTATUS_SPP);
    let trap = context.run();
    one_of("scause", Hex(trap.cause), causes.iter().copied().map(Hex))?;
    equal("sepc", Hex(trap.pc), Hex(pc))?;
    if !values.is_empty() {
        one_of("stval", Hex(trap.value), values.iter().copied().map(Hex))?;
    }
    let spp = context.status & csr::SSTATUS_SPP;
    holds(
        "sstatus.SPP",
        spp == mode,
        Hex(spp),
        Words("the mode before the trap"),
    )?;
    same_registers(&context.regs, &before)
}

/// The context's first instruction, that of `code`, is illegal: `stval` is zero or its bits.
pub(crate) fn illegal(context: Context, code: &Code) -> Verdict {
    // SAFETY: a snippet is readable, and an `ebreak` follows its first instruction.
    let bits = unsafe { (code.start as *const u32).read_unaligned() } as usize;
    let bits = if bits & 3 == 3 { bits } else { bits & 0xffff };
    traps(context, &[exception::ILLEGAL], &[0, bits])
}
