//! Switching the machine off.

use core::arch::asm;

use crate::Exit;
use crate::acpi::{Acpi, PowerOff};
use crate::arch::{Physical, port};

/// Switches the machine off as its ACPI tables say. There is no way to tell it how the guest ended:
/// what counts is what the guest has printed.
pub fn power_off(_: Exit) -> ! {
    /// Where there are no tables: as on QEMU's `q35`.
    const DEFAULT: PowerOff = PowerOff {
        port: 0x604,
        value: 1 << 13,
    };
    let told = Acpi::find(Physical).and_then(|acpi| acpi.power_off());
    let off = told.unwrap_or(DEFAULT);
    port::write(off.port, off.value);
    loop {
        // SAFETY: waiting changes nothing.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
