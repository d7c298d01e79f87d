//! How a RISC-V machine starts again, and writes much at once.

use guests::arch::sbi;

/// Starts the machine again.
pub(crate) fn reset() -> ! {
    /// The SBI's reset type.
    const COLD_REBOOT: usize = 1;
    sbi::system_reset(COLD_REBOOT, 0);
    sbi::power_off(guests::Exit::Failure)
}

/// Writes what there is room for.
pub(crate) fn write(bytes: &[u8]) {
    const CONSOLE_WRITE: usize = 0;
    let _ = sbi::debug_console(CONSOLE_WRITE, bytes.len(), bytes.as_ptr().addr(), 0);
}
