//! The instructions that touch the processor outside of the world switch.
//!
//! On other hosts than the bare machine they are those of a [machine made of memory](crate::machine), so that all above can be tested there.

/// What CPUID answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuidResult {
    pub(crate) eax: u32,
    pub(crate) ebx: u32,
    pub(crate) ecx: u32,
    pub(crate) edx: u32,
}

pub(crate) use imp::{InterruptsOff, cpuid, read_cr0, read_cr4, read_msr, write_cr0, write_cr4, write_msr};

#[cfg(target_os = "none")]
mod imp {
    use core::arch::asm;

    use super::CpuidResult;

    pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
        let answer = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        CpuidResult {
            eax: answer.eax,
            ebx: answer.ebx,
            ecx: answer.ecx,
            edx: answer.edx,
        }
    }

    /// Reads an MSR that the processor has.
    #[inline]
    pub(crate) fn read_msr(number: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reading an MSR has no effect on memory; the callers name only those that CPUID promises.
        unsafe {
            asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    /// Writes an MSR that the processor has.
    #[inline]
    pub(crate) fn write_msr(number: u32, value: u64) {
        // SAFETY: no caller names an MSR that moves the hypervisor's own memory, stack or control flow: they are those of this crate's tables,
        // checked before they come here.
        unsafe {
            asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
        }
    }

    /// Declares a control register's accessors.
    macro_rules! control_register {
        ($register:literal, $read:ident, $write:ident) => {
            pub(crate) fn $read() -> u64 {
                let value;
                // SAFETY: reads a register.
                unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
                value
            }

            /// Only to turn on what the hypervisor needs: paging stays as it is.
            pub(crate) fn $write(value: u64) {
                // SAFETY: callers set or clear single bits that enable instructions, and leave those of paging alone.
                unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
            }
        };
    }

    control_register!("cr0", read_cr0, write_cr0);
    control_register!("cr4", read_cr4, write_cr4);

    /// Host interrupts are off while this lives, and as before afterwards.
    #[derive(Debug)]
    pub(crate) struct InterruptsOff {
        before: u64,
    }

    impl InterruptsOff {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            let before;
            // SAFETY: turns interrupts off; a memory barrier for the compiler.
            unsafe { asm!("pushfq", "pop {}", "cli", out(reg) before) };
            Self { before }
        }
    }

    impl Drop for InterruptsOff {
        #[inline(always)]
        fn drop(&mut self) {
            if self.before & crate::regs::rflags::INTERRUPT != 0 {
                // SAFETY: they were on before.
                unsafe { asm!("sti") };
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use super::CpuidResult;
    use crate::machine;

    pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
        machine::with(|m| m.cpuid.get(&(leaf, subleaf)).copied().unwrap_or_default())
    }

    pub(crate) fn read_msr(number: u32) -> u64 {
        machine::with(|m| m.msrs.get(&number).copied().unwrap_or(0))
    }

    pub(crate) fn write_msr(number: u32, value: u64) {
        machine::with(|m| {
            m.msrs.insert(number, value);
        });
    }

    pub(crate) fn read_cr0() -> u64 {
        machine::with(|m| m.cr0)
    }

    pub(crate) fn write_cr0(value: u64) {
        machine::with(|m| m.cr0 = value);
    }

    pub(crate) fn read_cr4() -> u64 {
        machine::with(|m| m.cr4)
    }

    pub(crate) fn write_cr4(value: u64) {
        machine::with(|m| m.cr4 = value);
    }

    #[derive(Debug)]
    pub(crate) struct InterruptsOff;

    impl InterruptsOff {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}
