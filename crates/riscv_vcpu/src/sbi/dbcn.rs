//! DBCN: the debug console (SBI specification, "Debug Console Extension").

use axaddrspace::GuestPhysAddr;
use axvcpu::{AxVCpuExitReason, AxVCpuHal, ConsoleCall, DeviceAccess, HypercallError};
use sbi_spec::dbcn::{CONSOLE_READ, CONSOLE_WRITE, CONSOLE_WRITE_BYTE, EID_DBCN};

use super::FUNCTION;
use crate::{RISCVVCpu, trap::Next};

pub(super) const NUMBER: u64 = EID_DBCN as u64;

/// Answers a call. Whether the guest has that memory is looked at outside.
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, devices: &impl DeviceAccess) -> Next {
    let len = vcpu.arg(0);
    let asked = match vcpu.arg(FUNCTION) as usize {
        CONSOLE_WRITE => address(vcpu).map(|addr| ConsoleCall::Write { addr, len }),
        CONSOLE_READ => address(vcpu).map(|addr| ConsoleCall::Read { addr, len }),
        // The parameter is a `uint8_t`: the other bits of its register do not count.
        CONSOLE_WRITE_BYTE => return vcpu.print(vcpu.arg(0) as u8, devices),
        _ => Err(HypercallError::NotSupported),
    };
    match asked {
        Ok(call) => vcpu.ask(AxVCpuExitReason::Console(call)),
        Err(error) => vcpu.answer(Err(error)),
    }
}

/// The buffer's address: no guest has memory beyond 64 bits.
fn address<H: AxVCpuHal>(vcpu: &RISCVVCpu<H>) -> Result<GuestPhysAddr, HypercallError> {
    match vcpu.arg(2) {
        0 => Ok(GuestPhysAddr::new(vcpu.arg(1))),
        _ => Err(HypercallError::InvalidParam),
    }
}
