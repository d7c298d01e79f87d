//! What a VM has beside KVM's devices: AxHV's models, wired to KVM's interrupt controllers.

use alloc::{format, string::String, sync::Arc};
use core::sync::atomic::{AtomicBool, Ordering};

use axdevice::{
    AxVmDevicesBuilder, CharBackend, InterruptController, IrqLine, RegisterLayout, SystemPower,
    Uart16550,
};
use axvcpu::AccessWidth;
use axvmconfig::{DeviceModel, DeviceSpace, VmConfig};

/// Whether the guest has powered its machine off.
#[derive(Debug, Default)]
pub struct Power(AtomicBool);

impl Power {
    /// Whether it has.
    pub fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl SystemPower for Power {
    fn power_off(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A reset ends it as well: a guest that measures starts once.
    fn reset(&self) {
        self.power_off();
    }
}

/// Puts the serial ports of `vm` on the bus, each of them on the console.
pub fn serial_ports(
    mut bus: AxVmDevicesBuilder,
    vm: &VmConfig,
    console: &Arc<dyn CharBackend>,
    lines: &Arc<dyn InterruptController>,
) -> AxVmDevicesBuilder {
    for device in &vm.devices {
        bus = match device.model {
            DeviceModel::Ns16550 => {
                let irq = IrqLine::new(lines.clone(), device.irq);
                let (id, layout) = (device.id.as_str(), RegisterLayout::Packed);
                let uart = Arc::new(Uart16550::new(id, layout, irq, console.clone()));
                match vm.isa.guest_map().device_space {
                    DeviceSpace::Memory => bus.mmio(device.addr, device.size, uart),
                    // The config has them within 16 bits.
                    DeviceSpace::Ports => {
                        bus.port(device.addr.as_u64() as u16, device.size as u32, uart)
                    }
                }
            }
        };
    }
    bus
}

/// What a read gets where nothing is.
pub const fn nothing(width: AccessWidth) -> u64 {
    width.mask()
}

/// The devices, put together.
///
/// # Errors
/// In words: two of them are at the same place.
pub fn build(bus: AxVmDevicesBuilder) -> Result<axdevice::AxVmDevices, String> {
    bus.build().map_err(|why| format!("{why}"))
}
