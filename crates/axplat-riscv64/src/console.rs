//! The machine's console: its 16550 UART, or the firmware's debug console where there is none.

use axplat::console::ConsoleIf;
use axplat::mem::{PhysAddr, phys_to_virt};
use kspin::SpinNoIrq;
use spin::Once;

use crate::{
    machine,
    uart::{Mmio, Uart},
};

static UART: Once<SpinNoIrq<Uart<Mmio>>> = Once::new();

pub(crate) fn init() {
    if let Some(uart) = machine().uart {
        let base = phys_to_virt(PhysAddr::from_usize(uart.base)).as_mut_ptr();
        // SAFETY: the device tree names a 16550 at `base` with registers of this distance and width; it is mapped, and only this module drives it.
        let registers = unsafe { Mmio::new(base, uart.stride, uart.width) };
        UART.call_once(|| SpinNoIrq::new(Uart::new(registers)));
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
        // A byte is taken from the UART only once there is room for it.
        let arrived = core::iter::from_fn(|| uart.receive());
        bytes
            .iter_mut()
            .zip(arrived)
            .map(|(byte, received)| *byte = received)
            .count()
    }

    /// The UART's interrupt at the PLIC.
    fn irq_num() -> Option<usize> {
        machine().uart.and_then(|uart| uart.irq)
    }
}

fn put(uart: Option<&mut Uart<Mmio>>, byte: u8) {
    match uart {
        Some(uart) => uart.send(byte),
        None => {
            // There is nobody to tell that a console write failed.
            let _ = sbi_rt::console_write_byte(byte);
        }
    }
}
