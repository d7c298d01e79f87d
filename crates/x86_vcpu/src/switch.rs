//! What of the vCPU is put into the hardware and taken from it, and when. Where it is: [`Residence`](axvcpu::Residence).

use axerrno::AxResult;
use axvcpu::{AxVCpuHal, Home};

use crate::{backend::VendorVcpu, hardware, msr::number::TSC_AUX, vcpu::VCpu};

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// Puts the vCPU into this pCPU's hardware, if it is not there. Interrupts are off.
    #[inline(always)]
    pub(crate) fn load(&mut self) -> AxResult {
        if self.residence.is_loaded() {
            if self.residence.home() == Home::Both {
                self.backend.reload();
            }
            return Ok(());
        }
        self.load_absent()
    }

    #[cold]
    fn load_absent(&mut self) -> AxResult {
        let tag = self.residence.make_room()?.assign(&mut self.tag)?;
        self.backend.load(tag)?;
        self.xsave.load();
        hardware::write_breakpoints(self.breakpoints);
        self.load_tsc_aux();
        self.residence.loaded();
        Ok(())
    }

    /// What RDTSCP reads, where the processor has that.
    pub(crate) fn load_tsc_aux(&self) {
        if self.cpuid.has_tsc_aux() {
            hardware::write_msr(TSC_AUX, self.tsc_aux);
        }
    }

    /// The nested tables may have changed since the vCPU was loaded. It has said that it is entering.
    #[inline(always)]
    pub(crate) fn refresh(&mut self) -> AxResult {
        match self.residence.cell() {
            Some(cell) if cell.own().is_stale() => {
                let tag = cell.own().assign(&mut self.tag)?;
                self.backend.retag(tag);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Brings memory up to date with the hardware, which goes on holding the vCPU. Interrupts are off.
    #[cold]
    pub(crate) fn save(&mut self) {
        self.saved_exit = self.backend.raw_exit();
        self.backend.save();
        self.xsave.save();
        self.breakpoints = hardware::read_breakpoints();
        self.residence.saved();
    }

    /// The vCPU leaves its pCPU, so that any can have it. Interrupts are off.
    pub(crate) fn leave_pcpu(&mut self) -> AxResult {
        self.residence.check_not_displaced()?;
        match self.residence.home() {
            Home::Memory => return Ok(()),
            Home::Both => {}
            Home::Hardware => self.save(),
        }
        self.backend.put();
        self.residence.left();
        Ok(())
    }
}
