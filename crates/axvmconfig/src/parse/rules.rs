//! What must hold between the values of one config: nothing lies over anything else, and images go to RAM.

use alloc::{format, string::String, vec::Vec};

use axaddrspace::GuestPhysAddr;

use super::reader::Report;
use crate::{DeviceSpace, VmConfig, Window, keys};

mod passed;

/// A device tree starts at a multiple of 8 bytes (Devicetree Specification 0.4, section 5.2).
const DTB_ALIGN: u64 = 8;

pub(super) fn check(config: &VmConfig, report: &mut Report) {
    // Where part of a list could not be read, its elements are not where the file has them, and what
    // would be inside the VM's memory is not known.
    let memory_is_known = report.is_clean(keys::MEMORY_REGIONS);
    let devices_are_known = report.is_clean(keys::VIRTUAL);
    let passed_are_known = report.is_clean(keys::PASSTHROUGH);
    if memory_is_known && devices_are_known && passed_are_known {
        check_overlaps(config, report);
    }
    // One whose model is wrong is in the list, as another.
    if report.is_clean_but(keys::VIRTUAL, ".model") {
        check_devices(config, report);
    }
    if devices_are_known && passed_are_known {
        passed::check(config, report);
    }
    check_images(config, report);
    if memory_is_known {
        check_load_addresses(config, report);
        check_boot_ram(config, report);
    }
}

/// What is said of a device that the file does not list.
const BY_DEFAULT: &str = "there by default";

/// Something that has addresses to itself.
struct Claim {
    space: DeviceSpace,
    /// The key that says so; empty for what every VM has.
    key: String,
    what: String,
    window: Window,
}

fn check_overlaps(config: &VmConfig, report: &mut Report) {
    let map = config.isa.guest_map();
    let controller = Claim {
        space: DeviceSpace::Memory,
        key: String::new(),
        what: map.interrupt_controller_is.into(),
        window: map.interrupt_controller,
    };
    let own = map.own_devices.iter().map(|&window| Claim {
        space: map.device_space,
        key: String::new(),
        what: "a device that every VM has".into(),
        window,
    });
    let regions = config
        .memory
        .iter()
        .enumerate()
        .map(|(position, region)| Claim {
            space: DeviceSpace::Memory,
            key: format!("{}[{position}]", keys::MEMORY_REGIONS),
            what: format!("memory region {position}"),
            window: region.window(),
        });
    let devices = config
        .devices
        .iter()
        .enumerate()
        .map(|(position, device)| Claim {
            space: map.device_space,
            key: format!("{}[{position}]", keys::VIRTUAL),
            what: format!("device \"{}\"", device.id),
            window: device.window(),
        });
    let claims: Vec<Claim> = [controller]
        .into_iter()
        .chain(own)
        .chain(devices)
        .chain(regions)
        .collect();
    for (position, claim) in claims.iter().enumerate() {
        let end = claim.window.end().map(GuestPhysAddr::as_u64);
        match claim.space.size() {
            None if end.is_none() => {
                let rule = format_args!("{} must end below 2^64", claim.what);
                report.error(&claim.key, rule);
            }
            Some(size) if end.is_none_or(|end| end > size) => {
                let last = size - 1;
                let rule = format_args!("{} must end at port {last:#x} or below", claim.what);
                report.error(&claim.key, rule);
            }
            None | Some(_) => {}
        }
        for earlier in claims.iter().take(position) {
            claim.check_against(earlier, report);
        }
    }
    // Of the controllers' gigabyte on x86 only the registers are in their way.
    let board = map.controller_registers.iter().map(|&window| Claim {
        space: DeviceSpace::Memory,
        key: String::new(),
        what: "the interrupt controller, which every VM has".into(),
        window,
    });
    let others: Vec<Claim> = board.chain(claims.into_iter().skip(1)).collect();
    let passed: Vec<Claim> = passed::claims(config).collect();
    for (position, claim) in passed.iter().enumerate() {
        for earlier in others.iter().chain(passed.iter().take(position)) {
            claim.check_against(earlier, report);
        }
    }
}

impl Claim {
    /// Says so if the two have an address in common.
    fn check_against(&self, earlier: &Self, report: &mut Report) {
        if self.space == earlier.space && self.window.overlaps(earlier.window) {
            let place = match report.line_if_written(&earlier.key) {
                Some(line) => format!(", line {line}"),
                None if earlier.key.starts_with(keys::VIRTUAL) => format!(", {BY_DEFAULT}"),
                None => String::new(),
            };
            let (window, what, other) = (self.window, &earlier.what, earlier.window);
            let rule = format_args!("{} ({window}) overlaps {what} ({other}{place})", self.what);
            report.error(&self.key, rule);
        }
    }
}

