//! Model-specific registers, also those that may not be there.
//!
//! An access that the CPU refuses raises #GP, which would be the end. The fault-safe accesses name their instruction in the image's table
//! of exceptions; the [fault handler](crate::traps) goes on where the table says.

use core::arch::asm;

/// Reads an MSR that this CPU has.
pub(crate) fn rdmsr(msr: u32) -> u64 {
    // SAFETY: reading the MSRs that this platform reads changes nothing.
    unsafe { x86::msr::rdmsr(msr) }
}

/// Writes an MSR that this CPU has.
///
/// # Safety
/// The value must be one that leaves this CPU working as the rest of the image expects.
pub(crate) unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { x86::msr::wrmsr(msr, value) };
}

/// Reads an MSR; `None` if this CPU refuses.
#[must_use]
pub fn safe_rdmsr(msr: u32) -> Option<u64> {
    let (low, high, refused): (u32, u32, u32);
    // SAFETY: a read; where it faults, the table leads past the line that clears the mark.
    unsafe {
        asm!(
            "mov {refused:e}, 1",
            "2: rdmsr",
            "xor {refused:e}, {refused:e}",
            "3:",
            ".pushsection __ex_table, \"aw\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            refused = out(reg) refused,
            in("ecx") msr,
            out("eax") low,
            out("edx") high,
            options(nostack),
        );
    }
    (refused == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes an MSR; `None` if this CPU refuses.
///
/// # Safety
/// The value must be one that leaves this CPU working as the rest of the image expects.
#[must_use]
pub unsafe fn safe_wrmsr(msr: u32, value: u64) -> Option<()> {
    let refused: u32;
    // SAFETY: the caller's promise; where it faults, the table leads past the line that clears the mark.
    unsafe {
        asm!(
            "mov {refused:e}, 1",
            "2: wrmsr",
            "xor {refused:e}, {refused:e}",
            "3:",
            ".pushsection __ex_table, \"aw\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            refused = out(reg) refused,
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack),
        );
    }
    (refused == 0).then_some(())
}
