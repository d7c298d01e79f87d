//! What must hold of the machine's devices that a VM is given, beside its own.

use alloc::format;

use super::{BY_DEFAULT, Claim, Report};
use crate::{DeviceSpace, VmConfig, keys};

fn key(position: usize) -> alloc::string::String {
    format!("{}[{position}]", keys::PASSTHROUGH)
}

/// The guest's addresses that they take.
pub(super) fn claims(config: &VmConfig) -> impl Iterator<Item = Claim> {
    config.passed.iter().enumerate().flat_map(|(at, device)| {
        let registers = device.registers.map(|registers| registers.window());
        let ports = device.ports.map(|ports| ports.window());
        let spaces = [
            (DeviceSpace::Memory, registers),
            (DeviceSpace::Ports, ports),
        ];
        spaces.into_iter().filter_map(move |(space, window)| {
            Some(Claim {
                space,
                key: key(at),
                what: format!("device \"{}\"", device.id),
                window: window?,
            })
        })
    })
}

/// Names and interrupts have one owner; so have the machine's addresses.
pub(super) fn check(config: &VmConfig, report: &mut Report) {
    for (position, device) in config.passed.iter().enumerate() {
        let own = key(position);
        let emulated = config.devices.iter().enumerate().map(|(at, other)| {
            let key = format!("{}[{at}]", keys::VIRTUAL);
            let owner = match report.line_if_written(&key) {
                Some(_) => report.place(&key),
                None => format!("device \"{}\" ({BY_DEFAULT})", other.id),
            };
            (owner, &other.id, Some(other.irq))
        });
        let earlier = config.passed.iter().enumerate().take(position);
        let passed = earlier.map(|(at, other)| {
            let owner = report.place(&key(at));
            (owner, &other.id, other.irq.map(|irq| irq.guest))
        });
        let mut errors = alloc::vec::Vec::new();
        for (owner, id, irq) in emulated.chain(passed) {
            if *id == device.id {
                let rule = format!("\"{id}\" is the name of {owner} already");
                errors.push((format!("{own}.id"), rule));
            }
            if let (Some(irq), Some(ours)) = (irq, device.irq)
                && irq == ours.guest
            {
                let rule = format!("{irq} is the interrupt of {owner} already");
                // It is the machine's number where the file says no other.
                let key = [".guest_irq", ".irq"].map(|key| format!("{own}{key}"));
                let [guest, host] = key;
                let is_written = report.line_if_written(&guest).is_some();
                errors.push((if is_written { guest } else { host }, rule));
            }
        }
        for (at, other) in config.passed.iter().enumerate().take(position) {
            let owner = report.place(&key(at));
            for (ours, theirs) in device
                .host_ranges()
                .flat_map(|ours| other.host_ranges().map(move |theirs| (ours, theirs)))
            {
                // At ports the guest's are the machine's, and the overlap is told already.
                if ours.space == DeviceSpace::Memory && ours.overlaps(&theirs) {
                    let rule = format!("{ours} overlaps {theirs} of {owner}");
                    errors.push((format!("{own}.addr"), rule));
                }
            }
            if let (Some(ours), Some(theirs)) = (device.irq, other.irq)
                && ours.host == theirs.host
            {
                let rule = format!("{} is the interrupt of {owner} already", ours.host);
                errors.push((format!("{own}.irq"), rule));
            }
        }
        for (key, rule) in errors {
            report.error(&key, rule);
        }
    }
}
