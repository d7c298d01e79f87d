//! The Supervisor Binary Interface, version 2.0: what the guest's firmware would be.
//!
//! One file an extension. Each has one function, [`call`](base::call), which answers in the guest's registers and resumes it, or
//! leaves with what must be done outside. A new extension is a file and a line in the table below.

mod account;
pub(crate) mod base;
mod dbcn;
mod hart_mask;
mod hsm;
mod ipi;
mod legacy;
mod rfence;
mod srst;
mod time;

use axvcpu::{AxVCpuExitReason, AxVCpuHal, ConsoleCall, DeviceAccess, HypercallError};

use crate::{ExitKind, RISCVVCpu, exit::Context, trap::Next, vcpu::Pending};

/// The argument register with the extension's number, and that with the function's (SBI specification, "Binary Encoding").
const EXTENSION: usize = 7;
const FUNCTION: usize = 6;

/// Declares which extensions there are and who answers them: those that answer by themselves, those that ask the VM within the loop, and those that leave.
/// The latter two are looked up in a function of their own, so that the former are reached without a stack frame.
macro_rules! extensions {
    (
        answers { $($number:path => $module:ident, $kind:ident;)* }
        asks { $($asking_number:path => $asking_module:ident, $asking_kind:ident;)* }
        leaves { $($leaving_number:path => $leaving_module:ident, $leaving_kind:ident;)* }
    ) => {
        /// Answers the guest's call.
        #[inline(always)]
        pub(crate) fn call<H: AxVCpuHal, D: DeviceAccess>(
            vcpu: &mut RISCVVCpu<H>,
            context: &Context<'_, D>,
        ) -> Next {
            match vcpu.arg(EXTENSION) {
                $($number => {
                    vcpu.account.count(ExitKind::$kind);
                    $module::call(vcpu)
                })*
                number => call_less_frequent(vcpu, context, number),
            }
        }

        #[inline(never)]
        fn call_less_frequent<H: AxVCpuHal, D: DeviceAccess>(
            vcpu: &mut RISCVVCpu<H>,
            context: &Context<'_, D>,
            number: u64,
        ) -> Next {
            match number {
                $($asking_number => {
                    vcpu.account.count(ExitKind::$asking_kind);
                    $asking_module::call(vcpu, context.devices)
                })*
                $($leaving_number => {
                    vcpu.account.count(ExitKind::$leaving_kind);
                    $leaving_module::call(vcpu)
                })*
                _ => {
                    vcpu.account.count(ExitKind::SbiOther);
                    vcpu.answer(Err(HypercallError::NotSupported))
                }
            }
        }

        /// Whether there is extension `number`.
        fn is_present(number: u64) -> bool {
            matches!(number, $($number)|* $(| $asking_number)* $(| $leaving_number)*)
        }
    };
}

extensions! {
    answers {
        base::NUMBER => base, SbiBase;
        time::NUMBER => time, SbiTime;
        ipi::NUMBER => ipi, SbiIpi;
        rfence::NUMBER => rfence, SbiRfence;
    }
    asks {
        dbcn::NUMBER => dbcn, SbiDbcn;
        legacy::CONSOLE_PUTCHAR => legacy, SbiLegacy;
        legacy::CONSOLE_GETCHAR => legacy, SbiLegacy;
        account::NUMBER => account, SbiAccount;
    }
    leaves {
        hsm::NUMBER => hsm, SbiHsm;
        srst::NUMBER => srst, SbiSrst;
    }
}

/// The length of `ecall`.
const ECALL_BYTES: u64 = 4;

impl<H: AxVCpuHal> RISCVVCpu<H> {
    /// Answers the call and resumes the guest behind it.
    #[inline(always)]
    fn answer(&mut self, answer: Result<u64, HypercallError>) -> Next {
        self.advance(ECALL_BYTES);
        write_answer(self, answer);
        Next::Resume
    }

    /// Writes a byte to the console, which leaves where there is no room.
    fn print(&mut self, byte: u8, devices: &impl DeviceAccess) -> Next {
        match devices.console_write_byte(byte) {
            Some(()) => self.answer(Ok(0)),
            None => self.ask(AxVCpuExitReason::Console(ConsoleCall::WriteByte(byte))),
        }
    }

    /// Leaves with what the call asks of others, which `set_return_value` will answer.
    fn ask(&mut self, exit: AxVCpuExitReason) -> Next {
        self.advance(ECALL_BYTES);
        self.pending = Pending::Answer;
        self.leave(exit)
    }
}

/// Writes a call's answer to the guest's registers: the error in `a0`, the value in `a1`; a legacy call has `a0` alone.
#[inline(always)]
pub(crate) fn write_answer<H: AxVCpuHal>(
    vcpu: &mut RISCVVCpu<H>,
    answer: Result<u64, HypercallError>,
) {
    let (error, value) = match answer {
        Ok(value) => (sbi_spec::binary::RET_SUCCESS, value),
        Err(error) => (error_code(error), 0),
    };
    if vcpu.arg(EXTENSION) > legacy::LAST {
        vcpu.set_arg(0, error as u64);
        vcpu.set_arg(1, value);
    } else {
        vcpu.set_arg(0, if answer.is_ok() { value } else { error as u64 });
    }
}

/// An error in the specification's numbers.
const fn error_code(error: HypercallError) -> usize {
    use sbi_spec::binary;
    match error {
        HypercallError::Failed => binary::RET_ERR_FAILED,
        HypercallError::NotSupported => binary::RET_ERR_NOT_SUPPORTED,
        HypercallError::InvalidParam => binary::RET_ERR_INVALID_PARAM,
        HypercallError::Denied => binary::RET_ERR_DENIED,
        HypercallError::InvalidAddress => binary::RET_ERR_INVALID_ADDRESS,
        HypercallError::AlreadyAvailable => binary::RET_ERR_ALREADY_AVAILABLE,
    }
}

#[cfg(test)]
mod tests;
