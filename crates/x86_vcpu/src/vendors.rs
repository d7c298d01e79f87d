//! The vCPU on the virtualization that this machine has.

use alloc::sync::Arc;
use core::fmt;

use axaddrspace::{GuestPhysAddr, HostPhysAddr};
use axerrno::{AxResult, ax_err};
use axvcpu::{
    Account, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, DeviceAccess, HypercallError, LineLevel,
    Mailbox, Wait,
};

use crate::{SvmVcpu, VmxVcpu, X86Start, X86VCpuConfig, backend::Vendor, percpu, vcpu::VCpu};

/// An x86_64 vCPU.
pub struct X86VCpu<H: AxVCpuHal>(OneOf<H>);

#[expect(
    clippy::large_enum_variant,
    reason = "a machine has only one of them, and moves none"
)]
enum OneOf<H: AxVCpuHal> {
    Vmx(VCpu<H, VmxVcpu<H>>),
    Svm(VCpu<H, SvmVcpu<H>>),
}

/// Declares methods that hand on to the vendor's vCPU.
macro_rules! hand_on {
    ($(fn $name:ident(
        $self:ident: $receiver:ty $(, $argument:ident: $type:ty)*
    ) $(-> $result:ty)?;)*) => {
        $(
            #[inline]
            fn $name($self: $receiver $(, $argument: $type)*) $(-> $result)? {
                match $self {
                    Self(OneOf::Vmx(vcpu)) => vcpu.$name($($argument),*),
                    Self(OneOf::Svm(vcpu)) => vcpu.$name($($argument),*),
                }
            }
        )*
    };
}

impl<H: AxVCpuHal> AxArchVCpu for X86VCpu<H> {
    type CreateConfig = X86VCpuConfig;
    type SetupConfig = X86Start;

    fn new(vm_id: usize, vcpu_id: usize, config: X86VCpuConfig) -> AxResult<Self> {
        Ok(Self(match percpu::vendor::<H>() {
            Some(Vendor::Vmx) => OneOf::Vmx(VCpu::new(vm_id, vcpu_id, config)?),
            Some(Vendor::Svm) => OneOf::Svm(VCpu::new(vm_id, vcpu_id, config)?),
            None => return ax_err!(Unsupported, "the CPU has neither SVM nor VMX"),
        }))
    }

    #[inline]
    fn run<D: DeviceAccess>(
        &mut self,
        mailbox: &Mailbox,
        devices: &D,
    ) -> AxResult<AxVCpuExitReason> {
        match self {
            Self(OneOf::Vmx(vcpu)) => vcpu.run(mailbox, devices),
            Self(OneOf::Svm(vcpu)) => vcpu.run(mailbox, devices),
        }
    }

    hand_on! {
        fn account(self: &Self) -> &Arc<Account>;
        fn set_entry(self: &mut Self, entry: GuestPhysAddr) -> AxResult;
        fn set_nested_root(self: &mut Self, root: HostPhysAddr) -> AxResult;
        fn setup(self: &mut Self, start: X86Start) -> AxResult;
        fn start_at(self: &mut Self, entry: GuestPhysAddr, arg: u64) -> AxResult;
        fn bind(self: &mut Self) -> AxResult;
        fn unbind(self: &mut Self) -> AxResult;
        fn inject_interrupt(self: &mut Self, vector: usize) -> AxResult;
        fn set_interrupt_line(self: &mut Self, vector: usize, level: LineLevel) -> AxResult;
        fn set_return_value(self: &mut Self, answer: Result<u64, HypercallError>);
        fn finish_read(self: &mut Self, value: u64) -> AxResult;
        fn fault_access(self: &mut Self) -> AxResult;
        fn has_pending_interrupt(self: &Self) -> bool;
        fn wait(self: &Self) -> Wait;
        fn timer_deadline(self: &Self) -> Option<u64>;
        fn pc(self: &Self) -> u64;
        fn dump(self: &Self, out: &mut dyn fmt::Write) -> fmt::Result;
    }
}