fn check_devices(config: &VmConfig, report: &mut Report) {
    for (position, device) in config.devices.iter().enumerate() {
        for (other_position, other) in config.devices.iter().enumerate().take(position) {
            let key = format!("{}[{position}]", keys::VIRTUAL);
            let owner = report.place(&format!("{}[{other_position}]", keys::VIRTUAL));
            if device.id == other.id {
                let rule = format_args!("\"{}\" is the name of {owner} already", device.id);
                report.error(&format!("{key}.id"), rule);
            }
            if device.irq == other.irq {
                let rule = format_args!("{} is the interrupt of {owner} already", device.irq);
                report.error(&format!("{key}.irq"), rule);
            }
        }
    }
}

/// Where the config wants the images: those that it says, by key.
fn image_addresses(config: &VmConfig) -> impl Iterator<Item = (&'static str, GuestPhysAddr)> {
    let kernel = &config.kernel;
    let dtb = kernel.dtb.as_ref().and_then(|dtb| dtb.load_addr);
    let ramdisk = kernel
        .ramdisk
        .as_ref()
        .and_then(|ramdisk| ramdisk.load_addr);
    [
        (keys::KERNEL_LOAD_ADDR, kernel.load_addr),
        (keys::DTB_LOAD_ADDR, dtb),
        (keys::RAMDISK_LOAD_ADDR, ramdisk),
    ]
    .into_iter()
    .filter_map(|(key, addr)| Some((key, addr?)))
}

/// What can be said of images without their sizes.
fn check_images(config: &VmConfig, report: &mut Report) {
    if config.kernel.dtb.is_some() {
        check_own_device_tree(config, report);
    }
    for (position, (key, addr)) in image_addresses(config).enumerate() {
        if key == keys::DTB_LOAD_ADDR && !addr.is_aligned(DTB_ALIGN) {
            report.error(
                key,
                format_args!("must be a multiple of {DTB_ALIGN}, found {addr}"),
            );
        }
        for (other, _) in image_addresses(config)
            .take(position)
            .filter(|&(_, taken)| taken == addr)
        {
            let line = report.line(other);
            report.error(key, format_args!("{addr} is {other} too (line {line})"));
        }
    }
}

/// The guest learns its command line, its ramdisk and its devices from the device tree, and this one is given to it as it is.
fn check_own_device_tree(config: &VmConfig, report: &mut Report) {
    let kernel = &config.kernel;
    for (position, device) in config.passed.iter().enumerate() {
        if device.compatible.is_some() {
            report.error(
                &format!("{}[{position}].compatible", keys::PASSTHROUGH),
                format_args!(
                    "does not reach the guest beside {}: write a node into that tree",
                    keys::DTB_PATH
                ),
            );
        }
    }
    if kernel.cmdline.is_some() {
        report.error(
            keys::CMDLINE,
            format_args!(
                "does not reach the guest beside {}: write it into that tree, as bootargs",
                keys::DTB_PATH
            ),
        );
    }
    if kernel
        .ramdisk
        .as_ref()
        .is_some_and(|ramdisk| ramdisk.load_addr.is_none())
    {
        report.error(
            keys::RAMDISK_PATH,
            format_args!(
                "needs {} beside {}, the address that this tree gives",
                keys::RAMDISK_LOAD_ADDR,
                keys::DTB_PATH
            ),
        );
    }
}

fn check_load_addresses(config: &VmConfig, report: &mut Report) {
    let entry = config
        .kernel
        .entry_point
        .map(|addr| (keys::ENTRY_POINT, addr));
    for (key, addr) in image_addresses(config).chain(entry) {
        if !config
            .memory
            .iter()
            .any(|region| region.window().contains(addr))
        {
            let line = report.line(keys::MEMORY_REGIONS);
            let rule = "must be in the VM's memory";
            report.error(
                key,
                format_args!("{rule} (memory_regions, line {line}), found {addr}"),
            );
        }
    }
}

/// Whether there is RAM where every VM of this instruction set needs it.
fn check_boot_ram(config: &VmConfig, report: &mut Report) {
    let is_ram = |needed: &&Window| {
        let holds = |window: Window| window.contains(needed.base) && window.end() >= needed.end();
        config.memory.iter().any(|region| holds(region.window()))
    };
    // One that is missing is enough to say.
    let mut needed = config.isa.guest_map().boot_ram.iter();
    if let Some(missing) = needed.find(|window| !is_ram(window)) {
        let rule = "a PC needs RAM in its first MiB, in one region at";
        report.error(keys::MEMORY_REGIONS, format_args!("{rule} {missing}"));
    }
}
