//! NMIs, which nothing but another NMI holds back.

use guests::arch::Machine;
use guests::arch::context::reg::{RAX, RCX, RDI};
use guests::arch::context::{Code, Context, Interrupts, Regs, exception};
use guests::arch::lapic::register::{ICR, ICR_HIGH};
use guests::arch::lapic::{self, command};
use guests::code;
use guests::report::{Hex, Verdict, equal};

use super::Check;
use super::expect::{at_end, interrupted, same_registers, undisturbed};
use super::lapic::raise;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("nmi.taken", taken),
    Check::new("nmi.blocked", blocked),
    Check::new("nmi.first", first),
];

const VECTOR: u8 = 0x55;

/// Sends an NMI to itself, by a store; interrupts are off.
fn send_nmi(machine: &Machine) -> (Context, Code) {
    let code = code!("mov [rdi], eax", "2: loop 2b");
    lapic::write(ICR_HIGH, machine.apic_id << 24);
    let regs = Regs::pattern()
        .with(RCX, 1_000_000_000)
        .with(RDI, lapic::BASE + ICR as usize)
        .with(RAX, (command::NMI | command::ASSERT) as usize);
    (Context::new(&code, regs), code)
}

fn taken(machine: &Machine) -> Verdict {
    for _ in 0..3 {
        let (mut context, code) = send_nmi(machine);
        let regs = context.regs;
        let trap = context.run();
        equal("vector", Hex(trap.vector), Hex(exception::NMI))?;
        equal("rip", Hex(trap.pc), Hex(code.start + 2))?;
        same_registers(&context.regs, &regs.with(RCX, context.regs[RCX]))?;
    }
    undisturbed()
}

/// An NMI's handler is not interrupted by another one until its IRET; then that is taken.
fn blocked(machine: &Machine) -> Verdict {
    let (mut context, _) = send_nmi(machine);
    equal("vector", Hex(context.run().vector), Hex(exception::NMI))?;
    // This is the handler, until the next context is entered by IRET.
    for _ in 0..2 {
        lapic::send(machine.apic_id, command::NMI | command::ASSERT);
    }
    machine
        .timer()
        .spin(machine.timer().ticks_per_second() / 1000);
    let code = code!("nop", "nop", "nop");
    let trap = Context::new(&code, Regs::pattern()).run();
    equal("vector", Hex(trap.vector), Hex(exception::NMI))?;
    equal("rip", Hex(trap.pc), Hex(code.start))?;
    // Two that wait are one.
    at_end(Context::new(&code, Regs::pattern()).run(), &code)
}

/// Of both, the NMI goes first, and does not lose the other.
fn first(machine: &Machine) -> Verdict {
    let (mut context, _) = send_nmi(machine);
    equal("vector", Hex(context.run().vector), Hex(exception::NMI))?;
    lapic::send(machine.apic_id, command::NMI | command::ASSERT);
    raise(VECTOR);
    let code = code!("nop", "nop", "nop");
    let mut both = Context::new(&code, Regs::pattern()).interrupts(Interrupts::On);
    let trap = both.run();
    let second = if trap.vector == exception::NMI {
        interrupted(VECTOR)
    } else {
        Ok(())
    };
    lapic::end_of_interrupt();
    equal("vector", Hex(trap.vector), Hex(exception::NMI))?;
    second?;
    same_registers(&both.regs, &Regs::pattern())
}
