//! How a RISC-V VM starts, as Linux wants it and others can live with (Linux,
//! Documentation/arch/riscv/boot.rst): `a0` is the hart's number, which the vCPU sees to, and `a1`
//! is the address of the device tree.

use alloc::vec::Vec;
use core::fmt;

use axaddrspace::GuestPhysAddr;
use axvmconfig::{Blob, ConfigError, DeviceModel, keys};

use super::{
    ImageError,
    blob::{device_tree, load_blob},
    fdt::{GuestTree, PlicNode, UartNode},
    kernel::load_kernel,
    ram::{GuestRam, GuestRange, RamMap, Thing},
};
use crate::{AxVCpuConfig, AxVMConfig, BootState, RiscvMachine, arch::riscv};

/// Puts kernel, ramdisk and device tree into RAM.
pub(crate) fn load(
    config: &AxVMConfig<RiscvMachine>,
    ram: &[GuestRange],
    memory: &mut dyn GuestRam,
) -> Result<BootState<()>, ConfigError> {
    let kernel = &config.vm.kernel;
    let mut loader = Loader {
        config,
        map: RamMap::new(ram),
        memory,
    };
    let entry = loader.kernel()?;
    // What has its address goes before what takes any: the latter must not be in the way.
    let (mut ramdisk, mut tree) = (None, None);
    for placed in [Placed::ByConfig, Placed::ByUs] {
        if let Some(blob) = kernel
            .ramdisk
            .as_ref()
            .filter(|blob| Placed::of(blob) == placed)
        {
            ramdisk = Some(loader.blob(Thing::Ramdisk, keys::RAMDISK_PATH, blob)?);
        }
        if let Some(blob) = kernel
            .dtb
            .as_ref()
            .filter(|blob| Placed::of(blob) == placed)
        {
            tree = Some(loader.blob(Thing::DeviceTree, keys::DTB_PATH, blob)?);
        }
    }
    let tree = match tree {
        Some(tree) => tree,
        None => loader.write_tree(ram, ramdisk)?,
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

/// Who says where a file goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    ByConfig,
    ByUs,
}

impl Placed {
    const fn of(blob: &Blob) -> Self {
        match blob.load_addr {
            Some(_) => Self::ByConfig,
            None => Self::ByUs,
        }
    }
}

struct Loader<'a> {
    config: &'a AxVMConfig<RiscvMachine>,
    map: RamMap<'a>,
    memory: &'a mut dyn GuestRam,
}

impl<'a> Loader<'a> {
    fn kernel(&mut self) -> Result<GuestPhysAddr, ConfigError> {
        let vm = &self.config.vm;
        let path = &vm.kernel.path;
        let entry = self
            .open(path)
            .and_then(|file| load_kernel(file, &vm.kernel, vm.isa, &mut self.map, self.memory));
        let entry = entry.map_err(|why| self.error(keys::KERNEL_PATH, path, why))?;
        match self.map.room_from(entry) {
            0 => Err(vm.error(
                keys::ENTRY_POINT,
                format_args!("{entry:#x} is not within the VM's RAM (memory_regions)"),
            )),
            _ => Ok(entry),
        }
    }

    fn blob(&mut self, thing: Thing, key: &str, blob: &Blob) -> Result<GuestRange, ConfigError> {
        let bytes = self.open(&blob.path).and_then(|file| match thing {
            Thing::DeviceTree => device_tree(file),
            Thing::Kernel | Thing::Ramdisk => Ok(file),
        });
        bytes
            .and_then(|bytes| load_blob(thing, bytes, blob.load_addr, &mut self.map, self.memory))
            .map_err(|why| self.error(key, &blob.path, why))
    }

    /// Writes the device tree that says what there is.
    fn write_tree(
        &mut self,
        ram: &[GuestRange],
        ramdisk: Option<GuestRange>,
    ) -> Result<GuestRange, ConfigError> {
        let vm = &self.config.vm;
        let map = vm.isa.guest_map();
        let isa = &self.config.machine.isa.cpus;
        let isa = isa.for_guest(riscv::features(isa));
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
        let tree = GuestTree {
            name: &vm.name,
            cmdline: vm.kernel.cmdline.as_deref(),
            ramdisk,
            memory: ram,
            cpus: vm.vcpus.len() as u32,
            timebase_hz: self.config.machine.timebase_hz,
            isa: &isa,
            plic: PlicNode {
                window: map.interrupt_controller,
                sources: *map.irqs.end(),
            },
            uarts: &uarts,
        };
        // The strings in it are the config's.
        let tree = tree.flatten().map_err(|why| {
            vm.error(
                keys::CMDLINE,
                format_args!("no device tree can be written: {why}"),
            )
        })?;
        load_blob(Thing::DeviceTree, &tree, None, &mut self.map, self.memory).map_err(|why| {
            vm.error(
                keys::MEMORY_REGIONS,
                format_args!("{}: {why}", Thing::DeviceTree),
            )
        })
    }

    fn open(&self, path: &str) -> Result<&'a [u8], ImageError> {
        self.config.images.open(path).ok_or(ImageError::Missing)
    }

    fn error(&self, key: &str, path: &str, why: impl fmt::Display) -> ConfigError {
        self.config.vm.error(key, format_args!("{path:?}: {why}"))
    }
}

#[cfg(test)]
mod tests;
