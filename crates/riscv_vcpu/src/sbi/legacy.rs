//! The legacy console (SBI specification, "Legacy Extensions"): the two calls that old guests still print and read by. What else is legacy has a successor and is not there.
//!
//! These calls have one result, in `a0`, and no function number.

use axvcpu::{AxVCpuExitReason, AxVCpuHal, ConsoleCall, DeviceAccess};
use sbi_spec::legacy::{LEGACY_CONSOLE_GETCHAR, LEGACY_CONSOLE_PUTCHAR};

use super::EXTENSION;
use crate::{RISCVVCpu, trap::Next};

pub(super) const CONSOLE_PUTCHAR: u64 = LEGACY_CONSOLE_PUTCHAR as u64;
pub(super) const CONSOLE_GETCHAR: u64 = LEGACY_CONSOLE_GETCHAR as u64;
/// The last extension number that is legacy.
pub(super) const LAST: u64 = 0x0f;

/// Answers a call.
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, devices: &impl DeviceAccess) -> Next {
    match vcpu.arg(EXTENSION) {
        CONSOLE_PUTCHAR => vcpu.print(vcpu.arg(0) as u8, devices),
        // CONSOLE_GETCHAR. No byte is an error, whose number is -1 as the specification wants it.
        _ => vcpu.ask(AxVCpuExitReason::Console(ConsoleCall::ReadByte)),
    }
}
