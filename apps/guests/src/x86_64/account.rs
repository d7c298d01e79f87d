//! The hypervisor's account of this CPU.

use core::arch::asm;

use crate::account::{CALL, Refused};
use crate::arch::cpu;

/// Whether there is one: the hypervisor is AxHV.
pub fn is_there() -> bool {
    cpu::hypervisor() == Some(*b"AxHVAxHVAxHV")
}

/// Asks for it. It [`is_there`].
pub fn ask(function: u64, args: [u64; 2]) -> Result<u64, Refused> {
    // RBX, which the compiler keeps for itself, is put back.
    macro_rules! call {
        ($instruction:literal) => {{
            let answer: u64;
            // SAFETY: the hypervisor answers in RAX, and changes nothing else.
            unsafe {
                asm!(
                    "xchg {function}, rbx",
                    $instruction,
                    "xchg {function}, rbx",
                    function = inout(reg) function => _,
                    inlateout("rax") CALL => answer,
                    in("rcx") args[0],
                    in("rdx") args[1],
                    options(nostack),
                );
            }
            answer
        }};
    }
    // "AuthenticAMD" and "HygonGenuine" have one instruction for it, all others another.
    let vendor = cpu::cpuid(0, 0).b.to_le_bytes();
    let answer = match &vendor {
        b"Auth" | b"Hygo" => call!("vmmcall"),
        _ => call!("vmcall"),
    };
    // Errors are small negative numbers.
    match answer.cast_signed() {
        -6..0 => Err(Refused),
        _ => Ok(answer),
    }
}
