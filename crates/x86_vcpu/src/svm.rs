//! AMD's SVM.

use core::marker::PhantomData;

use axvcpu::AxVCpuHal;

/// A vCPU's VMCB.
pub struct SvmVcpu<H: AxVCpuHal> {
    _host: PhantomData<fn() -> H>,
}
