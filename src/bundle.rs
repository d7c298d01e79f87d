//! Finds the VM configs and the images that the bootloader handed over: a newc archive, as `hvctl pack` makes it.

use alloc::{format, string::String, string::ToString, vec::Vec};

use axvmconfig::{Bundle, VmConfig};

use crate::{arch, host};

/// What a bundle says.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The VMs whose configs are right by themselves.
    pub(crate) configs: Vec<VmConfig>,
    /// Where their images are.
    pub(crate) bundle: Bundle<'static>,
    /// What is wrong with the other configs, a line each.
    pub(crate) errors: Vec<String>,
}

/// Reads the bundle, and every config by itself.
///
/// # Errors
/// There is no bundle, or it is none, or it has no config: nothing can start.
pub(crate) fn plan() -> Result<Plan, String> {
    let remedy = "make one with `hvctl pack` and pass it as the initrd (QEMU: -initrd)";
    let bytes = host::initrd()
        .ok_or_else(|| format!("the bootloader handed over no bundle of VM configs: {remedy}"))?;
    let bundle = Bundle::new(bytes).map_err(|error| {
        format!("the bundle that the bootloader handed over cannot be read: {error}: {remedy}")
    })?;
    let mut configs = Vec::new();
    let mut errors = Vec::new();
    for file in bundle.configs() {
        match VmConfig::parse_bytes(file.path, file.data, arch::ISA) {
            Ok(config) => configs.push(config),
            Err(wrong) => errors.extend(wrong.iter().map(ToString::to_string)),
        }
    }
    if configs.is_empty() && errors.is_empty() {
        return Err(format!(
            "the bundle has no VM config (vms/*.toml): {remedy}"
        ));
    }
    Ok(Plan {
        configs,
        bundle,
        errors,
    })
}
