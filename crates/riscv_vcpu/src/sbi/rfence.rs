//! RFENCE: fences on any of the VM's harts (SBI specification, "RFENCE Extension").

use axaddrspace::GuestVirtAddr;
use axvcpu::{AxVCpuExitReason, AxVCpuHal, Fence, HypercallError};
use sbi_spec::rfnc::{EID_RFNC, REMOTE_FENCE_I, REMOTE_SFENCE_VMA, REMOTE_SFENCE_VMA_ASID};

use super::{FUNCTION, hart_mask::Harts};
use crate::{
    RISCVVCpu,
    csr::{self, Translations},
    trap::Next,
};

pub(super) const NUMBER: u64 = EID_RFNC as u64;

/// What [`Fence::Translations`] has for the length of everything.
const EVERYTHING: u64 = u64::MAX;
const PAGE: u64 = 4096;
/// From so many pages on, forgetting everything is cheaper than page after page.
const MOST_PAGES: u64 = 32;

/// Answers a call. The caller's own part is done at once; the others do theirs from outside.
#[inline(never)]
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let asked = fence(vcpu).and_then(|fence| {
        let harts = Harts::named(vcpu, vcpu.arg(0), vcpu.arg(1))?;
        Ok((fence, harts))
    });
    let (fence, harts) = match asked {
        Ok(asked) => asked,
        Err(error) => return vcpu.answer(Err(error)),
    };
    if harts.include_caller() {
        run(fence);
    }
    match harts.others() {
        None => vcpu.answer(Ok(0)),
        Some(target) => vcpu.ask(AxVCpuExitReason::RemoteFence { target, fence }),
    }
}

/// The fence that the guest asks for. It has no H extension, so the functions for guests of its own are not there.
fn fence<H: AxVCpuHal>(vcpu: &RISCVVCpu<H>) -> Result<Fence, HypercallError> {
    let asid = match vcpu.arg(FUNCTION) as usize {
        REMOTE_FENCE_I => return Ok(Fence::Instructions),
        REMOTE_SFENCE_VMA => None,
        REMOTE_SFENCE_VMA_ASID => Some(vcpu.arg(4)),
        _ => return Err(HypercallError::NotSupported),
    };
    let (start, len) = match (vcpu.arg(2), vcpu.arg(3)) {
        (0, 0) | (_, EVERYTHING) => (0, EVERYTHING),
        (start, len) if start.checked_add(len.saturating_sub(1)).is_none() => {
            return Err(HypercallError::InvalidAddress);
        }
        range => range,
    };
    Ok(Fence::Translations {
        start: GuestVirtAddr::new(start),
        len,
        asid,
    })
}

/// Runs the fence on this hart, where the vCPU is loaded.
fn run(fence: Fence) {
    let (start, len, asid) = match fence {
        Fence::Instructions => return csr::fence_instructions(),
        Fence::Translations { start, len, asid } => (start.as_u64(), len, asid),
    };
    if len > MOST_PAGES * PAGE {
        return csr::fence_translations(match asid {
            None => Translations::All,
            Some(asid) => Translations::AddressSpace { asid },
        });
    }
    // Page numbers, so that the last page of all has one after it.
    let first = start / PAGE;
    let last = start.saturating_add(len.saturating_sub(1)) / PAGE;
    for page in first..=last {
        let address = page * PAGE;
        csr::fence_translations(match asid {
            None => Translations::Page { address },
            Some(asid) => Translations::PageIn { address, asid },
        });
    }
}
