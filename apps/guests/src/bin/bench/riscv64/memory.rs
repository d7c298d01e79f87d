//! Accesses to memory: devices', and RAM's first touch.

use guests::arch::context::Regs;
use guests::arch::context::reg::{A0, A1, A2};
use guests::arch::{Machine, uart};
use guests::measure::Count;

use super::{MANY, counted, once, rounds};

const PAGE: usize = 4096;
/// How far into RAM the pages are that nothing has touched: behind this program, before whatever a
/// loader leaves at the end.
const UNTOUCHED: usize = 12 << 20;
const UNTOUCHED_PAGES: u64 = 2048;
const LAZY_PAGES: u64 = 256;

/// A register that the hypervisor itself answers for, and that zero does no harm to: where the option
/// says, else the PLIC's priority of its first source.
fn answered(machine: &Machine) -> Option<usize> {
    match machine.options().number("mmio").ok()? {
        Some(address) => Some(address as usize),
        None => Some(machine.plic()?.priority(1)),
    }
}

pub(crate) fn plic_read(machine: &Machine) -> Option<Count> {
    let address = answered(machine)?;
    let code = counted!("lw a1, 0(a0)");
    rounds(machine, &code, Regs::ZERO.with(A0, address), MANY)
}

pub(crate) fn plic_write(machine: &Machine) -> Option<Count> {
    let address = answered(machine)?;
    let code = counted!("sw zero, 0(a0)");
    rounds(machine, &code, Regs::ZERO.with(A0, address), MANY)
}

/// The scratch register, which does nothing.
pub(crate) fn uart_read(machine: &Machine) -> Option<Count> {
    let code = counted!("lb a1, 0(a0)");
    rounds(machine, &code, Regs::ZERO.with(A0, scratch()?), MANY)
}

pub(crate) fn uart_write(machine: &Machine) -> Option<Count> {
    let code = counted!("sb zero, 0(a0)");
    rounds(machine, &code, Regs::ZERO.with(A0, scratch()?), MANY)
}

fn scratch() -> Option<usize> {
    let base = uart::base();
    (base != 0).then_some(base + uart::SCR)
}

pub(crate) fn ram_first_touch(machine: &Machine) -> Option<Count> {
    let ram = machine.ram();
    let start = ram.start + UNTOUCHED;
    (start + UNTOUCHED_PAGES as usize * PAGE <= ram.end).then_some(())?;
    touch(machine, start, UNTOUCHED_PAGES)
}

/// Where the option says that RAM is filled on first touch.
pub(crate) fn lazy_first_touch(machine: &Machine) -> Option<Count> {
    let start = machine.options().number("lazy").ok()??;
    touch(machine, start as usize, LAZY_PAGES)
}

fn touch(machine: &Machine, start: usize, pages: u64) -> Option<Count> {
    let code = counted!(each: ["sb zero, 0(a0)", "add a0, a0, a1"], until: "bne a0, a2, 12b");
    let regs = Regs::ZERO
        .with(A0, start)
        .with(A1, PAGE)
        .with(A2, start + pages as usize * PAGE);
    once(machine, &code, regs, pages)
}
