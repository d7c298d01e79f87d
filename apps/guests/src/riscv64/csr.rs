//! Control and status registers: access by name or number, and the bits that the guests use.
//!
//! Privileged Architecture, chapters 2 (listing) and 12 (supervisor level).

use core::arch::asm;

/// `sstatus.SIE`: interrupts are on.
pub const SSTATUS_SIE: usize = 1 << 1;
/// `sstatus.SPIE`: `SIE` after an `sret`.
pub const SSTATUS_SPIE: usize = 1 << 5;
/// `sstatus.SPP`: the last trap came from, or the next `sret` goes to, supervisor mode.
pub const SSTATUS_SPP: usize = 1 << 8;
/// `sstatus.VS`: state of the vector registers, two bits.
pub const SSTATUS_VS: usize = 3 << 9;
/// `sstatus.FS`: state of the floating-point registers, two bits.
pub const SSTATUS_FS: usize = 3 << 13;
/// `sstatus.SUM`: supervisor mode may access user pages.
pub const SSTATUS_SUM: usize = 1 << 18;

/// Supervisor software interrupt, in `sip` and `sie`.
pub const SOFTWARE: usize = 1 << 1;
/// Supervisor timer interrupt, in `sip` and `sie`.
pub const TIMER: usize = 1 << 5;
/// Supervisor external interrupt, in `sip` and `sie`.
pub const EXTERNAL: usize = 1 << 9;

/// Reads a CSR, given by its name or number as a string.
#[macro_export]
macro_rules! read_csr {
    ($csr:literal) => {{
        let value: usize;
        // SAFETY: reading a CSR changes nothing that Rust code relies on.
        unsafe {
            core::arch::asm!(concat!("csrr {}, ", $csr), out(reg) value, options(nostack));
        }
        value
    }};
}

/// Writes a CSR, given by its name or number as a string. The block that calls it is `unsafe`:
/// the value decides whether memory stays what Rust takes it for.
#[macro_export]
macro_rules! write_csr {
    ($csr:literal, $value:expr) => {
        core::arch::asm!(concat!("csrw ", $csr, ", {}"), in(reg) $value, options(nostack))
    };
}

/// Which of the three interrupts are enabled; they still wait for `sstatus.SIE`.
pub fn enable_interrupts(mask: usize) {
    // SAFETY: with `sstatus.SIE` clear, as always in Rust code, this alone interrupts nothing.
    unsafe { write_csr!("sie", mask) }
}

/// The pending interrupts, as bits of `sip`.
pub fn pending_interrupts() -> usize {
    read_csr!("sip")
}

/// The `time` counter, in ticks of the timebase.
pub fn time() -> u64 {
    read_csr!("time") as u64
}

/// Makes the software interrupt pending, as a hart may for itself.
pub fn raise_software_interrupt() {
    // SAFETY: as in `enable_interrupts`.
    unsafe { asm!("csrsi sip, 2", options(nostack)) }
}

/// Clears a pending software interrupt.
pub fn clear_software_interrupt() {
    // SAFETY: as in `enable_interrupts`.
    unsafe { asm!("csrci sip, 2", options(nostack)) }
}
