//! The machine's console: the UART at COM1.

use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use axplat::console::ConsoleIf;
use kspin::SpinNoIrq;
use spin::Once;
use uart_16550::SerialPort;
use x86::io::{inb, outb};

use crate::irq;

const COM1: u16 = 0x3f8;
const COM1_IRQ: usize = 4;
/// Its first port, and how many it has.
pub(crate) const PORTS: (usize, usize) = (COM1 as usize, 8);
/// The divisor's halves, while the line control register says so.
const DIVISOR: [u16; 2] = [COM1, COM1 + 1];
const LINE_CONTROL: u16 = COM1 + 3;
const LINE_STATUS: u16 = COM1 + 5;
const SCRATCH: u16 = COM1 + 7;

static UART: Once<SpinNoIrq<SerialPort>> = Once::new();

pub(crate) fn init() {
    if is_there() {
        // SAFETY: there is a 16550 at COM1, and only this module drives it.
        let mut port = unsafe { SerialPort::new(COM1) };
        port.init();
        set_full_speed();
        UART.call_once(|| SpinNoIrq::new(port));
    }
}

/// 115200 baud, 8 data bits: guests wait for what they print to leave.
fn set_full_speed() {
    const DIVISOR_ACCESS: u8 = 1 << 7;
    const EIGHT_BITS: u8 = 0b11;
    // SAFETY: there is a 16550, which nobody uses yet (PC16550D data sheet, "Programmable Baud Generator").
    unsafe {
        outb(LINE_CONTROL, DIVISOR_ACCESS | EIGHT_BITS);
        outb(DIVISOR[0], 1);
        outb(DIVISOR[1], 0);
        outb(LINE_CONTROL, EIGHT_BITS);
    }
}

/// The UART's interrupt on the ISA bus, if there is a UART.
pub(crate) fn isa_irq() -> Option<usize> {
    UART.get().map(|_| COM1_IRQ)
}

/// Whether something at COM1 keeps what it is given. Without a UART the bus answers all ones.
fn is_there() -> bool {
    [0x5a, 0xa5].into_iter().all(|pattern| {
        // SAFETY: the scratch register does nothing (PC16550D data sheet, "Scratchpad Register").
        unsafe {
            outb(SCRATCH, pattern);
            inb(SCRATCH) == pattern
        }
    })
}

/// Writes bytes as they are.
///
/// A byte takes as long to leave as another takes to arrive, and the UART holds no more than 16 that arrived: its interrupt comes in between.
pub fn write_raw(bytes: &[u8]) {
    if let Some(uart) = UART.get() {
        for &byte in bytes {
            uart.lock().send_raw(byte);
        }
    }
}

/// Writes a line from where nothing may be waited for: whoever holds the console may be the one that was interrupted.
pub(crate) fn report(line: fmt::Arguments<'_>) {
    struct Port(SerialPort);

    impl Write for Port {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                if byte == b'\n' {
                    self.0.send_raw(b'\r');
                }
                self.0.send_raw(byte);
            }
            Ok(())
        }
    }

    /// Ample for another CPU's line at 115200 baud.
    const PATIENCE: usize = 1_000_000;
    static BUSY: AtomicBool = AtomicBool::new(false);

    if UART.get().is_some() {
        // Two CPUs may report at once, but nobody is waited for in vain.
        (0..PATIENCE).find(|_| {
            core::hint::spin_loop();
            !BUSY.swap(true, Ordering::Acquire)
        });
        // SAFETY: there is a 16550 at COM1. It may be in the middle of another's line, which is then cut in two; a UART takes bytes one by one.
        let mut port = Port(unsafe { SerialPort::new(COM1) });
        // Writing to the port cannot fail.
        let _ = port.write_fmt(line);
        BUSY.store(false, Ordering::Release);
    }
}

/// Waits until the last byte has left the UART.
pub(crate) fn drain() {
    const EMPTY: u8 = 1 << 6;
    const PATIENCE: usize = 1_000_000;
    if UART.get().is_some() {
        // SAFETY: reading the line status takes away only errors of reception.
        (0..PATIENCE).find(|_| unsafe { inb(LINE_STATUS) } & EMPTY != 0);
    }
}

struct ConsoleIfImpl;

#[impl_plat_interface]
impl ConsoleIf for ConsoleIfImpl {
    /// Writes bytes; a newline becomes carriage return and newline.
    fn write_bytes(bytes: &[u8]) {
        if let Some(uart) = UART.get() {
            let mut uart = uart.lock();
            for &byte in bytes {
                if byte == b'\n' {
                    uart.send_raw(b'\r');
                }
                uart.send_raw(byte);
            }
        }
    }

    /// Reads what has arrived, without waiting.
    fn read_bytes(bytes: &mut [u8]) -> usize {
        let Some(uart) = UART.get() else { return 0 };
        let mut uart = uart.lock();
        for (count, byte) in bytes.iter_mut().enumerate() {
            match uart.try_receive() {
                Ok(received) => *byte = received,
                Err(_) => return count,
            }
        }
        bytes.len()
    }

    /// The UART's interrupt, as a vector.
    fn irq_num() -> Option<usize> {
        irq::vector_of_isa(isa_irq()?)
    }
}
