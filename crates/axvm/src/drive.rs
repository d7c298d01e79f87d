//! A vCPU's life, as its task drives it: run, wait, stop, end.
//!
//! The task calls [`AxVM::drive`] and does what it says until the VM is down. All that concerns
//! threads (sleeping, interrupts, pinning) is the task's affair; all that concerns the VM is
//! decided here.

use alloc::{format, string::String};
use core::fmt;

use axvcpu::{AxVCpuExitReason, FailReason, HypercallError, SystemDownKind, VCpuState, Wait};

use crate::{AxVM, AxVMHal, GuestArch, PowerState, door::VCpuDoor};

/// What a vCPU's task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum VCpuNext {
    /// Sleep until [`vcpu_should_wake`](AxVM::vcpu_should_wake), then drive on: the guest waits for
    /// an interrupt.
    Wait {
        /// When the vCPU's own timer ends the wait, in ticks of the host's counter; [`u64::MAX`]:
        /// never.
        deadline: u64,
    },
    /// Sleep until [`vcpu_should_wake`](AxVM::vcpu_should_wake), then drive on: the vCPU is off.
    Off,
    /// End: the VM went down.
    VmDown(SystemDownKind),
    /// End: this vCPU cannot go on, and the VM goes down. [`stop_record`](AxVM::stop_record) says
    /// why.
    VmFailed,
}

/// What stopped a VM that did not go down of its own will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRecord {
    /// The vCPU that could not go on.
    pub vcpu: usize,
    /// Why.
    pub reason: String,
    /// Its registers.
    pub registers: String,
}

impl fmt::Display for StopRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {}: {}\n{}", self.vcpu, self.reason, self.registers)
    }
}

impl<H: AxVMHal, A: GuestArch> AxVM<H, A> {
    /// Lets vCPU `id` run until its task has something to do. To be called by that task only, on a
    /// pCPU of the vCPU's affinity, and not again once it said that the VM is down.
    pub fn drive(&self, id: usize) -> VCpuNext {
        let Some(door) = self.doors.get(id) else {
            return VCpuNext::VmFailed;
        };
        let next = match self.drive_door(door) {
            Ok(next) => next,
            Err(reason) => self.fail(door, reason),
        };
        match next {
            VCpuNext::Wait { .. } | VCpuNext::Off => {}
            VCpuNext::VmDown(_) | VCpuNext::VmFailed => self.vcpu_ended(),
        }
        next
    }

    /// Fails with the reason why the vCPU cannot go on.
    fn drive_door(&self, door: &VCpuDoor<A>) -> Result<VCpuNext, String> {
        door.unpark().map_err(text)?;
        loop {
            if let Some(kind) = self.shutting_down() {
                return Ok(VCpuNext::VmDown(kind));
            }
            match door.take_start() {
                PowerState::Off => {
                    door.park(u64::MAX, Wait::FOR_ANY).map_err(text)?;
                    return Ok(VCpuNext::Off);
                }
                PowerState::StartPending { entry, arg } => {
                    door.vcpu().start_at(entry, arg).map_err(text)?;
                    // Letters of before the start are lost. Only vCPU 0 gets any of devices.
                    if door.vcpu().id() == 0 {
                        self.deliver_passed();
                    }
                }
                PowerState::On => {}
            }
            let exit = self
                .run_vcpu(door.vcpu().id())
                .map_err(|error| text(error.cause))?;
            if let Some(next) = self.decide(door, exit)? {
                return Ok(next);
            }
        }
    }

    /// What follows an exit that the loop did not serve. `None`: the vCPU goes on.
    fn decide(
        &self,
        door: &VCpuDoor<A>,
        exit: AxVCpuExitReason,
    ) -> Result<Option<VCpuNext>, String> {
        match exit {
            AxVCpuExitReason::Halt => return self.wait(door),
            AxVCpuExitReason::CpuDown => {
                door.went_down();
                // Nobody is left who could start one again.
                if self
                    .doors
                    .iter()
                    .all(|door| door.power() == PowerState::Off)
                {
                    self.shutdown(SystemDownKind::PowerOff);
                }
            }
            AxVCpuExitReason::SystemDown { kind } => self.shutdown(kind),
            AxVCpuExitReason::Hypercall { .. } => {
                let answer = |arch: &mut A| {
                    arch.set_return_value(Err(HypercallError::NotSupported));
                    Ok(())
                };
                door.vcpu()
                    .manipulate_arch_vcpu(VCpuState::Free, VCpuState::Free, answer)
                    .map_err(text)?;
            }
            AxVCpuExitReason::FailEntry {
                reason: FailReason { what, raw },
            } => {
                return Err(format!("{what} ({raw})"));
            }
            AxVCpuExitReason::Unknown(raw) => return Err(format!("unknown exit: {raw}")),
            // The loop has served these.
            AxVCpuExitReason::Nothing
            | AxVCpuExitReason::Console(_)
            | AxVCpuExitReason::MmioRead { .. }
            | AxVCpuExitReason::MmioWrite { .. }
            | AxVCpuExitReason::IoRead { .. }
            | AxVCpuExitReason::IoWrite { .. }
            | AxVCpuExitReason::SysRegRead { .. }
            | AxVCpuExitReason::SysRegWrite { .. }
            | AxVCpuExitReason::NestedPageFault { .. }
            | AxVCpuExitReason::ExternalInterrupt { .. }
            | AxVCpuExitReason::DeviceInterrupt
            | AxVCpuExitReason::CpuUp { .. }
            | AxVCpuExitReason::CpuStatus { .. }
            | AxVCpuExitReason::SendIPI { .. }
            | AxVCpuExitReason::RemoteFence { .. } => {}
        }
        Ok(None)
    }

    /// The guest waits for an interrupt; if one is there already, it goes on.
    fn wait(&self, door: &VCpuDoor<A>) -> Result<Option<VCpuNext>, String> {
        let look = |arch: &A| {
            let deadline = arch.timer_deadline();
            (arch.has_pending_interrupt(), deadline, arch.wait())
        };
        let (pending, deadline, wait) = door.vcpu().inspect(look).map_err(text)?;
        let deadline = deadline.unwrap_or(u64::MAX);
        if pending || deadline <= H::now() {
            return Ok(None);
        }
        door.park(deadline, wait).map_err(text)?;
        Ok(Some(VCpuNext::Wait { deadline }))
    }

    /// Puts on record what stopped the vCPU, and takes the VM down.
    fn fail(&self, door: &VCpuDoor<A>, reason: String) -> VCpuNext {
        let mut registers = String::new();
        let dumped = door.vcpu().inspect(|arch| arch.dump(&mut registers));
        if !matches!(dumped, Ok(Ok(()))) {
            registers.push_str("(registers not available)");
        }
        let record = StopRecord {
            vcpu: door.vcpu().id(),
            reason,
            registers,
        };
        self.stopped.lock().get_or_insert(record);
        self.shutdown(SystemDownKind::Crash);
        VCpuNext::VmFailed
    }

    /// Whether vCPU `id`, whose task sleeps, has something to do. To be asked with interrupts off,
    /// right before sleeping: who gives it something later sends a kick.
    #[must_use]
    pub fn vcpu_should_wake(&self, id: usize) -> bool {
        let awake = |door: &VCpuDoor<A>| door.should_wake(H::now());
        self.shutting_down().is_some() || self.doors.get(id).is_none_or(awake)
    }
}

fn text(why: impl fmt::Display) -> String {
    format!("{why}")
}
