//! Model-specific registers: access, and the numbers that the guests use.

#![allow(missing_docs, reason = "the names are the manuals'")]

use core::arch::asm;

pub const TSC: u32 = 0x10;
pub const APIC_BASE: u32 = 0x1b;
pub const SYSENTER_CS: u32 = 0x174;
pub const SYSENTER_ESP: u32 = 0x175;
pub const SYSENTER_EIP: u32 = 0x176;
pub const PAT: u32 = 0x277;
pub const TSC_DEADLINE: u32 = 0x6e0;
/// The first register of the x2APIC.
pub const X2APIC: u32 = 0x800;
pub const EFER: u32 = 0xc000_0080;
pub const STAR: u32 = 0xc000_0081;
pub const LSTAR: u32 = 0xc000_0082;
pub const CSTAR: u32 = 0xc000_0083;
pub const SFMASK: u32 = 0xc000_0084;
pub const FS_BASE: u32 = 0xc000_0100;
pub const GS_BASE: u32 = 0xc000_0101;
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
pub const TSC_AUX: u32 = 0xc000_0103;

/// `EFER.SCE`: SYSCALL and SYSRET.
pub const EFER_SCE: u64 = 1 << 0;
/// `EFER.LME`: long mode is enabled.
pub const EFER_LME: u64 = 1 << 8;
/// `EFER.LMA`: long mode is active.
pub const EFER_LMA: u64 = 1 << 10;
/// `EFER.NXE`: pages can be closed to instructions.
pub const EFER_NXE: u64 = 1 << 11;
/// `EFER.SVME`: AMD's virtualization.
pub const EFER_SVME: u64 = 1 << 12;

/// Reads a register that is there.
pub fn read(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing that Rust code relies on.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high,
            options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a register that is there.
///
/// # Safety
/// With the new value memory stays what Rust takes it for.
pub unsafe fn write(msr: u32, value: u64) {
    // SAFETY: by contract.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}
