//! One pCPU's side: whether it runs guests, whose state it holds, and its VMIDs.

use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use axaddrspace::{NestedMode, VmidAllocator, VmidAssignment, VmidTag};
use axerrno::{AxResult, ax_err};
use axvcpu::{AxArchPerCpu, AxVCpuHal, MAX_CPUS, PcpuCell};
use spin::Mutex;

use crate::{CpuFeatures, csr, trap};

/// The exceptions that a guest takes itself, as far as the hardware lets it: all that a hart without the H extension could
/// raise, but for calls from S-mode, which are for us (privileged specification, "Hypervisor Trap Delegation Registers").
pub(crate) const DELEGATED_EXCEPTIONS: u64 = 1 << 0 // instruction address misaligned
    | 1 << 1 // instruction access fault
    | 1 << 2 // illegal instruction
    | 1 << 3 // breakpoint
    | 1 << 4 // load address misaligned
    | 1 << 5 // load access fault
    | 1 << 6 // store address misaligned
    | 1 << 7 // store access fault
    | 1 << 8 // call from U-mode
    | 1 << 12 // instruction page fault
    | 1 << 13 // load page fault
    | 1 << 15; // store page fault

const DELEGATED_INTERRUPTS: u64 =
    csr::interrupt::VSSIP | csr::interrupt::VSTIP | csr::interrupt::VSEIP;

/// Cycles, time and instructions. Others count what the firmware or the host has them count.
const GUEST_COUNTERS: u64 = 0b111;

const HGATP_VMID_SHIFT: u32 = 44;
const HGATP_MODE_SHIFT: u32 = 60;
const HGATP_VMID_MASK: u64 = 0x3fff;

/// A pCPU's VMIDs: `None` until guests can run there. Only that pCPU uses them, so nobody ever waits.
#[derive(Debug)]
pub(crate) struct Vmids(Mutex<Option<VmidAllocator>>);

/// What is known about all pCPUs of the machine.
pub(crate) struct Pcpus {
    cells: [PcpuCell<Vmids>; MAX_CPUS],
    /// Those on which guests can run, one bit each.
    enabled: AtomicU64,
}

