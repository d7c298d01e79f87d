//! The seam to an instruction set: what a VM needs of it beyond its vCPUs.

#[cfg(any(target_arch = "riscv64", not(target_os = "none")))]
pub(crate) mod riscv;
#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
pub(crate) mod x86;

use alloc::{sync::Arc, vec::Vec};
use core::ptr;

use axdevice::{AxVmDevices, CharBackend, IrqLine, PassedInterrupt, RegisterLayout, Uart16550};
use axvcpu::AxArchVCpu;
use axvmconfig::{ConfigError, VirtualDevice};

use crate::{AxVCpuConfig, AxVMConfig, GuestRam, GuestRange, VmLink};

/// An instruction set's VMs.
pub trait GuestArch: AxArchVCpu + Send + 'static {
    /// What only a machine of this instruction set has to say.
    type MachineInfo;

    /// The devices of a VM with this `ram`, and what its vCPUs are made from. `vm` is how the
    /// devices reach the rest of it.
    ///
    /// # Errors
    /// The devices cannot be as the config says; the error names its key.
    fn parts(
        config: &AxVMConfig<Self::MachineInfo>,
        ram: &[GuestRange],
        vm: Arc<dyn VmLink>,
    ) -> Result<Parts<Self::CreateConfig>, ConfigError>;

    /// What a vCPU is reset with that waits until another starts it.
    fn parked() -> Self::SetupConfig;

    /// Puts into RAM, which is all zero, what the guest finds there when it starts.
    ///
    /// # Errors
    /// An image is missing, malformed or finds no room, or the guest would start outside its RAM; the error names the config's key.
    fn load(
        config: &AxVMConfig<Self::MachineInfo>,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState<Self::SetupConfig>, ConfigError>;
}

/// What a VM is put together from.
pub struct Parts<C> {
    /// Its devices.
    pub devices: GuestDevices,
    /// What its vCPUs are made from, by number.
    pub vcpus: Vec<C>,
}

/// A VM's devices.
pub struct GuestDevices {
    /// Where vCPU 0 finds them, and every other that has no bus of its own.
    pub bus: AxVmDevices,
    /// Where vCPUs 1, 2 … find them, if there is something that each has for itself.
    pub own_buses: Vec<AxVmDevices>,
    /// The one that is the VM's console.
    pub console: Option<Arc<Uart16550>>,
    /// The interrupts of the machine's devices that the VM has.
    pub passed: Vec<Arc<PassedInterrupt>>,
}

impl GuestDevices {
    /// Where vCPU `id` finds the devices.
    #[inline]
    #[must_use]
    pub fn bus_of(&self, id: usize) -> &AxVmDevices {
        let own = id.checked_sub(1).and_then(|at| self.own_buses.get(at));
        own.unwrap_or(&self.bus)
    }

    /// Resets every device once.
    pub fn reset_all(&self) {
        self.bus.reset_all();
        for device in self.own_buses.iter().flat_map(AxVmDevices::iter) {
            if !self.bus.iter().any(|other| ptr::addr_eq(other, device)) {
                device.reset();
            }
        }
    }
}

/// How a VM starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootState<S> {
    /// Where.
    pub entries: AxVCpuConfig,
    /// What vCPU 0 is given (RISC-V: the address of the device tree; x86: that of the information
    /// of its boot protocol).
    pub arg: u64,
    /// What vCPU 0 is reset with.
    pub setup: S,
}

/// The serial port `device`. The first becomes the console.
fn serial_port<I>(
    config: &AxVMConfig<I>,
    device: &VirtualDevice,
    irq: IrqLine,
    console: &mut Option<Arc<Uart16550>>,
) -> Arc<Uart16550> {
    let backend: Arc<dyn CharBackend> = match console {
        None => config.console.clone(),
        Some(_) => Arc::new(Unconnected),
    };
    let uart = Uart16550::new(device.id.as_str(), RegisterLayout::Packed, irq, backend);
    let uart = Arc::new(uart);
    console.get_or_insert_with(|| uart.clone());
    uart
}

/// The far end of a serial port that nothing is plugged into.
struct Unconnected;

impl CharBackend for Unconnected {
    fn write(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn read(&self, _buf: &mut [u8]) -> usize {
        0
    }
}
