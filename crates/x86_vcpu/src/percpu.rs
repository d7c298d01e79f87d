//! One pCPU's side: whether it runs guests, whose state it holds, and its tags (ASIDs, VPIDs).

use alloc::boxed::Box;
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};

use axaddrspace::{NestedMode, VmidAllocator, VmidAssignment, VmidTag};
use axdevice::Keeps;
use axerrno::{AxResult, ax_err};
use axvcpu::{AxArchPerCpu, AxVCpuHal, MAX_CPUS, PcpuCell};
use spin::Mutex;

use crate::{
    Unfit,
    backend::{Vendor, VendorPerCpu},
    hardware::InterruptsOff,
    svm::SvmPerCpuState,
    vmx::VmxPerCpuState,
    xsave,
};

/// The vendor's state of an enabled pCPU, whatever its host.
trait Enabled: Send {
    fn disable(self: Box<Self>) -> AxResult;
}

impl<P: VendorPerCpu + Send> Enabled for P {
    fn disable(self: Box<Self>) -> AxResult {
        VendorPerCpu::disable(*self)
    }
}

/// What an enabled pCPU has.
struct State {
    vendor: Box<dyn Enabled>,
    tags: VmidAllocator,
    tag_bits: u32,
}

/// What is known about a pCPU. Only that pCPU uses it, so nobody ever waits; but any may mark it stale.
pub(crate) struct Pcpu {
    /// What the pCPU has cached of nested tables must go before a guest runs there.
    stale: AtomicBool,
    /// `None` until guests can run here.
    state: Mutex<Option<State>>,
}

/// What is known about all pCPUs of the machine.
pub(crate) struct Pcpus {
    cells: [PcpuCell<Pcpu>; MAX_CPUS],
}

impl Pcpus {
    pub(crate) const fn new() -> Self {
        Self {
            cells: [const {
                PcpuCell::new(Pcpu {
                    stale: AtomicBool::new(false),
                    state: Mutex::new(None),
                })
            }; MAX_CPUS],
        }
    }
}

#[cfg(not(test))]
fn pcpus() -> &'static Pcpus {
    static PCPUS: Pcpus = Pcpus::new();
    &PCPUS
}
#[cfg(test)]
use crate::testing::pcpus;

/// What is known about pCPU `id`.
pub(crate) fn cell(id: usize) -> AxResult<&'static PcpuCell<Pcpu>> {
    PcpuCell::of(&pcpus().cells, id)
}

/// What pCPU `pcpu` has cached of nested tables is forgotten before it next runs a guest.
///
/// For [`AxMmHal::flush_nested`](axaddrspace::AxMmHal::flush_nested): mark the pCPUs, then interrupt those in a guest and wait until each has served
/// that interrupt. From then on none can reach memory through what it had cached.
pub fn forget_nested(pcpu: usize) {
    if let Some(cell) = pcpus().cells.get(pcpu) {
        cell.own().stale.store(true, Ordering::SeqCst);
    }
}

impl Pcpu {
    /// Whether something was forgotten that the pCPU may still know.
    #[inline(always)]
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::SeqCst)
    }

    /// The tag for the vCPU that owns `tag`, which is about to run here, and what must be flushed before it is used.
    pub(crate) fn assign(&self, tag: &mut VmidTag) -> AxResult<VmidAssignment> {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else {
            return ax_err!(BadState, "guests cannot run on this pCPU: not enabled");
        };
        // Before the tag is used, not after: what is marked from here on is followed by an interrupt.
        if self.stale.swap(false, Ordering::SeqCst) {
            // New numbers, the first of which flushes all.
            state.tags = VmidAllocator::new(state.tag_bits);
        }
        Ok(state.tags.assign(tag))
    }
}

/// Which vendor's virtualization this pCPU has.
pub(crate) fn vendor<H: AxVCpuHal>() -> Option<Vendor> {
    if SvmPerCpuState::<H>::is_present() {
        Some(Vendor::Svm)
    } else if VmxPerCpuState::<H>::is_present() {
        Some(Vendor::Vmx)
    } else {
        None
    }
}

/// The virtualization state of one pCPU.
pub struct X86PerCpu<H: AxVCpuHal> {
    cell: &'static PcpuCell<Pcpu>,
    _host: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> X86PerCpu<H> {
    /// The vendor whose virtualization can be used, or why none can.
    ///
    /// # Errors
    /// [`Unfit`]: the first thing that this pCPU lacks.
    pub fn check() -> Result<Vendor, Unfit> {
        let vendor = vendor::<H>().ok_or(Unfit::NoVirtualization)?;
        match vendor {
            Vendor::Svm => SvmPerCpuState::<H>::check()?,
            Vendor::Vmx => VmxPerCpuState::<H>::check()?,
        };
        Ok(vendor)
    }

    /// What of guests' local APICs this pCPU, where guests can run, can keep.
    #[must_use]
    pub fn local_apic() -> Option<Keeps> {
        match vendor::<H>()? {
            Vendor::Svm => SvmPerCpuState::<H>::keeps(),
            Vendor::Vmx => VmxPerCpuState::<H>::keeps(),
        }
    }

    /// The format of this pCPU's nested page tables, or why guests cannot run here.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn best_mode() -> Result<NestedMode, Unfit> {
        Ok(match Self::check()? {
            Vendor::Svm => NestedMode::Npt(SvmPerCpuState::<H>::largest_leaf()),
            Vendor::Vmx => NestedMode::Ept(VmxPerCpuState::<H>::largest_leaf()),
        })
    }
}

impl<H: AxVCpuHal> AxArchPerCpu for X86PerCpu<H> {
    fn new(cpu_id: usize) -> AxResult<Self> {
        Ok(Self {
            cell: cell(cpu_id)?,
            _host: PhantomData,
        })
    }

    fn is_enabled(&self) -> bool {
        self.cell.own().state.lock().is_some()
    }

    fn hardware_enable(&mut self) -> AxResult {
        fn enable<P: VendorPerCpu + Send + 'static>() -> AxResult<State> {
            let tag_bits = P::check()?;
            Ok(State {
                vendor: Box::new(P::enable()?),
                tags: VmidAllocator::new(tag_bits),
                tag_bits,
            })
        }
        let vendor = Self::check()?;
        let _off = InterruptsOff::new();
        let mut state = self.cell.own().state.lock();
        if state.is_some() {
            return ax_err!(BadState, "guests can run on this pCPU already");
        }
        xsave::enable();
        *state = Some(match vendor {
            Vendor::Svm => enable::<SvmPerCpuState<H>>()?,
            Vendor::Vmx => enable::<VmxPerCpuState<H>>()?,
        });
        self.cell.release();
        Ok(())
    }

    fn hardware_disable(&mut self) -> AxResult {
        let _off = InterruptsOff::new();
        self.cell.release();
        match self.cell.own().state.lock().take() {
            Some(state) => state.vendor.disable(),
            None => Ok(()),
        }
    }
}
