//! One pCPU's VMX: whether it has it, VMXON and VMXOFF, and the host's state that a VM exit brings back.

use axaddrspace::{AxMmHal, FrameSize, HostPhysAddr, LargestLeaf};
use axdevice::Keeps;
use axerrno::{AxResult, ax_err};
use axvcpu::AxVCpuHal;

use super::{
    caps::{FixedBits, VmxCapabilities, VmxCapabilityWords},
    fields::{VmcsHost16, VmcsHost32, VmcsHost64, VmcsHostNW},
    vmcs::{self, Forget},
};
use crate::{
    Unfit,
    backend::VendorPerCpu,
    cr::{cr0, cr4},
    hardware,
    msr::number::{EFER, FS_BASE, GS_BASE, PAT, SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP},
    pages::HardwarePages,
};

/// `IA32_FEATURE_CONTROL` (SDM vol. 3, 24.7 "Enabling and Entering VMX Operation").
mod feature_control {
    pub(super) const MSR: u32 = 0x3a;
    /// No more changes until the next reset.
    pub(super) const LOCKED: u64 = 1 << 0;
    /// VMXON is allowed outside SMX.
    pub(super) const VMX_OUTSIDE_SMX: u64 = 1 << 2;
}

const CPUID_FEATURES: u32 = 1;
const CPUID_ECX_VMX: u32 = 1 << 5;
/// VPIDs always have 16 bits.
const VPID_BITS: u32 = 16;

/// A page that VMX uses: the VMXON region, a VMCS, or the bitmap of MSRs.
#[derive(Debug)]
pub struct VmxRegion<M: AxMmHal>(HardwarePages<[u8; REGION_BYTES], M>);

/// The size of a region.
pub(crate) const REGION_BYTES: usize = FrameSize::Size4K.bytes() as usize;

impl<M: AxMmHal> VmxRegion<M> {
    /// A page of zeros.
    ///
    /// # Errors
    /// `NoMemory`.
    pub fn zeroed() -> AxResult<Self> {
        HardwarePages::zeroed().map(Self)
    }

    /// A VMXON region or a VMCS: it begins with the processor's revision identifier (SDM vol. 3, 25.2).
    ///
    /// # Errors
    /// `NoMemory`.
    pub fn with_revision(revision: u32) -> AxResult<Self> {
        let mut region = Self::zeroed()?;
        region.bytes_mut()[..size_of::<u32>()].copy_from_slice(&revision.to_le_bytes());
        Ok(region)
    }

    /// Where the processor finds it.
    #[must_use]
    pub const fn start(&self) -> HostPhysAddr {
        self.0.start()
    }

    /// Its bytes, while no processor uses it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; REGION_BYTES] {
        self.0.get_mut()
    }
}

/// VMX operation on one pCPU.
pub struct VmxPerCpuState<H: AxVCpuHal> {
    /// The processor's own while VMX operation is on.
    _vmxon: VmxRegion<H::MmHal>,
}

/// What this pCPU's VMX can do, or why guests cannot run.
pub(crate) fn capabilities() -> Result<VmxCapabilities, Unfit> {
    VmxCapabilities::negotiate(&VmxCapabilityWords::read(hardware::read_msr))
        .map_err(Unfit::VmxLacks)
}

impl<H: AxVCpuHal> VendorPerCpu for VmxPerCpuState<H> {
    fn is_present() -> bool {
        hardware::cpuid(CPUID_FEATURES, 0).ecx & CPUID_ECX_VMX != 0
    }

    fn largest_leaf() -> LargestLeaf {
        // Where negotiation fails, no guest runs.
        capabilities().map_or(LargestLeaf::Size2M, |found| found.ept_leaf)
    }

    fn keeps() -> Option<Keeps> {
        capabilities().ok()?.keeps
    }

    fn check() -> Result<u32, Unfit> {
        let control = hardware::read_msr(feature_control::MSR);
        if control & feature_control::LOCKED != 0 && control & feature_control::VMX_OUTSIDE_SMX == 0
        {
            return Err(Unfit::VmxLockedOff);
        }
        let vpids = capabilities()?.invvpid;
        Ok(vpids.map_or(0, |_| VPID_BITS))
    }

    fn enable() -> AxResult<Self> {
        let capabilities = capabilities()?;
        let region = VmxRegion::with_revision(capabilities.revision)?;
        let control = hardware::read_msr(feature_control::MSR);
        if control & feature_control::LOCKED == 0 {
            let on = feature_control::LOCKED | feature_control::VMX_OUTSIDE_SMX;
            hardware::write_msr(feature_control::MSR, control | on);
        }
        let cr0 = hardware::read_cr0() | cr0::NE;
        let cr4 = hardware::read_cr4() | cr4::VMXE;
        check_fixed("CR0", capabilities.cr0, cr0)?;
        check_fixed("CR4", capabilities.cr4, cr4)?;
        hardware::write_cr0(cr0);
        hardware::write_cr4(cr4);
        if let Err(failure) = vmcs::vmxon(region.start()) {
            hardware::write_cr4(cr4 & !cr4::VMXE);
            log::error!("VMXON failed: {failure}");
            return ax_err!(BadState, "VMXON failed");
        }
        forget(Forget::Nested);
        Ok(Self { _vmxon: region })
    }

    fn disable(self) -> AxResult {
        if let Err(failure) = vmcs::vmxoff() {
            log::error!("VMXOFF failed: {failure}");
            // The processor goes on using the region: it must never be anything else.
            core::mem::forget(self);
            return ax_err!(BadState, "VMXOFF failed");
        }
        hardware::write_cr4(hardware::read_cr4() & !cr4::VMXE);
        Ok(())
    }
}

