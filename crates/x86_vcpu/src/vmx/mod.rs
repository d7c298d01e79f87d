//! Intel's VMX.

use core::marker::PhantomData;

use axvcpu::AxVCpuHal;

/// A vCPU's VMCS.
pub struct VmxVcpu<H: AxVCpuHal> {
    _host: PhantomData<fn() -> H>,
}
