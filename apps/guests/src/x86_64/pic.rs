//! The pair of 8259 interrupt controllers.

use crate::arch::port;

/// The command port of each controller; its mask register follows.
const COMMAND: [u16; 2] = [0x20, 0xa0];

/// The vector of the first line.
pub const VECTOR: u8 = 0x20;

/// A register that a read of the command port can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Lines that request an interrupt.
    Request,
    /// Lines whose interrupt was taken and not ended.
    Service,
}

/// Starts both controllers: edge-triggered, cascaded at line 2, with all lines masked.
pub fn init() {
    for (n, command) in COMMAND.into_iter().enumerate() {
        let cascade = [1 << 2, 2][n];
        port::write(command, 0x11_u8); // ICW1: edges, cascade, ICW4 follows
        port::write(command + 1, VECTOR + 8 * n as u8); // ICW2
        port::write::<u8>(command + 1, cascade); // ICW3
        port::write(command + 1, 0x01_u8); // ICW4: 8086 mode
    }
    set_mask(!0);
}

/// The lines that are masked.
pub fn mask() -> u16 {
    both(COMMAND.map(|command| port::read(command + 1)))
}

/// Sets which lines are masked.
pub fn set_mask(mask: u16) {
    for (command, byte) in COMMAND.into_iter().zip(mask.to_le_bytes()) {
        port::write(command + 1, byte);
    }
}

/// The lines in a register.
pub fn lines(register: Register) -> u16 {
    let select: u8 = match register {
        Register::Request => 0x0a,
        Register::Service => 0x0b,
    };
    both(COMMAND.map(|command| {
        port::write(command, select);
        port::read(command)
    }))
}

/// Ends the interrupt of highest priority that is in service, at both controllers.
pub fn end_of_interrupt() {
    for command in COMMAND.into_iter().rev() {
        port::write(command, 0x20_u8);
    }
}

fn both(bytes: [u8; 2]) -> u16 {
    u16::from_le_bytes(bytes)
}
