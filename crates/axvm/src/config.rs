//! What a VM is made from.

use alloc::sync::Arc;

use axaddrspace::GuestPhysAddr;
use axdevice::{CharBackend, HostDevices};
use axvmconfig::VmConfig;

use crate::{ImageSource, Machine};

/// Everything a VM is made from.
#[derive(Clone)]
pub struct AxVMConfig<I> {
    /// What its config file says, checked against the machine and the other VMs.
    pub vm: VmConfig,
    /// The machine that it runs on.
    pub machine: Arc<Machine<I>>,
    /// Where its images come from. They are read again each time that the VM boots.
    pub images: Arc<dyn ImageSource>,
    /// The far end of its console: of the first UART, and of the debug console.
    pub console: Arc<dyn CharBackend>,
    /// The machine's devices, of which it may have some for itself.
    pub host: Arc<dyn HostDevices>,
}

/// Where the vCPUs start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxVCpuConfig {
    /// vCPU 0.
    pub bsp_entry: GuestPhysAddr,
    /// The others, until another vCPU starts them somewhere else.
    pub ap_entry: GuestPhysAddr,
}
