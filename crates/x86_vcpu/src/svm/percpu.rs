//! SVM's part of a pCPU (AMD APM 2, "Enabling SVM").

use axaddrspace::LargestLeaf;
use axerrno::AxResult;
use axvcpu::AxVCpuHal;

use crate::{
    Unfit,
    backend::VendorPerCpu,
    hardware::{cpuid, read_msr, write_msr},
    msr::number::EFER,
    pages::HardwarePages,
};

/// EFER.SVME.
pub(super) const EFER_SVME: u64 = 1 << 12;

const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// Bits of VM_CR.
const VM_CR_LOCK: u64 = 1 << 3;
const VM_CR_SVMDIS: u64 = 1 << 4;

const LEAF_FEATURES: u32 = 0x8000_0001;
const LEAF_SVM: u32 = 0x8000_000a;

bitflags::bitflags! {
    /// What this processor's SVM can do beyond the first (CPUID 0x8000_000a, EDX). None is required but nested paging.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct SvmFeatures: u32 {
        const NESTED_PAGING = 1 << 0;
        const NEXT_RIP = 1 << 3;
        const CLEAN_BITS = 1 << 5;
        const FLUSH_BY_ASID = 1 << 6;
        const DECODE_ASSISTS = 1 << 7;
    }
}

impl SvmFeatures {
    pub(super) fn detect() -> Self {
        Self::from_bits_truncate(cpuid(LEAF_SVM, 0).edx)
    }
}

/// The virtualization state of one pCPU: SVM is on while this lives, unless it is dropped without being disabled.
pub struct SvmPerCpuState<H: AxVCpuHal> {
    /// Where VMRUN keeps what it knows of the host.
    _host_save: HardwarePages<[u8; 4096], H::MmHal>,
}

impl<H: AxVCpuHal> VendorPerCpu for SvmPerCpuState<H> {
    fn is_present() -> bool {
        cpuid(0x8000_0000, 0).eax >= LEAF_SVM && cpuid(LEAF_FEATURES, 0).ecx >> 2 & 1 == 1
    }

    fn largest_leaf() -> LargestLeaf {
        const GIB_PAGES: u32 = 1 << 26;
        if cpuid(LEAF_FEATURES, 0).edx & GIB_PAGES != 0 {
            LargestLeaf::Size1G
        } else {
            LargestLeaf::Size2M
        }
    }

    fn check() -> Result<u32, Unfit> {
        const LOCKED_OFF: u64 = VM_CR_SVMDIS | VM_CR_LOCK;
        if read_msr(VM_CR) & LOCKED_OFF == LOCKED_OFF {
            return Err(Unfit::SvmLockedOff);
        }
        if !SvmFeatures::detect().contains(SvmFeatures::NESTED_PAGING) {
            return Err(Unfit::SvmWithoutNestedPaging);
        }
        Ok(cpuid(LEAF_SVM, 0).ebx.max(1).ilog2())
    }

    fn enable() -> AxResult<Self> {
        let host_save = HardwarePages::zeroed()?;
        write_msr(VM_CR, read_msr(VM_CR) & !VM_CR_SVMDIS);
        write_msr(EFER, read_msr(EFER) | EFER_SVME);
        write_msr(VM_HSAVE_PA, host_save.start().as_u64());
        Ok(Self {
            _host_save: host_save,
        })
    }

    fn disable(self) -> AxResult {
        write_msr(VM_HSAVE_PA, 0);
        write_msr(EFER, read_msr(EFER) & !EFER_SVME);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
