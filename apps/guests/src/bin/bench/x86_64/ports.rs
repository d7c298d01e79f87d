//! Ports of devices.

use guests::arch::context::Regs;
use guests::arch::context::reg::{RBX, RDI};
use guests::arch::{Machine, uart};
use guests::measure::Count;

use super::{MANY, counted, rounds};

/// The first 8259's mask, with everything masked.
const PIC_MASK: usize = 0x21;

pub(crate) fn pic_in(_: &Machine) -> Option<Count> {
    input(PIC_MASK)
}

pub(crate) fn pic_out(_: &Machine) -> Option<Count> {
    output(PIC_MASK, 0xff)
}

/// The scratch register, which does nothing.
pub(crate) fn uart_in(_: &Machine) -> Option<Count> {
    input(usize::from(uart::BASE + uart::SCR))
}

pub(crate) fn uart_out(_: &Machine) -> Option<Count> {
    output(usize::from(uart::BASE + uart::SCR), 0)
}

fn input(port: usize) -> Option<Count> {
    let code = counted!(start: ["mov edx, edi"], each: ["in al, dx"]);
    rounds(&code, Regs::ZERO.with(RDI, port), MANY)
}

fn output(port: usize, value: usize) -> Option<Count> {
    let code = counted!(start: ["mov edx, edi", "mov eax, ebx"], each: ["out dx, al"]);
    rounds(&code, Regs::ZERO.with(RDI, port).with(RBX, value), MANY)
}
