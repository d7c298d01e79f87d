//! The guest's own account: a hypercall that is the same on every architecture.

use axvcpu::{ACCOUNT_CALL, AxVCpuExitReason, AxVCpuHal, DeviceAccess};

use super::FUNCTION;
use crate::{RISCVVCpu, trap::Next};

pub(super) const NUMBER: u64 = ACCOUNT_CALL;

/// Has the VM answer.
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, devices: &impl DeviceAccess) -> Next {
    let arg = |n| vcpu.arg(n);
    let args = [arg(FUNCTION), arg(0), arg(1), arg(2), arg(3), arg(4)];
    match devices.hypercall(NUMBER, args) {
        Some(answer) => vcpu.answer(answer),
        None => vcpu.ask(AxVCpuExitReason::Hypercall { nr: NUMBER, args }),
    }
}
