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

pub(crate) use imp::{
    InterruptsOff, cpuid, forget_x87_pointers, fxrstor, fxsave, host_event, let_interrupts_in,
    read_breakpoints, read_cr0, read_cr2, read_cr4, read_dr6, read_msr, read_tsc,
    write_breakpoints, write_cr0, write_cr2, write_cr4, write_dr6, write_msr, write_xcr0, xrstor,
    xsave,
};

#[cfg(target_os = "none")]
mod imp {
    use core::arch::asm;

    use super::CpuidResult;
    use crate::event::vector;

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

    /// Declares a register's accessors. Bits that are not in `$writable` would fault, and are left out.
    macro_rules! register {
        ($register:literal, $read:ident, $write:ident, $writable:expr) => {
            pub(crate) fn $read() -> u64 {
                let value;
                // SAFETY: reads a register.
                unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
                value
            }

            /// CR0 and CR4: only to turn on what the hypervisor needs; paging stays as it is.
            pub(crate) fn $write(value: u64) {
                // SAFETY: callers set or clear single bits that enable instructions, and leave those of paging alone. CR2 and DR6 only tell of
                // faults and debug events that are over.
                unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value & $writable, options(nostack, preserves_flags)) };
            }
        };
    }

    register!("cr0", read_cr0, write_cr0, u64::MAX);
    register!("cr2", read_cr2, write_cr2, u64::MAX);
    register!("cr4", read_cr4, write_cr4, u64::MAX);
    register!("dr6", read_dr6, write_dr6, u64::from(u32::MAX));

    pub(crate) fn read_tsc() -> u64 {
        // SAFETY: reads a counter.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    /// Writes a value that is valid and that the processor has. The hypervisor itself uses none of what it enables.
    pub(crate) fn write_xcr0(value: u64) {
        // SAFETY: enables registers that are the guest's only. CR4.OSXSAVE is set wherever guests run and XSAVE is there.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nomem, nostack, preserves_flags));
        }
    }

    /// Declares a function that moves registers to or from an area.
    macro_rules! state_instruction {
        ($(#[$doc:meta])* $name:ident($pointer:ty $(, $components:ident)?), $insn:literal) => {
            $(#[$doc])*
            pub(crate) unsafe fn $name(area: $pointer $(, $components: u64)?) {
                // SAFETY: as the caller promises; the registers are not the hypervisor's.
                unsafe {
                    asm!($insn, in(reg) area, $(in("eax") $components as u32, in("edx") ($components >> 32) as u32,)? options(nostack, preserves_flags));
                }
            }
        };
    }

    state_instruction! {
        /// # Safety
        /// The area is 512 bytes, aligned to 16, and the caller's.
        fxsave(*mut u8), "fxsave64 [{}]"
    }
    state_instruction! {
        /// # Safety
        /// The area is 512 bytes, aligned to 16, and valid.
        fxrstor(*const u8), "fxrstor64 [{}]"
    }
    state_instruction! {
        /// # Safety
        /// The area has room for `components`, is aligned to 64, and the caller's; XCR0 enables them.
        xsave(*mut u8, components), "xsave64 [{}]"
    }
    state_instruction! {
        /// # Safety
        /// The area is valid for `components`, is aligned to 64; XCR0 enables them.
        xrstor(*const u8, components), "xrstor64 [{}]"
    }

    /// DR0 to DR3.
    pub(crate) fn read_breakpoints() -> [u64; 4] {
        let (a, b, c, d);
        // SAFETY: reads registers.
        unsafe {
            asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3", out(reg) a, out(reg) b, out(reg) c, out(reg) d, options(nomem, nostack, preserves_flags));
        }
        [a, b, c, d]
    }

    /// DR0 to DR3. The host's DR7 enables none of them.
    pub(crate) fn write_breakpoints([a, b, c, d]: [u64; 4]) {
        // SAFETY: addresses that are watched only while the guest's DR7 is loaded.
        unsafe {
            asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", in(reg) a, in(reg) b, in(reg) c, in(reg) d, options(nomem, nostack, preserves_flags));
        }
    }

    /// Runs the host's handler for an NMI or a machine check that an exit consumed. Its IRET ends the blocking of further ones.
    pub(crate) fn host_event(number: u8) {
        // SAFETY: enters the host's own handler through its interrupt table, as the event itself would have.
        unsafe {
            match number {
                vector::NMI => asm!("int 2"),
                vector::MACHINE_CHECK => asm!("int 18"),
                _ => {}
            }
        }
    }

    /// Makes the x87 FPU's pointers to its last instruction and operand the hypervisor's own. Its registers are lost.
    pub(crate) fn forget_x87_pointers() {
        static OPERAND: u32 = 0;
        // SAFETY: the guest's state has been saved, or is of no vCPU; without pending exceptions, and with all registers free, the load
        // cannot fault.
        unsafe {
            asm!("fnclex", "emms", "fild dword ptr [{}]", in(reg) &raw const OPERAND, options(nostack))
        };
    }

    /// What interrupts the host is served now. Interrupts are off before and afterwards.
    #[inline(always)]
    pub(crate) fn let_interrupts_in() {
        // SAFETY: nothing is held that an interrupt handler wants; the compiler takes memory for changed. After STI one more instruction is
        // executed before an interrupt is taken.
        unsafe { asm!("sti", "nop", "cli") };
    }

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

    /// Declares a register's accessors.
    macro_rules! register {
        ($register:ident, $read:ident, $write:ident) => {
            pub(crate) fn $read() -> u64 {
                machine::with(|m| m.$register)
            }

            pub(crate) fn $write(value: u64) {
                machine::with(|m| m.$register = value);
            }
        };
    }

    register!(cr0, read_cr0, write_cr0);
    register!(cr2, read_cr2, write_cr2);
    register!(cr4, read_cr4, write_cr4);
    register!(dr6, read_dr6, write_dr6);

    pub(crate) fn read_tsc() -> u64 {
        machine::with(|m| m.tsc)
    }

    pub(crate) fn write_xcr0(value: u64) {
        machine::with(|m| m.xcr0 = value);
    }

    /// Copies the first bytes of an area, as tests look at no more.
    pub(crate) unsafe fn fxsave(area: *mut u8) {
        // SAFETY: the caller's area is larger.
        unsafe {
            area.cast::<[u8; 32]>()
                .write_unaligned(machine::with(|m| m.float))
        };
    }

    pub(crate) unsafe fn fxrstor(area: *const u8) {
        // SAFETY: the caller's area is larger.
        let float = unsafe { area.cast::<[u8; 32]>().read_unaligned() };
        machine::with(|m| m.float = float);
    }

    pub(crate) unsafe fn xsave(area: *mut u8, _: u64) {
        // SAFETY: as the caller promises.
        unsafe { fxsave(area) };
    }

    pub(crate) unsafe fn xrstor(area: *const u8, _: u64) {
        // SAFETY: as the caller promises.
        unsafe { fxrstor(area) };
    }

    pub(crate) fn read_breakpoints() -> [u64; 4] {
        machine::with(|m| m.breakpoints)
    }

    pub(crate) fn write_breakpoints(values: [u64; 4]) {
        machine::with(|m| m.breakpoints = values);
    }

    pub(crate) fn host_event(number: u8) {
        machine::with(|m| m.host_events.push(number));
    }

    pub(crate) fn forget_x87_pointers() {
        machine::with(|m| m.pointers_forgotten += 1);
    }

    pub(crate) fn let_interrupts_in() {
        machine::with(|m| m.interrupts_served += 1);
    }

    #[derive(Debug)]
    pub(crate) struct InterruptsOff;

    impl InterruptsOff {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}
