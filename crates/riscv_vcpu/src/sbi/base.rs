//! BASE: what the interface is, and on what it runs.

use axvcpu::{AxVCpuHal, HypercallError};
use sbi_spec::base::{
    EID_BASE, GET_MARCHID, GET_MIMPID, GET_MVENDORID, GET_SBI_IMPL_ID, GET_SBI_IMPL_VERSION,
    GET_SBI_SPEC_VERSION, PROBE_EXTENSION,
};

use super::{FUNCTION, is_present};
use crate::{RISCVVCpu, trap::Next};

pub(super) const NUMBER: u64 = EID_BASE as u64;

/// Version 2.0: the major number in bits 30:24, the minor below.
const SPEC_VERSION: u64 = 2 << 24;
/// "AxHV": none of the registered implementations.
pub(super) const IMPLEMENTATION_ID: u64 = 0x4178_4856;
/// This implementation's own version.
const IMPLEMENTATION_VERSION: u64 = 1;

/// Answers a call.
#[inline(always)]
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let value = match vcpu.arg(FUNCTION) as usize {
        GET_SBI_SPEC_VERSION => SPEC_VERSION,
        GET_SBI_IMPL_ID => IMPLEMENTATION_ID,
        GET_SBI_IMPL_VERSION => IMPLEMENTATION_VERSION,
        PROBE_EXTENSION => u64::from(is_present(vcpu.arg(0))),
        GET_MVENDORID => vcpu.machine_ids.vendor,
        GET_MARCHID => vcpu.machine_ids.arch,
        GET_MIMPID => vcpu.machine_ids.implementation,
        _ => return vcpu.answer(Err(HypercallError::NotSupported)),
    };
    vcpu.answer(Ok(value))
}
