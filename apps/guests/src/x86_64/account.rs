//! The hypervisor's account of this CPU.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::account::{CALL, Refused};
use crate::arch::cpu;

/// Whether the hypervisor is called by VMMCALL: "AuthenticAMD" and "HygonGenuine" have that, all others VMCALL. Asked once, for asking exits.
static BY_VMMCALL: AtomicBool = AtomicBool::new(false);

/// Whether there is one: the hypervisor is AxHV. To be called before [`ask`].
pub fn is_there() -> bool {
    let vendor = cpu::cpuid(0, 0).b.to_le_bytes();
    let by_vmmcall = matches!(&vendor, b"Auth" | b"Hygo");
    BY_VMMCALL.store(by_vmmcall, Ordering::Relaxed);
    cpu::hypervisor() == Some(*b"AxHVAxHVAxHV")
}

/// Asks for it. It [`is_there`].
///
/// # Errors
/// [`Refused`]: it knows no such function, or no kind of exit of that number.
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
    let answer = if BY_VMMCALL.load(Ordering::Relaxed) {
        call!("vmmcall")
    } else {
        call!("vmcall")
    };
    // Errors are small negative numbers.
    match answer.cast_signed() {
        -6..0 => Err(Refused),
        _ => Ok(answer),
    }
}
