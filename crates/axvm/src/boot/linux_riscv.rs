//! How a RISC-V VM starts, as Linux wants it and others can live with (Linux,
//! Documentation/arch/riscv/boot.rst): `a0` is the hart's number, which the vCPU sees to, and `a1`
//! is the address of the device tree.

mod image;

use alloc::vec::Vec;

use axvmconfig::{ConfigError, DeviceModel, keys};
use riscv_vcpu::CpuFeatures;

use super::{
    fdt::{GuestTree, PassedNode, PlicNode, UartNode},
    loader::Loader,
    ram::{GuestRam, GuestRange, Thing},
};
use crate::{AxVCpuConfig, AxVMConfig, BootState, RiscvMachine};
use image::load_kernel;

/// Puts kernel, ramdisk and device tree into RAM.
pub(crate) fn load(
    config: &AxVMConfig<RiscvMachine>,
    features: CpuFeatures,
    ram: &[GuestRange],
    memory: &mut dyn GuestRam,
) -> Result<BootState<()>, ConfigError> {
    let vm = &config.vm;
    let mut loader = Loader::new(config, ram, memory);
    let entry = loader.kernel(|file, map, ram| load_kernel(file, &vm.kernel, vm.isa, map, ram))?;
    let entry = loader.check_entry(entry)?;
    let blobs = loader.blobs()?;
    let tree = match blobs.tree {
        Some(tree) => tree,
        None => {
            let tree = write_tree(config, features, ram, blobs.ramdisk)?;
            loader.write(Thing::DeviceTree, &tree, None)?
        }
    };
    let entries = AxVCpuConfig {
        bsp_entry: entry,
        ap_entry: entry,
    };
    Ok(BootState {
        entries,
        arg: tree.start().as_u64(),
        setup: (),
    })
}

/// The device tree that says what there is.
fn write_tree(
    config: &AxVMConfig<RiscvMachine>,
    features: CpuFeatures,
    ram: &[GuestRange],
    ramdisk: Option<GuestRange>,
) -> Result<Vec<u8>, ConfigError> {
    let vm = &config.vm;
    let map = vm.isa.guest_map();
    let isa = config.machine.isa.cpus.for_guest(features);
    let uarts: Vec<_> = vm
        .devices
        .iter()
        .map(|device| match device.model {
            DeviceModel::Ns16550 => UartNode {
                window: device.window(),
                irq: device.irq,
            },
        })
        .collect();
    let passed = vm.passed.iter().filter_map(|device| {
        Some(PassedNode {
            window: device.registers?.window(),
            irq: device.irq.map(|irq| irq.guest),
            compatible: device.compatible.as_deref()?,
        })
    });
    let passed: Vec<_> = passed.collect();
    let tree = GuestTree {
        name: &vm.name,
        cmdline: vm.kernel.cmdline.as_deref(),
        ramdisk,
        memory: ram,
        cpus: vm.vcpus.len() as u32,
        timebase_hz: config.machine.timebase_hz,
        isa: &isa,
        plic: PlicNode {
            window: map.interrupt_controller,
            sources: *map.irqs.end(),
        },
        uarts: &uarts,
        passed: &passed,
    };
    // The strings in it are the config's.
    tree.flatten().map_err(|why| {
        vm.error(
            keys::CMDLINE,
            format_args!("no device tree can be written: {why}"),
        )
    })
}

#[cfg(test)]
mod tests;
