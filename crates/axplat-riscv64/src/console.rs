//! The machine's console: its 16550 UART, or the firmware's debug console where there is none.

use axplat::console::ConsoleIf;
use axplat::mem::{PhysAddr, phys_to_virt};
use kspin::SpinNoIrq;
use spin::Once;
use uart_16550::MmioSerialPort;

static UART: Once<SpinNoIrq<MmioSerialPort>> = Once::new();

pub(crate) fn init() {
    if let Some(uart) = crate::machine().uart {
        let base = phys_to_virt(PhysAddr::from_usize(uart.base)).as_usize();
        // SAFETY: the device tree names a 16550 at `base` with this distance of registers; it is mapped, and only this module drives it.
        let mut port = unsafe { MmioSerialPort::new_with_stride(base, uart.stride) };
        port.init();
        UART.call_once(|| SpinNoIrq::new(port));
    }
}

/// Writes bytes as they are.
pub fn write_raw(bytes: &[u8]) {
    let mut uart = UART.get().map(|uart| uart.lock());
    for &byte in bytes {
        put(uart.as_deref_mut(), byte);
    }
}

struct ConsoleIfImpl;

#[impl_plat_interface]
impl ConsoleIf for ConsoleIfImpl {
    /// Writes bytes; a newline becomes carriage return and newline.
    fn write_bytes(bytes: &[u8]) {
        let mut uart = UART.get().map(|uart| uart.lock());
        for &byte in bytes {
            if byte == b'\n' {
                put(uart.as_deref_mut(), b'\r');
            }
            put(uart.as_deref_mut(), byte);
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

    /// The UART's interrupt at the PLIC.
    fn irq_num() -> Option<usize> {
        crate::machine().uart.and_then(|uart| uart.irq)
    }
}

fn put(uart: Option<&mut MmioSerialPort>, byte: u8) {
    match uart {
        Some(uart) => uart.send_raw(byte),
        None => {
            // There is nobody to tell that a console write failed.
            let _ = sbi_rt::console_write_byte(byte);
        }
    }
}