impl Pcpus {
    pub(crate) const fn new() -> Self {
        Self {
            cells: [const { PcpuCell::new(Vmids(Mutex::new(None))) }; MAX_CPUS],
            enabled: AtomicU64::new(0),
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
pub(crate) fn cell(id: usize) -> AxResult<&'static PcpuCell<Vmids>> {
    PcpuCell::of(&pcpus().cells, id)
}

/// The pCPUs on which guests can run, one bit each: no other has anything of a nested table cached. One that begins to be among them
/// forgets what it has, after it is counted here.
#[must_use]
pub fn enabled_pcpus() -> u64 {
    pcpus().enabled.load(Ordering::SeqCst)
}

/// The bit of the current pCPU, of which there are at most 64.
fn own_bit<H: AxVCpuHal>() -> u64 {
    1 << (H::this_pcpu() % MAX_CPUS)
}

impl Vmids {
    /// Puts the nested table at `root_page` (a page number) into force for the vCPU that owns `tag`, with nothing stale behind it.
    pub(crate) fn load_nested(
        &self,
        mode: NestedMode,
        root_page: u64,
        tag: &mut VmidTag,
    ) -> AxResult {
        let mut vmids = self.0.lock();
        let Some(vmids) = vmids.as_mut() else {
            return ax_err!(BadState, "guests cannot run on this pCPU: not enabled");
        };
        let assignment = vmids.assign(tag);
        // Those of the vCPU that was here before would be walked, ahead of need, as if they were the new guest's. Its own come later.
        csr::VSATP.write(0);
        csr::HGATP.write(
            mode.hgatp_mode() << HGATP_MODE_SHIFT
                | u64::from(assignment.vmid()) << HGATP_VMID_SHIFT
                | root_page,
        );
        match assignment {
            VmidAssignment::Kept(_) => {}
            // An earlier generation may have left the guest's own translations under this number: hfence.gvma does not reach those.
            VmidAssignment::Fresh(_) => csr::fence_translations(csr::Translations::All),
            VmidAssignment::FlushAll(_) => {
                csr::fence_nested_all();
                csr::fence_translations(csr::Translations::All);
            }
        }
        Ok(())
    }
}

/// The virtualization state of one pCPU.
pub struct RISCVPerCpu<H: AxVCpuHal> {
    cell: &'static PcpuCell<Vmids>,
    _host: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> RISCVPerCpu<H> {
    /// Whether this pCPU's nested translation has the format `mode`. It runs no guest yet.
    #[must_use]
    pub fn supports(mode: NestedMode) -> bool {
        let before = csr::HGATP.swap(mode.hgatp_mode() << HGATP_MODE_SHIFT);
        let taken = csr::HGATP.swap(before) >> HGATP_MODE_SHIFT == mode.hgatp_mode();
        csr::fence_nested_all();
        taken
    }

    /// The widest format that this pCPU's nested translation has; `None` without the H extension. It runs no guest yet.
    #[must_use]
    pub fn best_mode() -> Option<NestedMode> {
        if !trap::has_hypervisor() {
            return None;
        }
        [NestedMode::Sv48x4, NestedMode::Sv39x4]
            .into_iter()
            .find(|&mode| Self::supports(mode))
    }
}

/// How many bits of a VMID the hardware keeps, under a `mode` that it has.
fn vmid_bits(mode: NestedMode) -> u32 {
    let all = mode.hgatp_mode() << HGATP_MODE_SHIFT | HGATP_VMID_MASK << HGATP_VMID_SHIFT;
    csr::HGATP.write(all);
    let kept = csr::HGATP.swap(0) >> HGATP_VMID_SHIFT & HGATP_VMID_MASK;
    kept.count_ones()
}

impl<H: AxVCpuHal> AxArchPerCpu for RISCVPerCpu<H> {
    fn new(cpu_id: usize) -> AxResult<Self> {
        Ok(Self {
            cell: cell(cpu_id)?,
            _host: PhantomData,
        })
    }

    fn is_enabled(&self) -> bool {
        self.cell.own().0.lock().is_some()
    }

    fn hardware_enable(&mut self) -> AxResult {
        let Some(mode) = Self::best_mode() else {
            return ax_err!(
                Unsupported,
                "no H extension with Sv39x4 or Sv48x4: this machine cannot run guests"
            );
        };
        let features = CpuFeatures::detect();
        if features.contains(CpuFeatures::VECTOR) && !trap::vectors_agree(csr::vlenb()) {
            return ax_err!(
                Unsupported,
                "its vector registers differ in length from those of other pCPUs"
            );
        }
        let _off = csr::InterruptsOff::new();
        let bits = vmid_bits(mode);
        csr::HEDELEG.write(DELEGATED_EXCEPTIONS);
        csr::HIDELEG.write(DELEGATED_INTERRUPTS);
        csr::HCOUNTEREN.write(GUEST_COUNTERS);
        pcpus().enabled.fetch_or(own_bit::<H>(), Ordering::SeqCst);
        csr::fence_nested_all();
        self.cell.release();
        *self.cell.own().0.lock() = Some(VmidAllocator::new(bits));
        Ok(())
    }

    fn hardware_disable(&mut self) -> AxResult {
        let _off = csr::InterruptsOff::new();
        *self.cell.own().0.lock() = None;
        self.cell.release();
        csr::HEDELEG.write(0);
        csr::HIDELEG.write(0);
        csr::HCOUNTEREN.write(0);
        csr::HVIP.write(0);
        csr::HGATP.write(0);
        csr::fence_nested_all();
        pcpus().enabled.fetch_and(!own_bit::<H>(), Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
