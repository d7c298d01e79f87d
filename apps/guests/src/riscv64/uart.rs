//! The ns16550 UART: polled output, and its registers for checks.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Interrupt enable register.
pub const IER: usize = 1;
/// Interrupt identification register (read).
pub const IIR: usize = 2;
/// Line status register.
pub const LSR: usize = 5;
/// Scratch register: keeps what is written.
pub const SCR: usize = 7;
/// `IER`: interrupt when the transmitter holding register is empty.
pub const IER_THRE: u8 = 1 << 1;
/// `LSR`: the transmitter holding register is empty.
pub const LSR_THRE: u8 = 1 << 5;

/// Address of the first register; 0 until the device tree told it.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Takes the UART at `base` for the console.
///
/// # Safety
/// An ns16550 with byte-wide registers is there.
pub unsafe fn init(base: usize) {
    BASE.store(base, Ordering::Relaxed);
}

/// Address of the first register.
pub fn base() -> usize {
    BASE.load(Ordering::Relaxed)
}

/// Reads a register.
pub fn read(register: usize) -> u8 {
    // SAFETY: by the contract of `init`, which callers of this are after.
    unsafe { ((base() + register) as *const u8).read_volatile() }
}

/// Writes a register.
pub fn write(register: usize, value: u8) {
    // SAFETY: as in `read`.
    unsafe { ((base() + register) as *mut u8).write_volatile(value) }
}

/// Sends a byte as soon as there is room. Before `init`, the byte is lost.
pub fn put(byte: u8) {
    if base() == 0 {
        return;
    }
    while read(LSR) & LSR_THRE == 0 {
        core::hint::spin_loop();
    }
    write(0, byte);
}
