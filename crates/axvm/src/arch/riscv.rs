//! RISC-V VMs: vCPUs on the H extension, a PLIC, 16550s.

use alloc::{sync::Arc, vec::Vec};

use axdevice::{
    AxVmDevices, CharBackend, CpuInterrupts, Device, InterruptController, IrqLine, Plic,
    RegisterLayout, Uart16550,
};
use axvcpu::AxVCpuHal;
use axvmconfig::{ConfigError, DeviceModel, Sharing, keys};
use riscv_vcpu::{CpuFeatures, EXTERNAL_INTERRUPT, RISCVVCpu, RISCVVCpuConfig, WfiPolicy};

use super::{BootState, GuestArch, GuestDevices};
use crate::{AxVMConfig, GuestRam, GuestRange, IsaInfo, boot::linux_riscv};

impl<H: AxVCpuHal> GuestArch for RISCVVCpu<H> {
    const EXTERNAL_INTERRUPT: usize = EXTERNAL_INTERRUPT;

    fn create_config(
        config: &AxVMConfig,
        ram: &[GuestRange],
        vcpu_id: usize,
    ) -> Result<RISCVVCpuConfig, ConfigError> {
        let placement = config.vm.vcpus.get(vcpu_id);
        let placement =
            placement.ok_or_else(|| config.vm.error(keys::CPU_NUM, "there is no such vCPU"))?;
        let (wfi, sharing) = match placement.sharing_on(config.machine.pcpus) {
            Sharing::Dedicated => (WfiPolicy::Untrapped, riscv_vcpu::Sharing::Dedicated),
            Sharing::Shared => (WfiPolicy::Exit, riscv_vcpu::Sharing::Shared),
        };
        Ok(RISCVVCpuConfig {
            vcpu_count: config.vm.vcpus.len(),
            features: features(&config.machine.isa),
            nested_mode: config.machine.nested_mode,
            wfi,
            sharing,
            machine_ids: config.machine.ids,
            ram: ram.iter().map(|range| range.start()..range.end()).collect(),
        })
    }

    fn setup_config(_config: &AxVMConfig, _vcpu_id: usize) {}

    fn devices(
        config: &AxVMConfig,
        cpus: Arc<dyn CpuInterrupts>,
    ) -> Result<GuestDevices, ConfigError> {
        let vm = &config.vm;
        let map = vm.isa.guest_map();
        let contexts = Plic::machine_supervisor_contexts(vm.vcpus.len());
        let plic = Plic::new("plic", *map.irqs.end(), &contexts, cpus)
            .map_err(|why| vm.error(keys::CPU_NUM, why))?;
        let plic = Arc::new(plic);
        let window = map.interrupt_controller;
        let mut bus = AxVmDevices::builder().mmio(window.base, window.size, plic.clone());
        let mut console = None;
        for device in &vm.devices {
            match device.model {
                DeviceModel::Ns16550 => {
                    let backend: Arc<dyn CharBackend> = match console {
                        None => config.console.clone(),
                        Some(_) => Arc::new(Unconnected),
                    };
                    let controller: Arc<dyn InterruptController> = plic.clone();
                    let irq = IrqLine::new(controller, device.irq);
                    let uart =
                        Uart16550::new(device.id.as_str(), RegisterLayout::Packed, irq, backend);
                    let uart = Arc::new(uart);
                    let on_bus: Arc<dyn Device> = uart.clone();
                    bus = bus.mmio(device.addr, device.window().size, on_bus);
                    console.get_or_insert(uart);
                }
            }
        }
        let bus = bus.build().map_err(|why| vm.error(keys::VIRTUAL, why))?;
        Ok(GuestDevices { bus, console })
    }

    fn load(
        config: &AxVMConfig,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState, ConfigError> {
        linux_riscv::load(config, ram, memory)
    }

    fn exit_counts(&self) -> Vec<(&'static str, u64)> {
        let counts = Self::exit_counts(self).iter();
        counts.map(|(kind, count)| (kind.name(), count)).collect()
    }
}

/// What the vCPUs give their guests of what the machine is said to have.
pub(crate) fn features(isa: &IsaInfo) -> CpuFeatures {
    let mut said = CpuFeatures::empty();
    said.set(CpuFeatures::SSTC, isa.has("sstc"));
    said.set(CpuFeatures::FLOAT, isa.has("f") && isa.has("d"));
    said.set(CpuFeatures::VECTOR, isa.has("v"));
    said & CpuFeatures::detect()
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

#[cfg(test)]
mod tests;
