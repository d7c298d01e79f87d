//! BASE: what the interface is, and on what it runs (SBI specification, "Base Extension").

use axvcpu::{AxVCpuHal, HypercallError};
use sbi_spec::base::{
    EID_BASE, GET_MARCHID, GET_MIMPID, GET_MVENDORID, GET_SBI_IMPL_ID, GET_SBI_IMPL_VERSION,
    GET_SBI_SPEC_VERSION, PROBE_EXTENSION,
};

use super::{FUNCTION, is_present};
use crate::{MachineIds, RISCVVCpu, trap::Next};

pub(super) const NUMBER: u64 = EID_BASE as u64;

/// Version 2.0: the major number in bits 30:24, the minor below.
const SPEC_VERSION: u64 = 2 << 24;
/// "AxHV": none of the registered implementations.
pub(super) const IMPLEMENTATION_ID: u64 = 0x4178_4856;
/// This implementation's own version.
const IMPLEMENTATION_VERSION: u64 = 1;

/// How many functions there are, from 0 on.
pub(crate) const FUNCTIONS: usize = GET_MIMPID + 1;

/// What the functions answer, but for that which looks something up.
pub(crate) fn constants(ids: MachineIds) -> [u64; FUNCTIONS] {
    let mut constants = [0; FUNCTIONS];
    constants[GET_SBI_SPEC_VERSION] = SPEC_VERSION;
    constants[GET_SBI_IMPL_ID] = IMPLEMENTATION_ID;
    constants[GET_SBI_IMPL_VERSION] = IMPLEMENTATION_VERSION;
    constants[GET_MVENDORID] = ids.vendor;
    constants[GET_MARCHID] = ids.arch;
    constants[GET_MIMPID] = ids.implementation;
    constants
}

/// Answers a call.
#[inline(always)]
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let function = vcpu.arg(FUNCTION) as usize;
    if function == PROBE_EXTENSION {
        let present = is_present(vcpu.arg(0));
        return vcpu.answer(Ok(present.into()));
    }
    match vcpu.base_constants.get(function) {
        Some(&value) => vcpu.answer(Ok(value)),
        None => vcpu.answer(Err(HypercallError::NotSupported)),
    }
}
