//! The list of harts that IPI and RFENCE take (SBI specification, "Hart list parameter").

use axvcpu::{AxVCpuHal, HypercallError, VCpuSet};

use crate::RISCVVCpu;

/// `hart_mask_base` for "all harts, whatever the mask".
const ALL: u64 = u64::MAX;

/// The VM's harts that a call names, each of which exists; bit `n` is vCPU `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Harts {
    set: u64,
    caller: u64,
}

impl Harts {
    /// Those named by `hart_mask` and `hart_mask_base`.
    #[inline]
    pub(super) fn named<H: AxVCpuHal>(
        vcpu: &RISCVVCpu<H>,
        mask: u64,
        base: u64,
    ) -> Result<Self, HypercallError> {
        // There are 1 to 64 of them.
        let existing = u64::MAX >> ((64 - vcpu.vcpu_count) & 63);
        let set = match base {
            ALL => existing,
            0..64 if mask << base >> base == mask => mask << base,
            _ => return Err(HypercallError::InvalidParam),
        };
        if set & !existing != 0 || (base != ALL && existing >> base == 0) {
            return Err(HypercallError::InvalidParam);
        }
        Ok(Self {
            set,
            caller: 1 << (vcpu.vcpu_id & 63),
        })
    }

    /// Whether the caller is among them.
    pub(super) const fn include_caller(self) -> bool {
        self.set & self.caller != 0
    }

    /// Those that are not the caller, if there are any.
    pub(super) const fn others(self) -> Option<VCpuSet> {
        match self.set & !self.caller {
            0 => None,
            mask => Some(VCpuSet::Mask { base: 0, mask }),
        }
    }
}
