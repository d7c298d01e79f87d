//! What of the vCPU is put into the hardware and taken from it, and when: its CSRs, its nested table, and its FP and vector registers. Where they are:
//! [`Residence`](axvcpu::Residence).

use axerrno::AxResult;
use axvcpu::{AxVCpuHal, Home};

use crate::{
    CpuFeatures, RISCVVCpu,
    csr::{self, VSIE, VSTIMECMP, sstatus},
    trap,
};

impl<H: AxVCpuHal> RISCVVCpu<H> {
    /// Puts the vCPU into this pCPU's hardware, if it is not there. Interrupts are off.
    #[inline(always)]
    pub(crate) fn load(&mut self) -> AxResult {
        if self.residence.is_loaded() {
            return Ok(());
        }
        self.load_absent()
    }

    #[cold]
    fn load_absent(&mut self) -> AxResult {
        let vmids = self.residence.make_room()?;
        vmids.load_nested(self.nested_mode, self.root_page, &mut self.vmid)?;
        // vstimecmp is not there before henvcfg says so.
        self.regs.virtual_hs_csrs.load();
        self.regs.vs_csrs.load();
        self.load_timer();
        csr::with_units_on(|| {
            if self.features.contains(CpuFeatures::FLOAT) {
                trap::load_float(&self.float);
            }
            if let Some(vector) = &self.vector {
                trap::load_vector(vector);
            }
        });
        self.residence.loaded();
        Ok(())
    }

    /// Brings memory up to date with the hardware, which goes on holding the vCPU. Interrupts are off.
    #[cold]
    pub(crate) fn save(&mut self) {
        self.regs.vs_csrs.save();
        self.regs.virtual_hs_csrs.save();
        if self.features.contains(CpuFeatures::SSTC) {
            self.deadline = VSTIMECMP.read();
        }
        self.save_units();
        self.residence.saved();
    }

    /// The vCPU leaves its pCPU, so that any can have it. Interrupts are off.
    #[cold]
    pub(crate) fn leave_pcpu(&mut self) -> AxResult {
        self.residence.check_not_displaced()?;
        match self.residence.home() {
            Home::Hardware => self.save(),
            Home::Both | Home::Memory => {}
        }
        if self.residence.is_held() {
            // An interrupt that nobody takes any more would wake the idle host for ever.
            VSIE.write(0);
            // The hart may translate ahead of time by whatever table is in force, which may be memory for other use before long.
            csr::HGATP.write(0);
        }
        self.residence.left();
        Ok(())
    }

    /// Saves the FP and vector registers, where the guest has changed them.
    fn save_units(&mut self) {
        let status = &mut self.regs.guest_regs.sstatus;
        // Both bits set: dirty.
        if *status & sstatus::FS == sstatus::FS {
            *status = *status & !sstatus::FS | sstatus::FS_CLEAN;
            csr::with_units_on(|| trap::save_float(&mut self.float));
        }
        if let Some(vector) = &mut self.vector
            && *status & sstatus::VS == sstatus::VS
        {
            *status = *status & !sstatus::VS | sstatus::VS_CLEAN;
            csr::with_units_on(|| trap::save_vector(vector));
        }
    }
}
