//! IPI: a software interrupt to any of the VM's harts (SBI specification, "IPI Extension").

use axvcpu::{AxVCpuExitReason, AxVCpuHal, HypercallError};
use sbi_spec::spi::{EID_SPI, SEND_IPI};

use super::{FUNCTION, hart_mask::Harts};
use crate::{
    RISCVVCpu, SOFTWARE_INTERRUPT,
    csr::{HVIP, interrupt},
    trap::Next,
};

pub(super) const NUMBER: u64 = EID_SPI as u64;

/// Answers a call. What the caller sends to itself is there at once; what others get, they get from outside.
#[inline(never)]
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let harts = match vcpu.arg(FUNCTION) as usize {
        SEND_IPI => Harts::named(vcpu, vcpu.arg(0), vcpu.arg(1)),
        _ => Err(HypercallError::NotSupported),
    };
    let harts = match harts {
        Ok(harts) => harts,
        Err(error) => return vcpu.answer(Err(error)),
    };
    if harts.include_caller() {
        HVIP.set(interrupt::VSSIP);
    }
    match harts.others() {
        None => vcpu.answer(Ok(0)),
        Some(target) => vcpu.ask(AxVCpuExitReason::SendIPI {
            target,
            vector: SOFTWARE_INTERRUPT,
        }),
    }
}