/// INVEPT or INVVPID of a type that the processor has.
pub(crate) fn forget(what: Forget) {
    let result = vmcs::forget(what);
    debug_assert_eq!(result, Ok(()), "{what:?} was negotiated");
}

fn check_fixed(register: &'static str, fixed: FixedBits, value: u64) -> AxResult {
    match fixed.violated_by(value) {
        0 => Ok(()),
        bits => {
            log::error!("{register} is {value:#x}: VMX demands otherwise of the bits {bits:#x}");
            ax_err!(BadState, "a control register is not as VMX demands")
        }
    }
}

/// What a VM exit brings back, but for the stack pointer and the place where the host goes on: the same for every vCPU of a pCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostState {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) es: u16,
    pub(crate) cs: u16,
    pub(crate) ss: u16,
    pub(crate) ds: u16,
    pub(crate) fs: u16,
    pub(crate) gs: u16,
    pub(crate) tr: u16,
    pub(crate) tr_base: u64,
    pub(crate) gdtr_base: u64,
    pub(crate) idtr_base: u64,
}

/// A selector as the host-state area takes it: privilege level 0, global table (27.2.3).
const fn host_selector(selector: u16) -> u16 {
    selector & !0b111
}

impl HostState {
    /// Writes it to the current VMCS.
    pub(crate) fn write(&self) {
        use hardware::read_msr;
        VmcsHostNW::Cr0.write(self.cr0);
        VmcsHostNW::Cr3.write(self.cr3);
        VmcsHostNW::Cr4.write(self.cr4);
        VmcsHost16::EsSelector.write(host_selector(self.es));
        VmcsHost16::CsSelector.write(host_selector(self.cs));
        VmcsHost16::SsSelector.write(host_selector(self.ss));
        VmcsHost16::DsSelector.write(host_selector(self.ds));
        VmcsHost16::FsSelector.write(host_selector(self.fs));
        VmcsHost16::GsSelector.write(host_selector(self.gs));
        VmcsHost16::TrSelector.write(host_selector(self.tr));
        VmcsHostNW::TrBase.write(self.tr_base);
        VmcsHostNW::GdtrBase.write(self.gdtr_base);
        VmcsHostNW::IdtrBase.write(self.idtr_base);
        VmcsHostNW::FsBase.write(read_msr(FS_BASE));
        VmcsHostNW::GsBase.write(read_msr(GS_BASE));
        VmcsHost32::SysenterCs.write(read_msr(SYSENTER_CS) as u32);
        VmcsHostNW::SysenterEsp.write(read_msr(SYSENTER_ESP));
        VmcsHostNW::SysenterEip.write(read_msr(SYSENTER_EIP));
        VmcsHost64::Pat.write(read_msr(PAT));
        VmcsHost64::Efer.write(read_msr(EFER));
    }
}

pub(crate) use imp::host_state;

#[cfg(target_os = "none")]
mod imp {
    use core::arch::asm;

    use super::HostState;
    use crate::hardware;

    /// What SGDT and SIDT store.
    #[repr(C, packed)]
    #[derive(Default)]
    struct Table {
        limit: u16,
        base: u64,
    }

    macro_rules! selector {
        ($register:literal) => {{
            let value: u16;
            // SAFETY: reads a selector.
            unsafe { asm!(concat!("mov {0:x}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }};
    }

    /// The host's state on this pCPU.
    pub(crate) fn host_state() -> HostState {
        let (mut gdtr, mut idtr) = (Table::default(), Table::default());
        let (tr, cr3): (u16, u64);
        // SAFETY: store two registers in the tables, of the size that they take, and read two others.
        unsafe {
            asm!("sgdt [{}]", in(reg) &raw mut gdtr, options(nostack, preserves_flags));
            asm!("sidt [{}]", in(reg) &raw mut idtr, options(nostack, preserves_flags));
            asm!("str {0:x}", out(reg) tr, options(nomem, nostack, preserves_flags));
            asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags));
        }
        HostState {
            cr0: hardware::read_cr0(),
            cr3,
            cr4: hardware::read_cr4(),
            es: selector!("es"),
            cs: selector!("cs"),
            ss: selector!("ss"),
            ds: selector!("ds"),
            fs: selector!("fs"),
            gs: selector!("gs"),
            tr,
            tr_base: tss_base(gdtr.base, tr),
            gdtr_base: gdtr.base,
            idtr_base: idtr.base,
        }
    }

    /// The base of the TSS that selector `tr` names in the table at `gdt` (SDM vol. 3, 8.2.3 "TSS Descriptor in 64-bit Mode").
    fn tss_base(gdt: u64, tr: u16) -> u64 {
        let descriptor = core::ptr::with_exposed_provenance::<u64>(
            (gdt + u64::from(super::host_selector(tr))) as usize,
        );
        // SAFETY: the processor took TR from the descriptor's 16 bytes in this very table, which stays as long as it is in use.
        let [low, high] = unsafe {
            [
                descriptor.read_unaligned(),
                descriptor.add(1).read_unaligned(),
            ]
        };
        low >> 16 & 0xff_ffff | (low >> 56 & 0xff) << 24 | high << 32
    }
}

#[cfg(not(target_os = "none"))]
mod imp {
    use super::HostState;

    pub(crate) fn host_state() -> HostState {
        HostState {
            cs: 0x13,
            tr: 0x40,
            ..HostState::default()
        }
    }
}

#[cfg(test)]
mod tests;
