//! All VMs against one another and against the machine.
//!
//! Configs are taken in the order in which they are given, that of their file names. What a VM claims (its
//! id, its name, its pCPUs, its memory, its devices of the machine) is its own from then on, and a later VM that claims it too is
//! refused: one of the two runs, and always the same one. A VM that is refused claims nothing, so that its
//! mistakes cost nobody else; nor does one that could not start, which is [`start_all`](crate::start_all)'s affair.

mod passed;
#[cfg(test)]
mod tests;

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use crate::{
    ConfigError, DeviceSpace, MachineDevices, PcpuSet, Sharing, Size, VCpuPlacement, VmConfig, keys,
};

/// What the machine has to give to VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLimits {
    /// How many pCPUs there are: 0 to `pcpus - 1`.
    pub pcpus: usize,
    /// How many bytes of memory all VMs together may have.
    pub ram_bytes: u64,
    /// How many bits a guest-physical address may have.
    pub guest_phys_bits: u32,
    /// Its devices and interrupts; `None`: who asks is not on the machine, and does not know.
    pub devices: Option<MachineDevices>,
}

/// Why one VM does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which: its place among the configs that [`validate`] was given.
    pub vm: usize,
    /// Why.
    pub error: ConfigError,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Holds all VMs against one another and against the machine.
///
/// # Errors
/// A VM that is named in any [`Refusal`] must not start; the others may.
pub fn validate(configs: &[VmConfig], machine: &MachineLimits) -> Result<(), Vec<Refusal>> {
    let mut admitted: Vec<&VmConfig> = Vec::new();
    let mut refusals = Vec::new();
    for (vm, config) in configs.iter().enumerate() {
        let errors = check(config, &admitted, machine);
        if errors.is_empty() {
            admitted.push(config);
        }
        refusals.extend(errors.into_iter().map(|error| Refusal { vm, error }));
    }
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(refusals)
    }
}

/// What is wrong with `config` on this machine, beside the VMs that were admitted before it.
fn check(config: &VmConfig, admitted: &[&VmConfig], machine: &MachineLimits) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    check_identity(config, admitted, &mut errors);
    check_pcpus(config, machine, &mut errors);
    check_pcpu_owners(config, admitted, machine, &mut errors);
    check_addresses(config, machine, &mut errors);
    check_memory(config, admitted, machine, &mut errors);
    passed::check(config, admitted, machine, &mut errors);
    errors
}

fn check_identity(config: &VmConfig, admitted: &[&VmConfig], errors: &mut Vec<ConfigError>) {
    for other in admitted {
        if other.id == config.id {
            let rule = format_args!("{} is {} already", config.id, vm_at(other, keys::ID));
            errors.push(config.error(keys::ID, rule));
        }
        if other.name == config.name {
            let owner = vm_at(other, keys::NAME);
            let rule = format_args!("this is the name of {owner} already, with id {}", other.id);
            errors.push(config.error(keys::NAME, rule));
        }
    }
}

/// Whether the pCPUs exist, and are there to be had.
fn check_pcpus(config: &VmConfig, machine: &MachineLimits, errors: &mut Vec<ConfigError>) {
    let existing = PcpuSet::first(machine.pcpus);
    for vcpu in &config.vcpus {
        let key = placement_key(vcpu);
        let missing = vcpu.pcpus.difference(existing);
        if !missing.is_empty() {
            let word = match existing.len() {
                1 => "pCPU",
                _ => "pCPUs",
            };
            let rule = format_args!("this machine has {word} {existing}, and not {missing}");
            errors.push(config.error(&key, rule));
        }
        match vcpu.sharing_on(machine.pcpus) {
            Sharing::Dedicated if vcpu.pcpus.contains(HOUSEKEEPING) => {
                let rule = "pCPU 0 runs the hypervisor's own tasks and cannot be dedicated; choose \
                            another, or share it by phys_cpu_sets";
                errors.push(config.error(&key, rule));
            }
            Sharing::Dedicated | Sharing::Shared => {}
        }
    }
}

/// The pCPU that runs the host's tasks.
const HOUSEKEEPING: usize = 0;

