//! A driver for the 16550 UART, as far as a console needs one.
//!
//! Line format and baud rate stay as the firmware set them, whatever clock the UART has. Output waits for the transmitter; input
//! interrupts. `machine` says where the UART is, `console` shares it.

/// How wide an access must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Byte,
    /// 32 bits, of which the low 8 count.
    Word,
}

/// A UART's eight registers.
pub(crate) trait Registers {
    fn read(&self, register: usize) -> u8;
    fn write(&mut self, register: usize, value: u8);
}

/// Receiver buffer when read, transmitter holding register when written.
const DATA: usize = 0;
const INTERRUPT_ENABLE: usize = 1;
/// Interrupt identification when read, FIFO control when written.
const FIFO: usize = 2;
const LINE_CONTROL: usize = 3;
const MODEM_CONTROL: usize = 4;
const LINE_STATUS: usize = 5;

/// Of the interrupt enable register: received data available.
const ON_RECEIVED: u8 = 1 << 0;
/// Of the FIFO control register: both FIFOs on, nothing cleared, an interrupt for the first byte.
const FIFO_ON: u8 = 1 << 0;
/// Of the interrupt identification register: both bits are set if the FIFOs are there and on.
const FIFO_IS_ON: u8 = 0b11 << 6;
/// Of the line control register: the first two registers are the divisor.
const DIVISOR_LATCH: u8 = 1 << 7;
/// Of the modem control register: ready (DTR, RTS), and OUT2, which lets interrupts out where it is wired as in a PC.
const READY: u8 = 0b1011;
/// Of the modem control register: what is sent is received, and does not leave.
const LOOPBACK: u8 = 1 << 4;
/// Of the line status register: a byte has arrived.
const RECEIVED: u8 = 1 << 0;
/// Of the line status register: the transmitter's holding register, or its whole FIFO, is empty.
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// How many bytes the transmitter's FIFO takes.
const FIFO_DEPTH: usize = 16;

/// A 16550.
#[derive(Debug)]
pub(crate) struct Uart<R> {
    registers: R,
    /// How many bytes an empty transmitter takes.
    depth: usize,
    /// How many bytes the transmitter takes for sure without looking again.
    room: usize,
}

impl<R: Registers> Uart<R> {
    /// Takes the UART over from the firmware. What that has sent still leaves, and what has arrived can be read.
    pub(crate) fn new(mut registers: R) -> Self {
        let line = registers.read(LINE_CONTROL);
        if line & DIVISOR_LATCH != 0 {
            registers.write(LINE_CONTROL, line & !DIVISOR_LATCH);
        }
        registers.write(FIFO, FIFO_ON);
        let has_fifo = registers.read(FIFO) & FIFO_IS_ON == FIFO_IS_ON;
        let modem = registers.read(MODEM_CONTROL);
        registers.write(MODEM_CONTROL, modem & !LOOPBACK | READY);
        registers.write(INTERRUPT_ENABLE, ON_RECEIVED);
        Self {
            registers,
            depth: if has_fifo { FIFO_DEPTH } else { 1 },
            room: 0,
        }
    }

    /// Sends a byte, once there is room for it.
    pub(crate) fn send(&mut self, byte: u8) {
        if self.room == 0 {
            while self.registers.read(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
                core::hint::spin_loop();
            }
            self.room = self.depth;
        }
        self.room -= 1;
        self.registers.write(DATA, byte);
    }

    /// A byte that has arrived, if any.
    pub(crate) fn receive(&mut self) -> Option<u8> {
        (self.registers.read(LINE_STATUS) & RECEIVED != 0).then(|| self.registers.read(DATA))
    }
}

/// Registers in memory.
#[derive(Debug)]
pub(crate) struct Mmio {
    base: *mut u8,
    stride: usize,
    width: Width,
}

// SAFETY: a device's registers belong to no thread.
unsafe impl Send for Mmio {}

impl Mmio {
    /// Registers from `base` on, `stride` bytes from one to the next.
    ///
    /// # Safety
    ///
    /// For good, they can be accessed there in this width, at addresses that are multiples of it, and nobody else accesses them.
    pub(crate) const unsafe fn new(base: *mut u8, stride: usize, width: Width) -> Self {
        Self {
            base,
            stride,
            width,
        }
    }

    fn address(&self, register: usize) -> *mut u8 {
        self.base.wrapping_add(register * self.stride)
    }
}

impl Registers for Mmio {
    fn read(&self, register: usize) -> u8 {
        let address = self.address(register);
        // SAFETY: `new` was promised that the registers are there.
        unsafe {
            match self.width {
                Width::Byte => address.read_volatile(),
                Width::Word => address.cast::<u32>().read_volatile() as u8,
            }
        }
    }

    fn write(&mut self, register: usize, value: u8) {
        let address = self.address(register);
        // SAFETY: `new` was promised that the registers are there, and this value holds them alone.
        unsafe {
            match self.width {
                Width::Byte => address.write_volatile(value),
                Width::Word => address.cast::<u32>().write_volatile(value.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
