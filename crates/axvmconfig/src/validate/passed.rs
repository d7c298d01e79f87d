//! The machine's devices: each has one owner, and none of them is the hypervisor.

use alloc::{format, vec::Vec};

use super::{MachineLimits, vm_at};
use crate::{
    ConfigError, DeviceSpace, Dma, HostRange, IrqTrigger, MachineDevices, PassedDevice, PassedIrq,
    VmConfig, keys,
};

/// Whether what the VM is given is there to be had.
pub(super) fn check(
    config: &VmConfig,
    admitted: &[&VmConfig],
    machine: &MachineLimits,
    errors: &mut Vec<ConfigError>,
) {
    for (position, device) in config.passed.iter().enumerate() {
        let claim = Claim {
            config,
            position,
            device,
        };
        for other in admitted {
            claim.check_against(other, errors);
        }
        if let Some(devices) = &machine.devices {
            claim.check_on(devices, errors);
        }
    }
}

/// What a VM asks for.
struct Claim<'a> {
    config: &'a VmConfig,
    position: usize,
    device: &'a PassedDevice,
}

impl Claim<'_> {
    fn error(&self, field: &str, rule: impl core::fmt::Display) -> ConfigError {
        let key = format!("{}[{}].{field}", keys::PASSTHROUGH, self.position);
        self.config.error(&key, rule)
    }

    /// Beside a VM that was admitted before.
    fn check_against(&self, other: &VmConfig, errors: &mut Vec<ConfigError>) {
        for (position, theirs) in other.passed.iter().enumerate() {
            let owner = vm_at(other, &format!("{}[{position}]", keys::PASSTHROUGH));
            for ours in self.device.host_ranges() {
                for range in theirs.host_ranges().filter(|range| range.overlaps(&ours)) {
                    let rule = format_args!(
                        "{ours} overlaps {range}, device \"{}\" of {owner}",
                        theirs.id
                    );
                    errors.push(self.error(field(&ours), rule));
                }
            }
            if let (Some(ours), Some(irq)) = (self.device.irq, theirs.irq)
                && ours.host == irq.host
            {
                let rule = format_args!(
                    "interrupt {} is that of device \"{}\" of {owner}",
                    ours.host, theirs.id
                );
                errors.push(self.error("irq", rule));
            }
        }
    }

    /// On this machine.
    fn check_on(&self, machine: &MachineDevices, errors: &mut Vec<ConfigError>) {
        for ours in self.device.host_ranges() {
            for taken in machine
                .taken
                .iter()
                .filter(|taken| taken.range.overlaps(&ours))
            {
                let rule = format_args!(
                    "{ours} overlaps {} of this machine ({}), which no VM can have",
                    taken.what, taken.range
                );
                errors.push(self.error(field(&ours), rule));
            }
            if self.device.dma == Dma::None {
                let masters = machine.masters.iter();
                for master in masters.filter(|master| master.range.overlaps(&ours)) {
                    let rule = format_args!(
                        "{ours} has {} of this machine ({}), which {}: \"trusted\" is the word for that",
                        master.what, master.range, master.how
                    );
                    errors.push(self.error("dma", rule));
                }
            }
            let end = ours.first.saturating_add(ours.size);
            let reachable = 1u64.checked_shl(machine.phys_bits).unwrap_or(u64::MAX);
            if ours.space == DeviceSpace::Memory && end > reachable {
                let bits = machine.phys_bits;
                let rule =
                    format_args!("{ours} is past the {bits} bits of address of this machine");
                errors.push(self.error(field(&ours), rule));
            }
        }
        if let Some(irq) = self.device.irq {
            self.check_irq(irq, machine, errors);
        }
    }

    fn check_irq(&self, irq: PassedIrq, machine: &MachineDevices, errors: &mut Vec<ConfigError>) {
        let PassedIrq { host, guest } = irq;
        let Some(found) = machine.irqs.iter().find(|irq| irq.number == host) else {
            let rule = format_args!("this machine has no interrupt {host} that a VM could have");
            errors.push(self.error("irq", rule));
            return;
        };
        if let Some(owner) = found.owner {
            let rule = format_args!("interrupt {host} is {owner}'s, which no VM can have");
            errors.push(self.error("irq", rule));
        }
        let wanted = IrqTrigger::of_guest(self.config.isa, guest);
        if found.trigger != wanted {
            let here = found.trigger;
            let (below, above) = ("3 to 7, 10 to 12, 14 or 15", "16 to 23");
            let numbers = match here {
                IrqTrigger::Edge => below,
                IrqTrigger::Level => above,
            };
            let rule = format_args!(
                "interrupt {host} of this machine asks by its {here}, which {guest} does not in a VM: take one of {numbers}"
            );
            errors.push(self.error("guest_irq", rule));
        }
    }
}

/// The key that says a range.
fn field(range: &HostRange) -> &'static str {
    match range.space {
        DeviceSpace::Memory => "addr",
        DeviceSpace::Ports => "ports",
    }
}
