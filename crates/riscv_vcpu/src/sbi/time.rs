//! TIME: the guest's timer (SBI specification, "Timer Extension").

use axvcpu::{AxVCpuHal, HypercallError};
use sbi_spec::time::{EID_TIME, SET_TIMER};

use super::FUNCTION;
use crate::{CpuFeatures, RISCVVCpu, csr::VSTIMECMP, trap::Next};

pub(super) const NUMBER: u64 = EID_TIME as u64;

/// Answers a call.
#[inline(always)]
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    match vcpu.arg(FUNCTION) as usize {
        SET_TIMER if vcpu.features.contains(CpuFeatures::SSTC) => {
            VSTIMECMP.write(vcpu.arg(0));
            vcpu.answer(Ok(0))
        }
        SET_TIMER => emulate(vcpu),
        _ => vcpu.answer(Err(HypercallError::NotSupported)),
    }
}

#[cold]
#[inline(never)]
fn emulate<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    vcpu.emulate_timer(vcpu.arg(0));
    vcpu.answer(Ok(0))
}
