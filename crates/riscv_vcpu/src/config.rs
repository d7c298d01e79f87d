//! What a vCPU is made from.

use alloc::sync::Arc;
use core::ops::Range;

use axaddrspace::{GuestPhysAddr, NestedMode};
use axvcpu::Sharing;

use crate::{csr, trap};

bitflags::bitflags! {
    /// What the machine can do beyond the H extension, and a VM is therefore given.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CpuFeatures: u32 {
        /// Sstc: the guest programs `vstimecmp` itself. Without it its timer is emulated.
        const SSTC = 1 << 0;
        /// F and D: floating point.
        const FLOAT = 1 << 1;
        /// V: vectors.
        const VECTOR = 1 << 2;
    }
}

impl CpuFeatures {
    /// What this pCPU can do: nothing, where it has no H extension.
    #[must_use]
    pub fn detect() -> Self {
        let mut features = Self::empty();
        if !trap::has_hypervisor() {
            return features;
        }
        features.set(Self::SSTC, csr::keeps(csr::HENVCFG, csr::henvcfg::STCE));
        features.set(
            Self::FLOAT,
            csr::keeps(csr::SSTATUS, csr::sstatus::FS) && trap::has_double_float(),
        );
        features.set(Self::VECTOR, csr::keeps(csr::SSTATUS, csr::sstatus::VS));
        features
    }
}

/// What a guest's `wfi` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WfiPolicy {
    /// It leaves as [`Halt`](axvcpu::AxVCpuExitReason::Halt), so that others can have the pCPU.
    Exit,
    /// It stops the pCPU until an interrupt, the guest's or the host's, is pending.
    Untrapped,
}

/// What the guest reads about its machine's maker, by SBI BASE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineIds {
    /// `mvendorid`.
    pub vendor: u64,
    /// `marchid`.
    pub arch: u64,
    /// `mimpid`.
    pub implementation: u64,
}

/// What a [`RISCVVCpu`](crate::RISCVVCpu) is made from.
#[derive(Clone, Debug)]
pub struct RISCVVCpuConfig {
    /// How many vCPUs the VM has, 1 to [`MAX_CPUS`](axvcpu::MAX_CPUS); their hart ids are 0, 1, …
    pub vcpu_count: usize,
    /// What the guest may use; no more than [`CpuFeatures::detect`] finds.
    pub features: CpuFeatures,
    /// The format of the nested page table whose root `set_nested_root` gives.
    pub nested_mode: NestedMode,
    /// What `wfi` does.
    pub wfi: WfiPolicy,
    /// Who else runs on the pCPU.
    pub sharing: Sharing,
    /// What the guest reads about its machine's maker.
    pub machine_ids: MachineIds,
    /// Where the VM has RAM. A guest page fault there leaves as [`NestedPageFault`](axvcpu::AxVCpuExitReason::NestedPageFault);
    /// elsewhere it is an access to a device.
    pub ram: Arc<[Range<GuestPhysAddr>]>,
}
