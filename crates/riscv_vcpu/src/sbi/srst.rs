//! SRST: the VM goes down (SBI specification, "System Reset Extension").

use axvcpu::{AxVCpuExitReason, AxVCpuHal, HypercallError, ResetCause, SystemDownKind};
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
    // Parameters of 32 bits: what is above is the calling convention's.
    match (reset_type as u32, reason as u32) {
        (RESET_TYPE_SHUTDOWN, RESET_REASON_NO_REASON) => Ok(SystemDownKind::PowerOff),
        (RESET_TYPE_SHUTDOWN, RESET_REASON_SYSTEM_FAILURE) => Ok(SystemDownKind::Crash),
        (
            RESET_TYPE_COLD_REBOOT | RESET_TYPE_WARM_REBOOT,
            RESET_REASON_NO_REASON | RESET_REASON_SYSTEM_FAILURE,
        ) => Ok(SystemDownKind::Reset(ResetCause::Asked)),
        _ => Err(HypercallError::InvalidParam),
    }
}
