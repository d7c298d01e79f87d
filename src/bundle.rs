//! Finds the VM configs and the images that the bootloader handed over: a newc archive, as `hvctl pack` makes it.

use alloc::{format, string::String, string::ToString, vec::Vec};

use axvmconfig::{Bundle, MachineLimits, VmConfig, validate};

use crate::{arch, host};

/// What a bundle says.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The VMs that may start.
    pub(crate) configs: Vec<VmConfig>,
    /// Where their images are.
    pub(crate) bundle: Bundle<'static>,
    /// What is wrong with the other VMs, a line each.
    pub(crate) refusals: Vec<String>,
}

/// Reads the bundle and holds every config against all others and against the machine.
///
/// # Errors
/// There is no bundle, or it is none, or it has no config: nothing can start.
pub(crate) fn plan(limits: &MachineLimits) -> Result<Plan, String> {
    let remedy = "make one with `hvctl pack` and pass it as the initrd (QEMU: -initrd)";
    let bytes = host::initrd()
        .ok_or_else(|| format!("the bootloader handed over no bundle of VM configs: {remedy}"))?;
    let bundle = Bundle::new(bytes).map_err(|error| {
        format!("the bundle that the bootloader handed over cannot be read: {error}: {remedy}")
    })?;
    let mut configs = Vec::new();
    let mut refusals = Vec::new();
    for file in bundle.configs() {
        match VmConfig::parse_bytes(file.path, file.data, arch::ISA) {
            Ok(config) => configs.push(config),
            Err(errors) => refusals.extend(errors.iter().map(ToString::to_string)),
        }
    }
    if configs.is_empty() && refusals.is_empty() {
        return Err(format!(
            "the bundle has no VM config (vms/*.toml): {remedy}"
        ));
    }
    if let Err(refused) = validate(&configs, limits) {
        let mut place = 0;
        configs.retain(|_| {
            let admitted = refused.iter().all(|refusal| refusal.vm != place);
            place += 1;
            admitted
        });
        refusals.extend(refused.iter().map(ToString::to_string));
    }
    // The order in which they start; the first has the console.
    configs.sort_by_key(|config| config.id);
    Ok(Plan {
        configs,
        bundle,
        refusals,
    })
}
