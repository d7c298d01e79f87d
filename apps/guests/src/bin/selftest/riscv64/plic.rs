//! The PLIC with the one source that a guest can drive by itself: the UART, whose transmitter is
//! empty whenever nothing is printed.

use guests::arch::context::{Context, Interrupts, Regs, interrupt};
use guests::arch::plic::Plic;
use guests::arch::{Machine, csr, uart};
use guests::code;
use guests::report::{Hex, Miss, Verdict, equal};

use super::Check;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("plic.registers", registers),
    Check::as_guest("plic.no_source_zero", "QEMU keeps its bit", no_source_zero),
    Check::new("plic.claim_and_complete", |machine| {
        with_uart(machine, claim_and_complete)
    }),
    Check::as_guest("plic.level", "QEMU sees edges only", |machine| {
        with_uart(machine, level)
    }),
    Check::new("plic.threshold", |machine| with_uart(machine, threshold)),
    Check::new("plic.priority_zero", |machine| {
        with_uart(machine, priority_zero)
    }),
    Check::new("plic.not_enabled", |machine| {
        with_uart(machine, not_enabled)
    }),
    Check::as_guest("plic.enabled_late", "QEMU forgets it", |machine| {
        with_uart(machine, enabled_late)
    }),
    Check::new("plic.interrupt", |machine| {
        with_uart(machine, interrupt_taken)
    }),
];

/// The PLIC and the UART's source.
struct Source {
    plic: Plic,
    number: usize,
}

fn source(machine: &Machine) -> Result<Source, Miss> {
    let plic = machine.plic().ok_or(Miss::Skip("no PLIC"))?;
    let number = machine
        .uart_irq()
        .ok_or(Miss::Skip("the UART has no interrupt"))?;
    if number < 32 {
        Ok(Source { plic, number })
    } else {
        Err(Miss::Skip("source above 31"))
    }
}

fn read(address: usize) -> u32 {
    // SAFETY: the addresses are those of PLIC registers.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as in `read`.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// Runs a check with the UART's source enabled at priority 1, threshold 0, and its line low;
/// everything is off again afterwards, so that the verdict can be printed.
fn with_uart(machine: &Machine, check: fn(&Source) -> Verdict) -> Verdict {
    let source = source(machine)?;
    uart::write(uart::IER, 0);
    write(source.plic.priority(source.number), 1);
    write(source.plic.enable(), 1 << source.number);
    write(source.plic.threshold(), 0);
    source.drain();

    let verdict = check(&source);

    uart::write(uart::IER, 0);
    source.drain();
    write(source.plic.enable(), 0);
    write(source.plic.priority(source.number), 0);
    write(source.plic.threshold(), 0);
    verdict
}

impl Source {
    /// Raises the UART's line: its transmitter is empty.
    fn raise(&self) {
        while uart::read(uart::LSR) & uart::LSR_THRE == 0 {}
        uart::write(uart::IER, uart::IER_THRE);
    }

    /// Serves the UART, which lowers its line: reading IIR acknowledges the empty transmitter.
    fn serve(&self) {
        uart::read(uart::IIR);
    }

    fn claim(&self) -> usize {
        read(self.plic.claim()) as usize
    }

    fn complete(&self, number: usize) {
        write(self.plic.claim(), number as u32);
    }

    fn drain(&self) {
        loop {
            match self.claim() {
                0 => break,
                number => self.complete(number),
            }
        }
    }

    fn pending(&self) -> bool {
        read(self.plic.pending()) >> self.number & 1 == 1
    }
}

fn notified() -> bool {
    csr::pending_interrupts() & csr::EXTERNAL != 0
}

fn registers(machine: &Machine) -> Verdict {
    let Source { plic, number } = source(machine)?;
    for (name, address, value) in [
        ("priority", plic.priority(number), 7),
        ("enable", plic.enable(), 1 << number),
        ("threshold", plic.threshold(), 7),
    ] {
        for value in [value, 0] {
            write(address, value);
            equal(name, Hex(read(address) as usize), Hex(value as usize))?;
        }
    }
    Ok(())
}

/// There is no source 0: it has neither a priority nor an enable bit.
fn no_source_zero(machine: &Machine) -> Verdict {
    let Source { plic, .. } = source(machine)?;
    write(plic.priority(0), 7);
    equal("priority", read(plic.priority(0)), 0)?;
    write(plic.enable(), 1);
    equal("enable bit", read(plic.enable()), 0)
}

fn claim_and_complete(source: &Source) -> Verdict {
    equal("pending, line low", source.pending(), false)?;
    equal("notified, line low", notified(), false)?;
    equal("claim, line low", source.claim(), 0)?;
    for _ in 0..3 {
        source.raise();
        equal("pending", source.pending(), true)?;
        equal("notified", notified(), true)?;
        equal("claim", source.claim(), source.number)?;
        equal("pending, claimed", source.pending(), false)?;
        equal("notified, claimed", notified(), false)?;
        equal("second claim", source.claim(), 0)?;
        source.serve();
        source.complete(source.number);
        equal("pending, completed", source.pending(), false)?;
        equal("notified, completed", notified(), false)?;
        uart::write(uart::IER, 0);
    }
    Ok(())
}

/// A device that was not served interrupts again when its interrupt is completed.
fn level(source: &Source) -> Verdict {
    source.raise();
    for _ in 0..3 {
        equal("claim", source.claim(), source.number)?;
        equal("notified, claimed", notified(), false)?;
        source.complete(source.number);
        equal("pending again", source.pending(), true)?;
        equal("notified again", notified(), true)?;
    }
    Ok(())
}

fn threshold(source: &Source) -> Verdict {
    source.raise();
    for (priority, threshold, expected) in [
        (1, 0, true),
        (1, 1, false),
        (2, 1, true),
        (6, 7, false),
        (7, 6, true),
        (7, 7, false),
    ] {
        write(source.plic.priority(source.number), priority);
        write(source.plic.threshold(), threshold);
        let what = format_args!("notified at priority {priority}, threshold {threshold}");
        equal(what, notified(), expected)?;
        equal("pending", source.pending(), true)?;
    }
    Ok(())
}

fn priority_zero(source: &Source) -> Verdict {
    write(source.plic.priority(source.number), 0);
    source.raise();
    equal("notified", notified(), false)?;
    equal("claim", source.claim(), 0)?;
    write(source.plic.priority(source.number), 1);
    equal("notified at priority 1", notified(), true)
}

fn not_enabled(source: &Source) -> Verdict {
    write(source.plic.enable(), 0);
    source.raise();
    equal("pending", source.pending(), true)?;
    equal("notified", notified(), false)?;
    equal("claim", source.claim(), 0)
}

/// A source that is pending when it is enabled interrupts at once.
fn enabled_late(source: &Source) -> Verdict {
    write(source.plic.enable(), 0);
    source.raise();
    equal("notified", notified(), false)?;
    write(source.plic.enable(), 1 << source.number);
    equal("notified when enabled", notified(), true)
}

fn interrupt_taken(source: &Source) -> Verdict {
    csr::enable_interrupts(csr::EXTERNAL);
    let spin = code!("1: j 1b");
    for _ in 0..3 {
        source.raise();
        let mut context = Context::new(&spin, Regs::pattern()).interrupts(Interrupts::On);
        equal("scause", Hex(context.run().cause), Hex(interrupt::EXTERNAL))?;
        equal("claim", source.claim(), source.number)?;
        source.serve();
        source.complete(source.number);
        uart::write(uart::IER, 0);
    }
    Ok(())
}