/// Whether a pCPU that one vCPU has for itself is another's too.
fn check_pcpu_owners(
    config: &VmConfig,
    admitted: &[&VmConfig],
    machine: &MachineLimits,
    errors: &mut Vec<ConfigError>,
) {
    for (position, vcpu) in config.vcpus.iter().enumerate() {
        let siblings = config
            .vcpus
            .iter()
            .take(position)
            .map(|sibling| (config, sibling));
        let others = admitted
            .iter()
            .flat_map(|&other| other.vcpus.iter().map(move |vcpu| (other, vcpu)));
        for (owner, other) in others.chain(siblings) {
            let both = vcpu.pcpus.intersection(other.pcpus);
            if both.is_empty() {
                continue;
            }
            let claim = match (
                vcpu.sharing_on(machine.pcpus),
                other.sharing_on(machine.pcpus),
            ) {
                (Sharing::Shared, Sharing::Shared) => continue,
                (Sharing::Dedicated | Sharing::Shared, Sharing::Dedicated) => "is dedicated to",
                (Sharing::Dedicated, Sharing::Shared) => "cannot be dedicated: it is shared by",
            };
            let owner = if core::ptr::eq(owner, config) {
                String::from("this VM already")
            } else {
                vm_at(owner, &placement_key(other))
            };
            let rule = format_args!("pCPU {both} {claim} vCPU {} of {owner}", other.vcpu_id);
            errors.push(config.error(&placement_key(vcpu), rule));
        }
    }
}

/// Whether the machine's nested page tables reach every address.
fn check_addresses(config: &VmConfig, machine: &MachineLimits, errors: &mut Vec<ConfigError>) {
    let bits = machine.guest_phys_bits;
    let reachable = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
    let regions = config
        .memory
        .iter()
        .map(|region| region.window())
        .enumerate();
    let regions = regions.map(|(position, window)| (keys::MEMORY_REGIONS, position, window));
    let devices = match config.isa.guest_map().device_space {
        DeviceSpace::Memory => config.devices.as_slice(),
        DeviceSpace::Ports => &[],
    };
    let devices = devices.iter().map(|device| device.window()).enumerate();
    let devices = devices.map(|(position, window)| (keys::VIRTUAL, position, window));
    let passed = config.passed.iter().enumerate();
    let passed = passed.filter_map(|(position, device)| {
        Some((keys::PASSTHROUGH, position, device.registers?.window()))
    });
    for (list, position, window) in regions.chain(devices).chain(passed) {
        if window.end().is_none_or(|end| end.as_u64() > reachable) {
            let rule =
                format_args!("{window} is past the {bits} bits of address that a VM has here");
            errors.push(config.error(&format!("{list}[{position}]"), rule));
        }
    }
}

/// Whether there is memory for this VM too. Lazy memory counts: it is promised.
fn check_memory(
    config: &VmConfig,
    admitted: &[&VmConfig],
    machine: &MachineLimits,
    errors: &mut Vec<ConfigError>,
) {
    let taken = admitted
        .iter()
        .fold(0u64, |sum, other| sum.saturating_add(other.memory_bytes()));
    let left = machine.ram_bytes.saturating_sub(taken);
    let needed = config.memory_bytes();
    if needed > left {
        let (needed, left, all) = (Size(needed), Left(left), Left(machine.ram_bytes));
        let mut rule = format!("{needed} are more than the {left} left of {all} for VMs");
        for (position, other) in admitted.iter().enumerate() {
            let separator = if position == 0 { ":" } else { "," };
            let owner = vm_at(other, keys::MEMORY_REGIONS);
            rule += &format!("{separator} {owner} has {}", Size(other.memory_bytes()));
        }
        errors.push(config.error(keys::MEMORY_REGIONS, rule));
    }
}

/// An amount that is left, in whole MiB, of which people write sizes. Rounded down: what does not fit never reads as what would.
struct Left(u64);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self.0 {
            bytes if bytes < MIB => Size(bytes).fmt(f),
            bytes => Size(bytes / MIB * MIB).fmt(f),
        }
    }
}

/// The key of a vCPU's placement.
fn placement_key(vcpu: &VCpuPlacement) -> String {
    let list = match vcpu.sharing {
        Sharing::Dedicated => keys::PHYS_CPU_IDS,
        Sharing::Shared => keys::PHYS_CPU_SETS,
    };
    format!("{list}[{}]", vcpu.vcpu_id)
}

/// Which VM `config` is, and where it says `key`.
fn vm_at(config: &VmConfig, key: &str) -> String {
    format!(
        "VM \"{}\" ({}:{})",
        config.name,
        config.source.file(),
        config.source.line(key)
    )
}
