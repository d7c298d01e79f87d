//! What a VM's vCPUs ask of one another: interrupts, fences, and power (SBI specification, "IPI",
//! "RFENCE" and "Hart State Management" extensions). The numbers are the guest's, and so are the
//! mistakes in them.

use axaddrspace::GuestPhysAddr;
use axvcpu::{AxArchVCpu, Fence, HypercallError, VCpuSet};

use crate::{GuestRange, PowerState, door::VCpuDoor};

/// What a hypercall answers.
pub(crate) type Answer = Result<u64, HypercallError>;

/// Raises interrupt `vector` in each vCPU of `target` that is not off.
pub(crate) fn send_ipi<A: AxArchVCpu>(
    doors: &[VCpuDoor<A>],
    target: VCpuSet,
    vector: usize,
) -> Answer {
    check(doors, target)?;
    for door in members(doors, target) {
        match door.power() {
            PowerState::On | PowerState::StartPending { .. } => door.raise(vector),
            PowerState::Off => {}
        }
    }
    Ok(0)
}

/// Has each vCPU of `target` do `fence` before its guest runs on, and waits for those in their
/// guests; not once `give_up` says so.
///
/// The caller is out of its own guest, so two that wait for each other both go on.
pub(crate) fn remote_fence<A: AxArchVCpu>(
    doors: &[VCpuDoor<A>],
    target: VCpuSet,
    fence: Fence,
    give_up: impl Fn() -> bool,
) -> Answer {
    check(doors, target)?;
    for door in members(doors, target) {
        door.request_fence(fence);
    }
    for door in members(doors, target) {
        while door.owes_fence() && !give_up() {
            core::hint::spin_loop();
        }
    }
    Ok(0)
}

/// Starts vCPU `target` at `entry`, which must be in `ram`.
pub(crate) fn start<A: AxArchVCpu>(
    doors: &[VCpuDoor<A>],
    ram: &[GuestRange],
    target: usize,
    entry: GuestPhysAddr,
    arg: u64,
) -> Answer {
    let door = doors.get(target).ok_or(HypercallError::InvalidParam)?;
    if !ram
        .iter()
        .any(|region| region.start() <= entry && entry < region.end())
    {
        return Err(HypercallError::InvalidAddress);
    }
    match door.start(entry, arg) {
        Ok(()) => Ok(0),
        Err(_) => Err(HypercallError::AlreadyAvailable),
    }
}

/// The power state of vCPU `target`, as the SBI numbers it.
pub(crate) fn status<A: AxArchVCpu>(doors: &[VCpuDoor<A>], target: usize) -> Answer {
    let door = doors.get(target).ok_or(HypercallError::InvalidParam)?;
    Ok(match door.power() {
        PowerState::On if door.is_suspended() => 4,
        PowerState::On => 0,
        PowerState::Off => 1,
        PowerState::StartPending { .. } => 2,
    })
}

/// A set that names a vCPU that does not exist is wrong as a whole.
fn check<A>(doors: &[VCpuDoor<A>], set: VCpuSet) -> Result<(), HypercallError> {
    match set {
        VCpuSet::All => Ok(()),
        VCpuSet::Mask { mask: 0, .. } => Ok(()),
        VCpuSet::Mask { base, mask } => {
            let highest = base.checked_add(mask.ilog2() as usize);
            match highest.filter(|&highest| highest < doors.len()) {
                Some(_) => Ok(()),
                None => Err(HypercallError::InvalidParam),
            }
        }
    }
}

fn members<A>(doors: &[VCpuDoor<A>], set: VCpuSet) -> impl Iterator<Item = &VCpuDoor<A>> {
    doors
        .iter()
        .enumerate()
        .filter(move |&(id, _)| set.contains(id))
        .map(|(_, door)| door)
}
