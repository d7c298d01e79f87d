//! The I/O APIC: its registers, and the ways of the PIT's and the UART's interrupts through it.

use guests::arch::ioapic::{ID, IoApic, LEVEL, MASKED, VERSION};
use guests::arch::lapic::register::{IRR, ISR};
use guests::arch::pit::{self, Channel};
use guests::arch::{Machine, lapic, uart};
use guests::report::{Hex, Miss, Verdict, Words, equal, holds, skip};

use super::Check;
use super::expect::{interrupted, undisturbed};
use crate::soon::soon;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("ioapic.identity", identity),
    Check::new("ioapic.entries", entries),
    Check::new("ioapic.select", select),
    Check::new("ioapic.edge", edge),
    Check::new("ioapic.uart", uart_interrupt),
    Check::new("ioapic.masked", masked),
    Check::new("ioapic.level", level),
    Check::new("ioapic.logical", logical),
    Check::new("ioapic.elsewhere", elsewhere),
];

const VECTOR: u8 = 0x66;

fn controller(machine: &Machine) -> Result<IoApic, Miss> {
    machine.io_apic().ok_or(Miss::Skip("no I/O APIC"))
}

/// The controller and the input of a line of the ISA bus.
fn input(machine: &Machine, irq: u8) -> Result<(IoApic, u8), Miss> {
    let input = machine
        .io_apic_input(irq)
        .ok_or(Miss::Skip("no such input"))?;
    Ok((controller(machine)?, input))
}

/// An entry's destination.
pub(super) fn to(apic_id: u32) -> u64 {
    u64::from(apic_id) << 56
}

fn identity(machine: &Machine) -> Verdict {
    let controller = controller(machine)?;
    let version = controller.read(VERSION);
    let known = (0x11..=0x20).contains(&(version & 0xff));
    holds(
        "version",
        known,
        Hex(version as usize),
        Words("0x11 or 0x20"),
    )?;
    let enough = controller.inputs() >= 16;
    holds("inputs", enough, controller.inputs(), Words("16 or more"))?;
    for id in [0xa, 0x5, 0] {
        controller.write(ID, id << 24);
        let read = controller.read(ID) >> 24 & 0xf;
        equal("id", read, id)?;
    }
    Ok(())
}

/// Every entry keeps what is written, but for what only the controller says.
fn entries(machine: &Machine) -> Verdict {
    const READ_ONLY: u64 = 1 << 14 | 1 << 12;
    const RESERVED: u64 = 0x00ff_ffff_fffe_0000;
    let controller = controller(machine)?;
    for n in 0..controller.inputs() {
        for entry in [0xff00_0000_0001_a9a5, 0x5a00_0000_0001_295a, MASKED] {
            controller.set_entry(n, entry | READ_ONLY);
            let read = controller.entry(n) & !RESERVED;
            let what = format_args!("entry {n}");
            equal(what, Hex(read as usize), Hex(entry as usize))?;
        }
    }
    Ok(())
}

/// The register that selects can be read.
fn select(machine: &Machine) -> Verdict {
    let controller = controller(machine)?;
    for register in [ID, VERSION, 0x10, 0x2f] {
        controller.read(register);
        // SAFETY: the register is there.
        let read = unsafe { (controller.select() as *const u32).read_volatile() };
        equal("selected", read, register.into())?;
    }
    Ok(())
}

fn edge(machine: &Machine) -> Verdict {
    let (controller, input) = input(machine, pit::IRQ)?;
    for _ in 0..5 {
        controller.set_entry(input, to(machine.apic_id) | u64::from(VECTOR));
        Channel::Zero.start(0, 1000);
        let verdict = interrupted(VECTOR);
        lapic::end_of_interrupt();
        controller.set_entry(input, MASKED);
        verdict?;
        undisturbed()?;
    }
    Ok(())
}

/// The transmitter is empty, and says so when asked to.
fn uart_interrupt(machine: &Machine) -> Verdict {
    let (controller, input) = input(machine, uart::IRQ)?;
    controller.set_entry(input, to(machine.apic_id) | u64::from(VECTOR));
    for _ in 0..3 {
        uart::write(uart::IER, uart::IER_THRE);
        let verdict = interrupted(VECTOR);
        lapic::end_of_interrupt();
        let cause = uart::read(uart::IIR) & 0xf;
        uart::write(uart::IER, 0);
        verdict?;
        equal("IIR", Hex(cause.into()), Hex(0b0010))?;
        undisturbed()?;
    }
    Ok(())
}

fn masked(machine: &Machine) -> Verdict {
    let (controller, input) = input(machine, uart::IRQ)?;
    controller.set_entry(input, MASKED | to(machine.apic_id) | u64::from(VECTOR));
    uart::write(uart::IER, uart::IER_THRE);
    let verdict = undisturbed();
    uart::write(uart::IER, 0);
    verdict?;
    equal("IRR", lapic::has(IRR, VECTOR), false)
}

const REMOTE_IRR: u64 = 1 << 14;

/// A level that stays is delivered again after its end of interrupt, and not before.
fn level(machine: &Machine) -> Verdict {
    let (controller, input) = input(machine, uart::IRQ)?;
    let entry = to(machine.apic_id) | LEVEL | u64::from(VECTOR);
    controller.set_entry(input, entry);
    uart::write(uart::IER, uart::IER_THRE);
    let first = interrupted(VECTOR);
    let remote = controller.entry(input) & REMOTE_IRR;
    let meanwhile = undisturbed();
    lapic::end_of_interrupt();
    let again = interrupted(VECTOR);
    uart::read(uart::IIR);
    uart::write(uart::IER, 0);
    lapic::end_of_interrupt();
    let afterwards = undisturbed();
    let at_the_end = controller.entry(input) & REMOTE_IRR;
    controller.set_entry(input, MASKED);
    first?;
    equal("remote IRR", Hex(remote as usize), Hex(REMOTE_IRR as usize))?;
    meanwhile?;
    again?;
    afterwards?;
    equal("remote IRR at the end", Hex(at_the_end as usize), Hex(0))
}

/// To a logical destination.
fn logical(machine: &Machine) -> Verdict {
    const LOGICAL: u64 = 1 << 11;
    let (controller, input) = input(machine, pit::IRQ)?;
    lapic::write(lapic::register::DFR, !0);
    lapic::write(lapic::register::LDR, 1 << 27);
    controller.set_entry(input, 1 << 59 | LOGICAL | u64::from(VECTOR));
    Channel::Zero.start(0, 1000);
    let verdict = interrupted(VECTOR);
    lapic::end_of_interrupt();
    verdict
}

/// For a CPU that is not there.
fn elsewhere(machine: &Machine) -> Verdict {
    const NO_CPU: u32 = 0xe;
    if machine.cpus().any(|id| id == NO_CPU) {
        return skip("that CPU is there");
    }
    let (controller, input) = input(machine, pit::IRQ)?;
    controller.set_entry(input, to(NO_CPU) | u64::from(VECTOR));
    Channel::Zero.start(0, 1000);
    soon(machine, "the end of the count", || {
        let (status, _) = Channel::Zero.read_back();
        status & 1 << 7 != 0
    })?;
    undisturbed()?;
    equal("ISR", lapic::has(ISR, VECTOR), false)
}
