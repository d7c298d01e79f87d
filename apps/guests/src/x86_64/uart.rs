//! COM1, a 16550 UART: polled output, and its registers for checks.

use crate::arch::port;

/// The port of the first register.
pub const BASE: u16 = 0x3f8;
/// Its line at the interrupt controllers.
pub const IRQ: u8 = 4;

/// Interrupt enable register.
pub const IER: u16 = 1;
/// Interrupt identification register (read).
pub const IIR: u16 = 2;
/// Line control register.
const LCR: u16 = 3;
/// Modem control register.
const MCR: u16 = 4;
/// Line status register.
pub const LSR: u16 = 5;
/// Scratch register: keeps what is written.
pub const SCR: u16 = 7;
/// `IER`: interrupt when the transmitter holding register is empty.
pub const IER_THRE: u8 = 1 << 1;
/// `LSR`: the transmitter holding register is empty.
const LSR_THRE: u8 = 1 << 5;

/// Eight data bits, no parity, one stop bit; DTR, RTS, and OUT2, which lets interrupts through.
pub(super) fn init() {
    write(IER, 0);
    write(LCR, 0b11);
    write(MCR, 0b1011);
}

/// Reads a register.
pub fn read(register: u16) -> u8 {
    port::read(BASE + register)
}

/// Writes a register.
pub fn write(register: u16, value: u8) {
    port::write(BASE + register, value);
}

/// Sends a byte as soon as there is room.
pub fn put(byte: u8) {
    while read(LSR) & LSR_THRE == 0 {
        core::hint::spin_loop();
    }
    write(0, byte);
}
