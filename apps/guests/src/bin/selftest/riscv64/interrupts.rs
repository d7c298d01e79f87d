//! Software interrupts to itself: sent by the SBI and written into `sip`.

use guests::arch::context::reg::{A0, A1, A6, A7};
use guests::arch::context::{Context, Interrupts, Regs, interrupt};
use guests::arch::sbi::SUCCESS;
use guests::arch::{Machine, csr, sbi};
use guests::code;
use guests::report::{Hex, Verdict, equal};
use sbi_spec::spi;

use super::Check;
use super::expect::{at_end, completes, same_registers};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("interrupts.own_sip", own_sip),
    Check::new("interrupts.ipi_to_self", ipi_to_self),
    Check::new("interrupts.ipi_taken_after_call", ipi_taken_after_call),
    Check::new("interrupts.wfi_pending", wfi_pending),
    Check::new("interrupts.priority", priority),
    Check::new("interrupts.disabled", disabled),
];

fn software_pending() -> Hex {
    Hex(csr::pending_interrupts() & csr::SOFTWARE)
}

/// `sip.SSIP` can be written and cleared, and interrupts.
fn own_sip(_: &Machine) -> Verdict {
    csr::enable_interrupts(csr::SOFTWARE);
    for _ in 0..3 {
        csr::raise_software_interrupt();
        equal("sip", software_pending(), Hex(csr::SOFTWARE))?;
        taken()?;
        csr::clear_software_interrupt();
        equal("sip", software_pending(), Hex(0))?;
    }
    Ok(())
}

fn ipi_to_self(machine: &Machine) -> Verdict {
    csr::enable_interrupts(csr::SOFTWARE);
    for _ in 0..3 {
        equal("error", sbi::send_ipi(1, machine.hart).error, SUCCESS)?;
        taken()?;
        equal("sip", software_pending(), Hex(csr::SOFTWARE))?;
        csr::clear_software_interrupt();
        equal("sip", software_pending(), Hex(0))?;
    }
    Ok(())
}

/// The pending software interrupt is taken, and costs no register.
fn taken() -> Verdict {
    let mut context = Context::new(&code!("1: j 1b"), Regs::pattern()).interrupts(Interrupts::On);
    let trap = context.run();
    equal("scause", Hex(trap.cause), Hex(interrupt::SOFTWARE))?;
    equal("sepc", Hex(trap.pc), Hex(context.regs[0]))?;
    same_registers(&context.regs, &Regs::pattern())
}

/// A call that makes an interrupt pending returns first, and then the interrupt is taken.
fn ipi_taken_after_call(machine: &Machine) -> Verdict {
    csr::enable_interrupts(csr::SOFTWARE);
    let code = code!("ecall", "1: j 1b");
    let regs = Regs::pattern()
        .with(A0, 1)
        .with(A1, machine.hart)
        .with(A6, spi::SEND_IPI)
        .with(A7, spi::EID_SPI);
    let mut context = Context::new(&code, regs).interrupts(Interrupts::On);
    let trap = context.run();
    equal("scause", Hex(trap.cause), Hex(interrupt::SOFTWARE))?;
    equal("sepc", Hex(trap.pc), Hex(code.start + 4))?;
    same_registers(&context.regs, &regs.with(A0, 0).with(A1, context.regs[A1]))
}

/// With an enabled interrupt pending WFI goes on, though the interrupt cannot be taken.
fn wfi_pending(_: &Machine) -> Verdict {
    csr::enable_interrupts(csr::SOFTWARE);
    csr::raise_software_interrupt();
    let after = completes(&code!("wfi", "wfi", "wfi"), Regs::pattern())?;
    same_registers(&after, &Regs::pattern())
}

/// Of two pending interrupts the software interrupt goes before the timer's.
fn priority(machine: &Machine) -> Verdict {
    machine.timer().set(0);
    csr::raise_software_interrupt();
    csr::enable_interrupts(csr::SOFTWARE | csr::TIMER);
    taken()
}

/// `sie` and `sstatus.SIE` both have to let an interrupt through.
fn disabled(_: &Machine) -> Verdict {
    csr::raise_software_interrupt();
    let code = code!("1: addi a0, a0, -1", "bnez a0, 1b");
    for (enabled, interrupts) in [(0, Interrupts::On), (csr::SOFTWARE, Interrupts::Off)] {
        csr::enable_interrupts(enabled);
        let regs = Regs::pattern().with(A0, 1000);
        let mut context = Context::new(&code, regs).interrupts(interrupts);
        at_end(context.run(), &code)?;
    }
    Ok(())
}
