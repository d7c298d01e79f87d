//! The checks of a 64-bit PC in ring 0, one module for each theme.

mod cpuid;
mod cr;
mod devices;
mod exceptions;
mod expect;
mod hostile;
mod hypercall;
mod interrupts;
mod ioapic;
mod lapic;
mod mmio;
mod msr;
mod nmi;
mod paging;
mod ports;
mod registers;
mod smp;
mod timer;
mod user;
mod vector;
mod x2apic;

use guests::arch::context::{Context, Interrupts, Regs};
use guests::arch::ioapic::MASKED;
use guests::arch::lapic::register;
use guests::arch::{Machine, lapic as apic, pic, uart};
use guests::{code, report, write_cr};

type Check = report::Check<Machine>;

/// All checks, those first on which the others build.
pub(crate) const THEMES: &[&[Check]] = &[
    exceptions::CHECKS,
    cpuid::CHECKS,
    msr::CHECKS,
    cr::CHECKS,
    hypercall::CHECKS,
    ports::CHECKS,
    lapic::CHECKS,
    interrupts::CHECKS,
    timer::CHECKS,
    mmio::CHECKS,
    devices::CHECKS,
    ioapic::CHECKS,
    user::CHECKS,
    registers::CHECKS,
    vector::CHECKS,
    hostile::CHECKS,
    smp::CHECKS,
    // A CPU that gets these wrong may not live to see the next check.
    nmi::CHECKS,
    x2apic::CHECKS,
];

/// Brings the CPU's interrupts into the state in which every check starts: everything is masked,
/// nothing is pending or in service, no timer runs.
pub(crate) fn prepare(machine: &Machine) {
    if apic::mode() == apic::Mode::Off {
        return; // as some stay, once they were switched off
    }
    uart::write(uart::IER, 0);
    pic::init();
    if let Some(controller) = machine.io_apic() {
        for input in 0..controller.inputs() {
            controller.set_entry(input, MASKED);
        }
    }
    apic::enable();
    machine.timer().stop();
    apic::write(register::TPR, 0);
    settle();
}

/// Takes and ends every interrupt that is pending or in service.
fn settle() {
    let any = |first: u32| (0..8).any(|word| apic::read(first + 16 * word) != 0);
    // SAFETY: interrupts are off in Rust code whatever the priority is.
    unsafe { write_cr!("cr8", 0_usize) }
    while any(register::ISR) {
        apic::end_of_interrupt();
    }
    while any(register::IRR) {
        Context::new(&code!("nop", "nop", "nop"), Regs::ZERO)
            .interrupts(Interrupts::On)
            .run();
        apic::end_of_interrupt();
    }
}
