//! What a check expects of a snippet: that it completes, and with which registers, or that it
//! traps, and how.

use guests::arch::context::reg::{NAMES, RCX, RIP};
use guests::arch::context::{Code, Context, Interrupts, Mode, Regs, Trap, exception};
use guests::arch::lapic;
use guests::code;
use guests::report::{Hex, Miss, Verdict, equal};

/// Snippets of one line each, with their text: `[(&str, Code); n]`.
macro_rules! each {
    ($($line:literal),+ $(,)?) => { [$(($line, guests::code!($line))),+] };
}
pub(crate) use each;

/// A canonical address's opposite.
pub(crate) const NOT_CANONICAL: usize = 1 << 63;

/// The trap is the INT3 at the end of the code.
pub(crate) fn at_end(trap: Trap, code: &Code) -> Verdict {
    equal("vector", Hex(trap.vector), Hex(exception::BREAKPOINT))?;
    equal("rip", Hex(trap.pc), Hex(code.end + 1))
}

/// The context runs to the end of its code; its registers there.
pub(crate) fn completed(mut context: Context, code: &Code) -> Result<Regs, Miss> {
    at_end(context.run(), code)?;
    Ok(context.regs)
}

/// The code runs to its end in ring 0; its registers there.
pub(crate) fn completes(code: &Code, regs: Regs) -> Result<Regs, Miss> {
    completed(Context::new(code, regs), code)
}

/// Every register but RIP is as expected.
pub(crate) fn same_registers(got: &Regs, expected: &Regs) -> Verdict {
    let equal_one = |n: usize| equal(NAMES[n], Hex(got[n]), Hex(expected[n]));
    got.difference(expected).map_or(Ok(()), equal_one)
}

/// The code runs to its end and changes one register to a value, and no other.
pub(crate) fn changes(code: &Code, regs: Regs, register: usize, value: usize) -> Verdict {
    let after = completes(code, regs)?;
    same_registers(&after, &regs.with(register, value))
}

/// The code runs to its end and changes no register.
pub(crate) fn changes_nothing(code: &Code, regs: Regs) -> Verdict {
    same_registers(&completes(code, regs)?, &regs)
}

/// The context's first instruction faults, and changes no register.
pub(crate) fn faults(context: Context, vector: usize, error: usize) -> Verdict {
    traps_at(context, context.regs[RIP], vector, error).map(|_| ())
}

/// Some instruction traps, with `pc` as the address of the next one to execute; no register is
/// changed, and the segments tell the ring.
pub(crate) fn traps_at(
    mut context: Context,
    pc: usize,
    vector: usize,
    error: usize,
) -> Result<Trap, Miss> {
    let before = context;
    let trap = context.run();
    equal("vector", Hex(trap.vector), Hex(vector))?;
    equal("error code", Hex(trap.error), Hex(error))?;
    equal("rip", Hex(trap.pc), Hex(pc))?;
    equal("cs", Hex(context.cs), Hex(before.cs))?;
    equal("ss", Hex(context.ss), Hex(before.ss))?;
    same_registers(&context.regs, &before.regs)?;
    Ok(trap)
}

/// The context's first instruction causes a page fault.
pub(crate) fn page_faults(context: Context, error: usize, address: usize) -> Verdict {
    let trap = traps_at(context, context.regs[RIP], exception::PAGE_FAULT, error)?;
    equal("cr2", Hex(trap.address), Hex(address))
}

/// The code's first instruction is not allowed, in ring 0, with a pattern in the registers.
pub(crate) fn forbidden(code: &Code) -> Verdict {
    faults(
        Context::new(code, Regs::pattern()),
        exception::PROTECTION,
        0,
    )
}

/// The code's first instruction is none, in ring 0, with a pattern in the registers.
pub(crate) fn undefined(code: &Code) -> Verdict {
    faults(
        Context::new(code, Regs::pattern()),
        exception::INVALID_OPCODE,
        0,
    )
}

/// An interrupt is pending or to come within a few seconds, and is taken in the middle of code that
/// runs in that ring, with its registers intact. The interrupt is then in service.
pub(crate) fn interrupted_in(mode: Mode, vector: u8) -> Verdict {
    let spin = code!("2: loop 2b");
    let spin = match mode {
        Mode::Supervisor => spin,
        Mode::User => spin.seen_at(super::paging::USER_CODE),
    };
    let regs = Regs::pattern().with(RCX, 2_000_000_000);
    let mut context = Context::new(&spin, regs)
        .mode(mode)
        .interrupts(Interrupts::On);
    let cs = context.cs;
    let trap = run(&mut context);
    equal("vector", Hex(trap.vector), Hex(vector.into()))?;
    equal("rip", Hex(trap.pc), Hex(spin.start))?;
    equal("cs", Hex(context.cs), Hex(cs))?;
    same_registers(&context.regs, &regs.with(RCX, context.regs[RCX]))
}

/// As `interrupted_in` ring 0.
pub(crate) fn interrupted(vector: u8) -> Verdict {
    interrupted_in(Mode::Supervisor, vector)
}

/// No interrupt comes while code runs for a while.
pub(crate) fn undisturbed() -> Verdict {
    let spin = code!("2: loop 2b");
    let mut context =
        Context::new(&spin, Regs::pattern().with(RCX, 100_000)).interrupts(Interrupts::On);
    at_end(run(&mut context), &spin)
}

/// Runs until a trap that says something: an APIC may interrupt for what it then holds back, and
/// gives the spurious vector.
pub(crate) fn run(context: &mut Context) -> Trap {
    loop {
        let trap = context.run();
        if trap.vector != lapic::SPURIOUS.into() {
            return trap;
        }
    }
}

/// The error code that names a segment.
pub(crate) const fn of_selector(selector: usize) -> usize {
    selector & !3
}

/// The error code that names a gate.
pub(crate) const fn of_gate(vector: u8) -> usize {
    (vector as usize) << 3 | 2
}
