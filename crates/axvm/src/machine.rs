//! What a VM must know of the machine that it runs on.
//!
//! The host fills this in from its own firmware's tables; the guest's are written from it.

#[cfg(any(target_arch = "riscv64", not(target_os = "none")))]
pub(crate) mod riscv;
#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
pub(crate) mod x86;

use axaddrspace::NestedMode;

/// The machine, as far as its VMs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine<I> {
    /// Ticks of the guest's clock in a second (RISC-V: `time`; x86: the time stamp counter).
    pub timebase_hz: u64,
    /// The nested paging mode that its VMs get.
    pub nested_mode: NestedMode,
    /// How many pCPUs there are: 0 to `pcpus - 1`.
    pub pcpus: usize,
    /// What only its instruction set has to say.
    pub isa: I,
}
