//! All VMs against one another and against the machine.

use alloc::vec::Vec;

use crate::{ConfigError, VmConfig};

/// What the machine has to give to VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineLimits {
    /// How many pCPUs there are: 0 to `pcpus - 1`.
    pub pcpus: usize,
    /// How many bytes of memory all VMs together may have.
    pub ram_bytes: u64,
    /// How many bits a guest-physical address may have.
    pub guest_phys_bits: u32,
}

/// Why one VM does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which: its place among the configs that [`validate`] was given.
    pub vm: usize,
    /// Why.
    pub error: ConfigError,
}

/// Holds all VMs against one another and against the machine.
///
/// # Errors
/// A VM that is named in any [`Refusal`] must not start; the others may.
pub fn validate(_configs: &[VmConfig], _machine: &MachineLimits) -> Result<(), Vec<Refusal>> {
    Ok(())
}
