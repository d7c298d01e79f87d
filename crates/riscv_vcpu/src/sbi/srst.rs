//! SRST: the VM goes down.

use axvcpu::{AxVCpuExitReason, AxVCpuHal, HypercallError, SystemDownKind};
use sbi_spec::srst::{
    EID_SRST, RESET_REASON_NO_REASON, RESET_REASON_SYSTEM_FAILURE, RESET_TYPE_COLD_REBOOT,
    RESET_TYPE_SHUTDOWN, RESET_TYPE_WARM_REBOOT, SYSTEM_RESET,
};

use super::FUNCTION;
use crate::{RISCVVCpu, trap::Next};

pub(super) const NUMBER: u64 = EID_SRST as u64;

/// Answers a call.
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let down = match vcpu.arg(FUNCTION) as usize {
        SYSTEM_RESET => kind(vcpu.arg(0), vcpu.arg(1)),
        _ => Err(HypercallError::NotSupported),
    };
    match down {
        Ok(kind) => vcpu.leave(AxVCpuExitReason::SystemDown { kind }),
        Err(error) => vcpu.answer(Err(error)),
    }
}

/// How the system goes down. Every other type and reason is reserved or a platform's own, and this one has none: both are invalid
/// (table "SRST System Reset Errors").
fn kind(reset_type: u64, reason: u64) -> Result<SystemDownKind, HypercallError> {
    let (Ok(reset_type), Ok(reason)) = (u32::try_from(reset_type), u32::try_from(reason)) else {
        return Err(HypercallError::InvalidParam);
    };
    match (reset_type, reason) {
        (RESET_TYPE_SHUTDOWN, RESET_REASON_NO_REASON) => Ok(SystemDownKind::PowerOff),
        (RESET_TYPE_SHUTDOWN, RESET_REASON_SYSTEM_FAILURE) => Ok(SystemDownKind::Crash),
        (
            RESET_TYPE_COLD_REBOOT | RESET_TYPE_WARM_REBOOT,
            RESET_REASON_NO_REASON | RESET_REASON_SYSTEM_FAILURE,
        ) => Ok(SystemDownKind::Reset),
        _ => Err(HypercallError::InvalidParam),
    }
}
