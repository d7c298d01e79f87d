//! TIME: the guest's timer.

use axvcpu::{AxVCpuHal, HypercallError};
use sbi_spec::time::{EID_TIME, SET_TIMER};

use super::FUNCTION;
use crate::{RISCVVCpu, trap::Next};

pub(super) const NUMBER: u64 = EID_TIME as u64;

/// Answers a call.
#[inline(always)]
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    match vcpu.arg(FUNCTION) as usize {
        SET_TIMER => {
            vcpu.set_timer(vcpu.arg(0));
            vcpu.answer(Ok(0))
        }
        _ => vcpu.answer(Err(HypercallError::NotSupported)),
    }
}
