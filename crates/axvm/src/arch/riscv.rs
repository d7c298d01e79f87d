//! RISC-V VMs: vCPUs on the H extension, a PLIC, 16550s.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};

use axdevice::{
    AxVmDevices, CpuInterrupts, Device, HostTrigger, InterruptController, IrqLine, PassedInterrupt,
    Plic,
};
use axvcpu::{AxVCpuHal, LineLevel};
use axvmconfig::{ConfigError, DeviceModel, Sharing, VCpuPlacement, keys};
use riscv_vcpu::{CpuFeatures, EXTERNAL_INTERRUPT, RISCVVCpu, RISCVVCpuConfig, WfiPolicy};

use super::{BootState, GuestArch, GuestDevices, Parts, serial_port};
use crate::{AxVMConfig, GuestRam, GuestRange, IsaInfo, RiscvMachine, VmLink, boot::linux_riscv};

impl<H: AxVCpuHal> GuestArch for RISCVVCpu<H> {
    type MachineInfo = RiscvMachine;

    fn parts(
        config: &AxVMConfig<RiscvMachine>,
        ram: &[GuestRange],
        vm: Arc<dyn VmLink>,
    ) -> Result<Parts<RISCVVCpuConfig>, ConfigError> {
        let vcpus = &config.vm.vcpus;
        Ok(Parts {
            devices: devices(config, vm)?,
            vcpus: vcpus
                .iter()
                .map(|placement| vcpu_config(config, ram, placement))
                .collect(),
        })
    }

    fn parked() {}

    fn load(
        config: &AxVMConfig<RiscvMachine>,
        ram: &[GuestRange],
        memory: &mut dyn GuestRam,
    ) -> Result<BootState<()>, ConfigError> {
        load_riscv(config, features(&config.machine.isa.cpus), ram, memory)
    }
}

fn vcpu_config(
    config: &AxVMConfig<RiscvMachine>,
    ram: &[GuestRange],
    placement: &VCpuPlacement,
) -> RISCVVCpuConfig {
    let machine = &config.machine;
    let sharing = placement.sharing_on(machine.pcpus);
    let wfi = match sharing {
        Sharing::Dedicated => WfiPolicy::Untrapped,
        Sharing::Shared => WfiPolicy::Exit,
    };
    RISCVVCpuConfig {
        vcpu_count: config.vm.vcpus.len(),
        features: features(&machine.isa.cpus),
        nested_mode: machine.nested_mode,
        wfi,
        sharing,
        machine_ids: machine.isa.ids,
        ram: ram.iter().map(|range| range.start()..range.end()).collect(),
    }
}

fn devices(
    config: &AxVMConfig<RiscvMachine>,
    link: Arc<dyn VmLink>,
) -> Result<GuestDevices, ConfigError> {
    let vm = &config.vm;
    let map = vm.isa.guest_map();
    let contexts = Plic::machine_supervisor_contexts(vm.vcpus.len());
    let cpus = Arc::new(ExternalLines(link));
    let plic = Plic::new("plic", *map.irqs.end(), &contexts, cpus)
        .map_err(|why| vm.error(keys::CPU_NUM, why))?;
    let plic = Arc::new(plic);
    let window = map.interrupt_controller;
    let mut bus = AxVmDevices::builder().mmio(window.base, window.size, plic.clone());
    let mut console = None;
    for device in &vm.devices {
        match device.model {
            DeviceModel::Ns16550 => {
                let controller: Arc<dyn InterruptController> = plic.clone();
                let irq = IrqLine::new(controller, device.irq);
                let uart = serial_port(config, device, irq, &mut console);
                let on_bus: Arc<dyn Device> = uart;
                bus = bus.mmio(device.addr, device.size, on_bus);
            }
        }
    }
    let bus = bus.build().map_err(|why| vm.error(keys::VIRTUAL, why))?;
    let passed = vm.passed.iter().filter_map(|device| device.irq);
    let passed = passed.map(|irq| {
        let controller: Arc<dyn InterruptController> = plic.clone();
        let line = IrqLine::new(controller, irq.guest);
        let host = config.host.clone();
        // Its gateway makes a level of an edge, too.
        let interrupt = PassedInterrupt::new(irq.host, HostTrigger::Level, host, line);
        let interrupt = Arc::new(interrupt);
        // The line leads to the controller already.
        let weak: Weak<PassedInterrupt> = Arc::downgrade(&interrupt);
        plic.on_served(irq.guest, weak);
        interrupt
    });
    Ok(GuestDevices {
        bus,
        own_buses: Vec::new(),
        console,
        passed: passed.collect(),
    })
}

/// Puts into RAM what a RISC-V VM, whose vCPUs give it `features`, finds there when it starts. This
/// asks nothing of the host, so that others than [`AxVM`](crate::AxVM) can start the same VM.
///
/// # Errors
/// Those of [`GuestArch::load`].
pub fn load_riscv(
    config: &AxVMConfig<RiscvMachine>,
    features: CpuFeatures,
    ram: &[GuestRange],
    memory: &mut dyn GuestRam,
) -> Result<BootState<()>, ConfigError> {
    linux_riscv::load(config, features, ram, memory)
}

/// What the vCPUs give their guests of what the machine is said to have.
fn features(isa: &IsaInfo) -> CpuFeatures {
    let mut said = CpuFeatures::empty();
    said.set(CpuFeatures::SSTC, isa.has("sstc"));
    said.set(CpuFeatures::FLOAT, isa.has("f") && isa.has("d"));
    said.set(CpuFeatures::VECTOR, isa.has("v"));
    said & CpuFeatures::detect()
}

/// The PLIC's wires to the vCPUs.
struct ExternalLines(Arc<dyn VmLink>);

impl CpuInterrupts for ExternalLines {
    fn set_line(&self, cpu: usize, level: LineLevel) {
        self.0.set_line(cpu, EXTERNAL_INTERRUPT, level);
    }
}

#[cfg(test)]
mod tests;
