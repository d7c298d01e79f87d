//! Which vCPU a pCPU holds.
//!
//! A vCPU's CSRs, nested table and FP and vector registers stay in the hardware when it is left, and are loaded only where
//! another's (or nobody's) are. They are never fetched from afar: a vCPU whose pCPU is its own
//! ([`Sharing::Dedicated`](crate::Sharing)) saves them when it is unbound, one that shares its pCPU after each run. So when
//! another vCPU comes, the hardware holds nothing that memory does not, and no pCPU ever reaches for another vCPU's save area,
//! which its owner may be using elsewhere.

use axerrno::{AxResult, ax_err, ax_err_type};
use axvcpu::AxVCpuHal;

use crate::{
    CpuFeatures, RISCVVCpu,
    csr::{self, VSIE, VSTIMECMP, sstatus},
    trap,
    vcpu::Home,
};

impl<H: AxVCpuHal> RISCVVCpu<H> {
    /// Puts the vCPU into this pCPU's hardware, if it is not there. Interrupts are off.
    #[inline(always)]
    pub(crate) fn load(&mut self) -> AxResult {
        match self.cell {
            Some(cell) if self.home != Home::Memory && cell.holds(self.uid) => Ok(()),
            _ => self.load_absent(),
        }
    }

    #[cold]
    fn load_absent(&mut self) -> AxResult {
        self.check_not_displaced()?;
        let cell = self
            .cell
            .ok_or_else(|| ax_err_type!(BadState, "a vCPU runs only where it is bound"))?;
        cell.load_nested(self.nested_mode, self.root_page, &mut self.vmid)?;
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
        cell.hold(self.uid);
        self.home = Home::Both;
        Ok(())
    }

    /// A dedicated vCPU's state is lost if another was loaded where it was bound: that must not be taken for an older state.
    pub(crate) fn check_not_displaced(&self) -> AxResult {
        let holds = self.cell.is_some_and(|cell| cell.holds(self.uid));
        match self.home {
            Home::Hardware if !holds => {
                ax_err!(BadState, "another vCPU ran on this vCPU's dedicated pCPU")
            }
            Home::Hardware | Home::Both | Home::Memory => Ok(()),
        }
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
        self.home = Home::Both;
    }

    /// Leaves the hardware to others. Interrupts are off, and what the hardware alone has of the vCPU is there.
    #[cold]
    pub(crate) fn give_up(&mut self) {
        match self.home {
            Home::Hardware => self.save(),
            Home::Both | Home::Memory => {}
        }
        if self.cell.is_some_and(|cell| cell.holds(self.uid)) {
            // An interrupt that nobody takes any more would wake the idle host for ever.
            VSIE.write(0);
            // The hart may translate ahead of time by whatever table is in force, which may be memory for other use before long.
            csr::HGATP.write(0);
        }
        self.home = Home::Memory;
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
