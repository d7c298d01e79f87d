//! The guest's timer: `vstimecmp` where the machine has Sstc, else emulated by the host's.

use axvcpu::AxVCpuHal;

use crate::{
    CpuFeatures, RISCVVCpu,
    csr::{HVIP, VSTIMECMP, interrupt},
};

/// What [`AxVCpuHal::set_guest_timer`] takes for "never".
const NEVER: u64 = u64::MAX;

impl<H: AxVCpuHal> RISCVVCpu<H> {
    /// The guest without Sstc sets its timer: raised once `time` reaches `deadline`, and not pending until then.
    pub(crate) fn emulate_timer(&mut self, deadline: u64) {
        self.deadline = deadline;
        HVIP.clear(interrupt::VSTIP);
        self.fire_if_due();
        H::set_guest_timer(self.deadline);
    }

    /// Before an entry: an emulated timer that is due is raised.
    #[inline(always)]
    pub(crate) fn poll_timer(&mut self) {
        if !self.features.contains(CpuFeatures::SSTC) {
            self.fire_if_due();
        }
    }

    /// It stays pending until the guest sets the timer again.
    fn fire_if_due(&mut self) {
        if self.deadline != NEVER && self.deadline <= H::now() {
            HVIP.set(interrupt::VSTIP);
            self.deadline = NEVER;
        }
    }

    /// The vCPU is being loaded: its timer goes with it.
    pub(crate) fn load_timer(&self) {
        if self.features.contains(CpuFeatures::SSTC) {
            VSTIMECMP.write(self.deadline);
        } else {
            H::set_guest_timer(self.deadline);
        }
    }
}
