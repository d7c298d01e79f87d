//! The world switch: VMLAUNCH and VMRESUME (SDM vol. 3, chapter 31) with the guest's general registers.

#[cfg(not(target_os = "none"))]
use super::vmcs::VmFail;
#[cfg(not(target_os = "none"))]
use crate::regs::GuestRegisters;

/// How a VMCS is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// VMLAUNCH: for the first time since VMCLEAR.
    Launch,
    /// VMRESUME.
    Resume,
}

/// The stack pointer that the current VMCS brings back, remembered so that it is written only when it changes.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct HostRsp(u64);

pub(super) use imp::{enter, exit_address};

#[cfg(target_os = "none")]
mod imp {
    use super::{Entry, HostRsp};
    use crate::{
        regs::{GuestRegisters, gpr, gpr_offset, world_switch},
        vmx::{
            fields::{VmcsHostNW, VmcsReadOnly32},
            vmcs::VmFail,
        },
    };

    world_switch! {
        "switch.S",
        RAX = gpr_offset(gpr::RAX),
        HOST_RSP = VmcsHostNW::Rsp as u32,
        EXITED = EXITED,
        FAILED_INVALID = FAILED_INVALID,
        FAILED_VALID = FAILED_VALID,
    }

    const EXITED: u32 = 0;
    const FAILED_INVALID: u32 = 1;
    const FAILED_VALID: u32 = 2;

    unsafe extern "C" {
        fn x86_vcpu_vmx_enter(
            registers: *mut GuestRegisters,
            host_rsp: *mut HostRsp,
            resume: u32,
        ) -> u32;
        fn x86_vcpu_vmx_exit();
    }

    /// Where the host goes on after an exit.
    pub(crate) fn exit_address() -> u64 {
        (x86_vcpu_vmx_exit as *const ()).addr() as u64
    }

    /// Runs the guest until it exits. The current VMCS is the vCPU's, `host_rsp` is what it holds, and host interrupts are off.
    #[inline]
    pub(crate) fn enter(
        registers: &mut GuestRegisters,
        host_rsp: &mut HostRsp,
        entry: Entry,
    ) -> Result<(), VmFail> {
        let resume = match entry {
            Entry::Launch => 0,
            Entry::Resume => 1,
        };
        // SAFETY: the assembly follows the C calling convention, and touches nothing but its stack and what it is given. The exit brings the
        // host's stack, segments, tables and control registers back from the VMCS, where `percpu` wrote what this pCPU holds, and goes on
        // in the same assembly. The guest reaches only memory that its EPT gives it.
        let how = unsafe { x86_vcpu_vmx_enter(registers, host_rsp, resume) };
        match how {
            EXITED => Ok(()),
            FAILED_INVALID => Err(VmFail::Invalid),
            _ => Err(VmFail::Valid(VmcsReadOnly32::InstructionError.read())),
        }
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use super::{Entry, GuestRegisters, HostRsp, VmFail};
    use crate::vmx::machine;

    pub(crate) fn exit_address() -> u64 {
        0xffff_8000_0000_1000
    }

    pub(crate) fn enter(
        registers: &mut GuestRegisters,
        host_rsp: &mut HostRsp,
        entry: Entry,
    ) -> Result<(), VmFail> {
        host_rsp.0 = 0xffff_8000_0000_2000;
        machine::with(|m| m.enter(registers, entry == Entry::Resume))
    }
}
