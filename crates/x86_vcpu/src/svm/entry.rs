//! The world switch of SVM (AMD APM 2, "SVM Processor and Platform Extensions").
//!
//! From CLGI to STGI nothing interrupts: not even an NMI meets the guest's GS base, task register or system-call MSRs, which VMRUN leaves to
//! software. RFLAGS.IF is set within, because VMRUN hands it on as the mask of physical interrupts (V_INTR_MASKING): they exit, and wait for
//! the end of the run.

#[cfg(target_os = "none")]
pub(super) use hardware::{run, save_host};

#[cfg(target_os = "none")]
mod hardware {
    use axaddrspace::AxMmHal;

    use crate::{
        regs::{GuestRegisters, world_switch},
        svm::vmcb::{HOST_OFFSET, VmcbPages},
    };

    world_switch! { "entry.S", HOST = HOST_OFFSET, }

    unsafe extern "sysv64" {
        fn x86_vcpu_svm_run(registers: *mut GuestRegisters, vmcb: u64);
    }

    /// Runs the guest until it exits. Interrupts are off, and [`save_host`] has been called on this pCPU.
    #[inline]
    pub(in crate::svm) fn run<H: AxMmHal>(
        registers: &mut GuestRegisters,
        pages: &mut VmcbPages<H>,
    ) {
        let vmcb = pages.vmcb_address();
        // SAFETY: the assembly follows the calling convention and writes but the borrowed registers, by their computed offsets, and the VMCB, which
        // is borrowed too, with the host's page behind it. Its guest reaches only what the nested table gives it. What VMRUN does not restore of the host comes back from the
        // host's page before anything can use it.
        unsafe { x86_vcpu_svm_run(registers, vmcb.as_u64()) };
    }

    /// Saves what VMRUN leaves of the host's state to software: FS, GS, TR, LDTR and the system-call MSRs. SVM is enabled.
    pub(in crate::svm) fn save_host<H: AxMmHal>(pages: &mut VmcbPages<H>) {
        let host = pages.host_address().as_u64();
        // SAFETY: writes to a page of `pages`, which is borrowed exclusively.
        unsafe {
            core::arch::asm!("vmsave rax", in("rax") host, options(nostack, preserves_flags));
        }
    }
}

#[cfg(not(target_os = "none"))]
pub(super) use super::machine::{run, save_host};
