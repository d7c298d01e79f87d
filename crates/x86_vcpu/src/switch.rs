//! Which vCPU a pCPU holds.
//!
//! A vCPU's state stays in the hardware when its guest is left, and is loaded only where another's (or nobody's) is. It is never fetched from afar: a vCPU
//! whose pCPU is its own ([`Sharing::Dedicated`](crate::Sharing)) is saved when it is unbound, one that shares its pCPU after each run. So when another
//! vCPU comes, the hardware holds nothing that memory does not.

use axerrno::{AxResult, ax_err, ax_err_type};
use axvcpu::AxVCpuHal;

use crate::{X86VCpu, hardware, msr::number::TSC_AUX, percpu::Cell};

/// Where the vCPU's present state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In memory only.
    Memory,
    /// In memory, and in the hardware of the pCPU whose cell says so.
    Both,
    /// In the hardware only.
    Hardware,
}

impl<H: AxVCpuHal> X86VCpu<H> {
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
        let tag = cell.assign(&mut self.tag)?;
        cell.release();
        self.backend.load(tag)?;
        self.xsave.load();
        hardware::write_breakpoints(self.breakpoints);
        self.load_tsc_aux();
        cell.hold(self.uid);
        self.home = Home::Both;
        Ok(())
    }

    /// What RDTSCP reads, where the processor has that.
    pub(crate) fn load_tsc_aux(&self) {
        if self.cpuid.has_tsc_aux() {
            hardware::write_msr(TSC_AUX, self.tsc_aux);
        }
    }

    /// Whether what the pCPU has cached of nested tables must go before the guest goes on.
    #[inline(always)]
    pub(crate) fn is_stale(&self) -> bool {
        self.cell.is_some_and(Cell::is_stale)
    }

    /// The nested tables may have changed since the vCPU was loaded. It has said that it is entering.
    #[inline(always)]
    pub(crate) fn refresh(&mut self) -> AxResult {
        match self.cell {
            Some(cell) if cell.is_stale() => {
                let tag = cell.assign(&mut self.tag)?;
                self.backend.retag(tag);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A dedicated vCPU's state is lost if another was loaded where it was bound: that must not be taken for an older state.
    fn check_not_displaced(&self) -> AxResult {
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
        self.saved_exit = self.backend.raw_exit();
        self.backend.save();
        self.xsave.save();
        self.breakpoints = hardware::read_breakpoints();
        self.home = Home::Both;
    }

    /// The vCPU leaves its pCPU, so that any can have it. Interrupts are off.
    pub(crate) fn leave_pcpu(&mut self) -> AxResult {
        self.check_not_displaced()?;
        match self.home {
            Home::Memory => return Ok(()),
            Home::Both => {}
            Home::Hardware => self.save(),
        }
        self.backend.put();
        if let Some(cell) = self.cell
            && cell.holds(self.uid)
        {
            cell.release();
        }
        self.home = Home::Memory;
        Ok(())
    }
}
