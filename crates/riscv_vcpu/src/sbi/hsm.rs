//! HSM: starting, stopping and suspending harts (SBI specification, "Hart State Management Extension").

use axaddrspace::GuestPhysAddr;
use axvcpu::{AxVCpuExitReason, AxVCpuHal, HypercallError, WaitKind};
use sbi_spec::hsm::{
    EID_HSM, HART_GET_STATUS, HART_START, HART_STOP, HART_SUSPEND, hart_state,
    suspend_type::{NON_RETENTIVE, RETENTIVE},
};

use super::FUNCTION;
use crate::{
    RISCVVCpu,
    csr::{SEPC, VSATP, VSSTATUS, sstatus},
    trap::Next,
};

pub(super) const NUMBER: u64 = EID_HSM as u64;

/// Answers a call.
pub(super) fn call<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    match vcpu.arg(FUNCTION) as usize {
        HART_START => start(vcpu),
        HART_STOP => vcpu.leave(AxVCpuExitReason::CpuDown),
        HART_GET_STATUS => status(vcpu),
        HART_SUSPEND => suspend(vcpu),
        _ => vcpu.answer(Err(HypercallError::NotSupported)),
    }
}

/// The vCPU that is hart `id`, if there is one.
fn existing<H: AxVCpuHal>(vcpu: &RISCVVCpu<H>, id: u64) -> Result<usize, HypercallError> {
    usize::try_from(id)
        .ok()
        .filter(|&id| id < vcpu.vcpu_count)
        .ok_or(HypercallError::InvalidParam)
}

/// Whether the guest can execute at `address` with its own translation off.
fn executable<H: AxVCpuHal>(
    vcpu: &RISCVVCpu<H>,
    address: u64,
) -> Result<GuestPhysAddr, HypercallError> {
    let address = GuestPhysAddr::new(address);
    if vcpu.is_ram(address) && address.is_aligned(2) {
        Ok(address)
    } else {
        Err(HypercallError::InvalidAddress)
    }
}

fn start<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let target = match existing(vcpu, vcpu.arg(0)) {
        Ok(target) if target == vcpu.vcpu_id => {
            return vcpu.answer(Err(HypercallError::AlreadyAvailable));
        }
        Ok(target) => target,
        Err(error) => return vcpu.answer(Err(error)),
    };
    match executable(vcpu, vcpu.arg(1)) {
        Ok(entry_point) => vcpu.ask(AxVCpuExitReason::CpuUp {
            target_cpu: target,
            entry_point,
            arg: vcpu.arg(2),
        }),
        Err(error) => vcpu.answer(Err(error)),
    }
}

fn status<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    match existing(vcpu, vcpu.arg(0)) {
        Ok(target) if target == vcpu.vcpu_id => vcpu.answer(Ok(hart_state::STARTED as u64)),
        Ok(target_cpu) => vcpu.ask(AxVCpuExitReason::CpuStatus { target_cpu }),
        Err(error) => vcpu.answer(Err(error)),
    }
}

fn suspend<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    // A parameter of 32 bits: what is above is the calling convention's.
    match vcpu.arg(0) as u32 {
        RETENTIVE => {
            vcpu.answer(Ok(0));
            wait_suspended(vcpu)
        }
        NON_RETENTIVE => match executable(vcpu, vcpu.arg(1)) {
            Ok(entry) => {
                resume_at(vcpu, entry, vcpu.arg(2));
                wait_suspended(vcpu)
            }
            Err(error) => vcpu.answer(Err(error)),
        },
        // The others are reserved or a platform's own, and this one has none.
        _ => vcpu.answer(Err(HypercallError::InvalidParam)),
    }
}

/// Waits for an interrupt, and is suspended to others meanwhile.
fn wait_suspended<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>) -> Next {
    let next = vcpu.halt();
    if next == Next::Leave {
        vcpu.wait = WaitKind::Suspended;
    }
    next
}

/// The state of a hart that resumes (table "HSM Hart Resume Register State"); what is not named there may as well stay.
fn resume_at<H: AxVCpuHal>(vcpu: &mut RISCVVCpu<H>, entry: GuestPhysAddr, opaque: u64) {
    SEPC.write(entry.as_u64());
    VSATP.write(0);
    VSSTATUS.clear(sstatus::SIE);
    vcpu.set_arg(0, vcpu.vcpu_id as u64);
    vcpu.set_arg(1, opaque);
}
