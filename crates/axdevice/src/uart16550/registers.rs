//! The numbers and bits of the registers (PC16550D data sheet, "Registers").

/// The number of registers.
pub(super) const COUNT: u64 = 8;

/// Register 0: receiver buffer (read) and transmitter holding (write); divisor latch, low, with `LCR_DLAB`.
pub(super) const RBR_THR_DLL: u64 = 0;
/// Register 1: interrupt enable; divisor latch, high, with `LCR_DLAB`.
pub(super) const IER_DLM: u64 = 1;
/// Register 2: interrupt identification (read) and FIFO control (write).
pub(super) const IIR_FCR: u64 = 2;
/// Register 3: line control.
pub(super) const LCR: u64 = 3;
/// Register 4: modem control.
pub(super) const MCR: u64 = 4;
/// Register 5: line status.
pub(super) const LSR: u64 = 5;
/// Register 6: modem status.
pub(super) const MSR: u64 = 6;
/// Register 7: scratch.
pub(super) const SCR: u64 = 7;

/// Received data is available.
pub(super) const IER_RECEIVED: u8 = 1 << 0;
/// The transmitter holding register is empty.
pub(super) const IER_TRANSMIT_EMPTY: u8 = 1 << 1;
/// Receiver line status.
pub(super) const IER_LINE_STATUS: u8 = 1 << 2;
/// Modem status.
pub(super) const IER_MODEM_STATUS: u8 = 1 << 3;
/// The bits that exist.
pub(super) const IER_ALL: u8 = 0x0f;

/// No interrupt is pending.
pub(super) const IIR_NONE: u8 = 0x01;
/// Receiver line status: the highest priority.
pub(super) const IIR_LINE_STATUS: u8 = 0x06;
/// Received data reached the trigger level.
pub(super) const IIR_RECEIVED: u8 = 0x04;
/// Received data waits below the trigger level.
pub(super) const IIR_TIMEOUT: u8 = 0x0c;
/// The transmitter holding register is empty.
pub(super) const IIR_TRANSMIT_EMPTY: u8 = 0x02;
/// Modem status: the lowest priority.
pub(super) const IIR_MODEM_STATUS: u8 = 0x00;
/// The FIFOs are enabled.
pub(super) const IIR_FIFOS: u8 = 0xc0;

/// Enables the FIFOs; without it no other bit counts.
pub(super) const FCR_ENABLE: u8 = 1 << 0;
/// Empties the receive FIFO.
pub(super) const FCR_CLEAR_RECEIVE: u8 = 1 << 1;
/// Empties the transmit FIFO.
pub(super) const FCR_CLEAR_TRANSMIT: u8 = 1 << 2;
/// Where the two bits of the trigger level are.
pub(super) const FCR_TRIGGER_SHIFT: u32 = 6;

/// Registers 0 and 1 are the divisor latch.
pub(super) const LCR_DLAB: u8 = 1 << 7;

/// Data terminal ready.
pub(super) const MCR_DTR: u8 = 1 << 0;
/// Request to send.
pub(super) const MCR_RTS: u8 = 1 << 1;
/// User output 1.
pub(super) const MCR_OUT1: u8 = 1 << 2;
/// User output 2.
pub(super) const MCR_OUT2: u8 = 1 << 3;
/// The outputs are wired back to the inputs.
pub(super) const MCR_LOOP: u8 = 1 << 4;
/// The bits that exist.
pub(super) const MCR_ALL: u8 = 0x1f;

/// Data is ready.
pub(super) const LSR_DATA_READY: u8 = 1 << 0;
/// A byte was lost because none was read.
pub(super) const LSR_OVERRUN: u8 = 1 << 1;
/// The transmitter holding register, or FIFO, is empty.
pub(super) const LSR_TRANSMIT_EMPTY: u8 = 1 << 5;
/// And so is the shift register.
pub(super) const LSR_TRANSMITTER_IDLE: u8 = 1 << 6;

/// From the bit of a modem line to the bit that says that it changed.
pub(super) const MSR_DELTA_SHIFT: u32 = 4;
/// Clear to send.
pub(super) const MSR_CTS: u8 = 1 << 4;
/// Data set ready.
pub(super) const MSR_DSR: u8 = 1 << 5;
/// Ring indicator.
pub(super) const MSR_RI: u8 = 1 << 6;
/// Data carrier detect.
pub(super) const MSR_DCD: u8 = 1 << 7;
