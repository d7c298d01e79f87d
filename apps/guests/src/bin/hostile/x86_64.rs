//! How a PC starts again, and writes much at once.

use core::arch::asm;

use guests::arch::{port, uart};

/// Starts the machine again.
pub(crate) fn reset() -> ! {
    /// The reset control register of a PC's chipset: reset the CPU, and all else.
    const RESET_CONTROL: u16 = 0xcf9;
    port::write(RESET_CONTROL, 0b110_u8);
    loop {
        core::hint::spin_loop();
    }
}

/// Writes all of it, whether there is room or not.
pub(crate) fn write(bytes: &[u8]) {
    // SAFETY: reads the bytes, and writes them to the UART.
    unsafe {
        asm!("rep outsb",
            in("dx") uart::BASE,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags))
    }
}
