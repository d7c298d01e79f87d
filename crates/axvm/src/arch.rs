//! The seam to an instruction set: what a VM needs of it beyond its vCPUs.

pub(crate) mod riscv;

use alloc::{sync::Arc, vec::Vec};

use axdevice::{AxVmDevices, CpuInterrupts, Uart16550};
use axvcpu::AxArchVCpu;
use axvmconfig::ConfigError;

use crate::{AxVCpuConfig, AxVMConfig, GuestRam, GuestRange};

/// An instruction set's VMs.
pub trait GuestArch: AxArchVCpu + Send + 'static {
    /// The number, in a vCPU's mailbox, of the line by which the interrupt controller reaches it.
    const EXTERNAL_INTERRUPT: usize;

    /// What vCPU `vcpu_id` is made from, in a VM with this `ram`.
    fn create_config(
        config: &AxVMConfig,
        ram: &[GuestRange],
        vcpu_id: usize,
    ) -> Result<Self::CreateConfig, ConfigError>;

    /// What vCPU `vcpu_id` is reset with.
    fn setup_config(config: &AxVMConfig, vcpu_id: usize) -> Self::SetupConfig;

    /// The VM's devices, whose interrupt controller drives `cpus`.
    fn devices(
        config: &AxVMConfig,
        cpus: Arc<dyn CpuInterrupts>,
    ) -> Result<GuestDevices, ConfigError>;

    /// Puts into RAM, which is all zero, what the guest finds there when it starts.
    fn load(
        config: &AxVMConfig,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState, ConfigError>;

    /// How often this vCPU left its guest, by the names of the reasons.
    fn exit_counts(&self) -> Vec<(&'static str, u64)>;
}

/// A VM's devices.
pub struct GuestDevices {
    /// Where the guest finds them.
    pub bus: AxVmDevices,
    /// The one that is the VM's console.
    pub console: Option<Arc<Uart16550>>,
}

/// How a VM starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootState {
    /// Where.
    pub entries: AxVCpuConfig,
    /// What vCPU 0 is given (RISC-V: the address of the device tree).
    pub arg: u64,
}
