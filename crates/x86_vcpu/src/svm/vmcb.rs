//! The virtual machine control block, and the pages around it (AMD APM 2, appendix B, "Layout of VMCB").

use core::{
    fmt,
    mem::{offset_of, size_of},
};

use axaddrspace::{AxMmHal, HostPhysAddr};
use axerrno::AxResult;

use super::exit_code;
use crate::{
    msr::permissions::{self, PermissionBits},
    pages::{AnyBytes, HardwarePages},
};

/// A VMCB.
#[repr(C, align(4096))]
pub(super) struct Vmcb {
    pub(super) control: ControlArea,
    pub(super) save: SaveArea,
    reserved: [u8; 0x1000 - 0x400 - size_of::<SaveArea>()],
}

/// What the hypervisor tells the hardware, and what it answers.
#[repr(C)]
pub(super) struct ControlArea {
    pub(super) intercept_cr_reads: u16,
    pub(super) intercept_cr_writes: u16,
    pub(super) intercept_dr_reads: u16,
    pub(super) intercept_dr_writes: u16,
    pub(super) intercept_exceptions: u32,
    pub(super) intercepts: Intercepts,
    pub(super) intercepts2: Intercepts2,
    pub(super) intercepts3: u32,
    reserved_018: [u8; 0x3c - 0x18],
    pub(super) pause_filter_threshold: u16,
    pub(super) pause_filter_count: u16,
    pub(super) iopm_base: u64,
    pub(super) msrpm_base: u64,
    pub(super) tsc_offset: u64,
    pub(super) asid: u32,
    pub(super) tlb_control: TlbControl,
    pub(super) virtual_interrupt: VirtualInterrupt,
    pub(super) interrupt_shadow: u64,
    pub(super) exit_code: u64,
    pub(super) exit_info1: u64,
    pub(super) exit_info2: u64,
    pub(super) exit_interrupt_info: u64,
    pub(super) nested_paging: u64,
    reserved_098: [u8; 0xa8 - 0x98],
    pub(super) event_injection: u64,
    pub(super) nested_cr3: u64,
    pub(super) lbr_virtualization: u64,
    pub(super) clean: Clean,
    reserved_0c4: u32,
    pub(super) next_rip: u64,
    pub(super) fetched_count: u8,
    pub(super) fetched_bytes: [u8; 15],
    reserved_0e0: [u8; 0x400 - 0xe0],
}

impl ControlArea {
    /// Why the guest was left. The codes that are negative come with 32 bits of sign only from some emulators.
    #[inline(always)]
    pub(super) const fn exit_code(&self) -> u64 {
        self.exit_code as i32 as i64 as u64
    }

    /// Whether it was for IN or OUT.
    #[inline(always)]
    pub(super) const fn is_io(&self) -> bool {
        self.exit_code as u32 == exit_code::IO as u32
    }
}

/// A segment or descriptor-table register in the VMCB.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VmcbSegment {
    pub(super) selector: u16,
    /// The descriptor's bits 40 to 47 and 52 to 55, without those of the limit between them.
    pub(super) attributes: u16,
    pub(super) limit: u32,
    pub(super) base: u64,
}

/// The guest's registers.
#[repr(C)]
pub(super) struct SaveArea {
    pub(super) es: VmcbSegment,
    pub(super) cs: VmcbSegment,
    pub(super) ss: VmcbSegment,
    pub(super) ds: VmcbSegment,
    pub(super) fs: VmcbSegment,
    pub(super) gs: VmcbSegment,
    pub(super) gdtr: VmcbSegment,
    pub(super) ldtr: VmcbSegment,
    pub(super) idtr: VmcbSegment,
    pub(super) tr: VmcbSegment,
    reserved_0a0: [u8; 0xcb - 0xa0],
    pub(super) cpl: u8,
    reserved_0cc: u32,
    pub(super) efer: u64,
    reserved_0d8: [u8; 0x148 - 0xd8],
    pub(super) cr4: u64,
    pub(super) cr3: u64,
    pub(super) cr0: u64,
    pub(super) dr7: u64,
    pub(super) dr6: u64,
    pub(super) rflags: u64,
    pub(super) rip: u64,
    reserved_180: [u8; 0x1d8 - 0x180],
    pub(super) rsp: u64,
    pub(super) s_cet: u64,
    pub(super) ssp: u64,
    pub(super) isst: u64,
    pub(super) rax: u64,
    pub(super) star: u64,
    pub(super) lstar: u64,
    pub(super) cstar: u64,
    pub(super) sfmask: u64,
    pub(super) kernel_gs_base: u64,
    pub(super) sysenter_cs: u64,
    pub(super) sysenter_esp: u64,
    pub(super) sysenter_eip: u64,
    pub(super) cr2: u64,
    reserved_248: [u8; 0x268 - 0x248],
    pub(super) g_pat: u64,
    pub(super) dbgctl: u64,
    pub(super) br_from: u64,
    pub(super) br_to: u64,
    pub(super) last_exception_from: u64,
    pub(super) last_exception_to: u64,
}

/// Asserts where the manual has each field.
macro_rules! at {
    ($area:ty, $($field:ident = $offset:literal,)*) => {
        $(const _: () = assert!(offset_of!($area, $field) == $offset);)*
    };
}

at! { ControlArea,
    intercept_cr_reads = 0x000, intercept_cr_writes = 0x002, intercept_dr_reads = 0x004, intercept_dr_writes = 0x006,
    intercept_exceptions = 0x008, intercepts = 0x00c, intercepts2 = 0x010, intercepts3 = 0x014,
    pause_filter_threshold = 0x03c, pause_filter_count = 0x03e, iopm_base = 0x040, msrpm_base = 0x048, tsc_offset = 0x050,
    asid = 0x058, tlb_control = 0x05c, virtual_interrupt = 0x060, interrupt_shadow = 0x068, exit_code = 0x070,
    exit_info1 = 0x078, exit_info2 = 0x080, exit_interrupt_info = 0x088, nested_paging = 0x090, event_injection = 0x0a8,
    nested_cr3 = 0x0b0, lbr_virtualization = 0x0b8, clean = 0x0c0, next_rip = 0x0c8, fetched_count = 0x0d0,
    fetched_bytes = 0x0d1,
}
at! { SaveArea,
    es = 0x000, cs = 0x010, ss = 0x020, ds = 0x030, fs = 0x040, gs = 0x050, gdtr = 0x060, ldtr = 0x070, idtr = 0x080, tr = 0x090,
    cpl = 0x0cb, efer = 0x0d0, cr4 = 0x148, cr3 = 0x150, cr0 = 0x158, dr7 = 0x160, dr6 = 0x168, rflags = 0x170, rip = 0x178,
    rsp = 0x1d8, s_cet = 0x1e0, rax = 0x1f8, star = 0x200, lstar = 0x208, cstar = 0x210, sfmask = 0x218, kernel_gs_base = 0x220,
    sysenter_cs = 0x228, sysenter_esp = 0x230, sysenter_eip = 0x238, cr2 = 0x240, g_pat = 0x268, dbgctl = 0x270,
    br_from = 0x278, last_exception_to = 0x290,
}
const _: () = assert!(size_of::<ControlArea>() == 0x400 && size_of::<Vmcb>() == 0x1000);
const _: () = assert!(offset_of!(Vmcb, save) == 0x400);

bitflags::bitflags! {
    /// The intercepts at offset 0x00c.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(transparent)]
    pub(super) struct Intercepts: u32 {
        const INTR = 1 << 0;
        const NMI = 1 << 1;
        const SMI = 1 << 2;
        const INIT = 1 << 3;
        const VINTR = 1 << 4;
        const RDPMC = 1 << 15;
        const CPUID = 1 << 18;
        const IRET = 1 << 20;
        const INVD = 1 << 22;
        const PAUSE = 1 << 23;
        const HLT = 1 << 24;
        const INVLPGA = 1 << 26;
        const IO = 1 << 27;
        const MSR = 1 << 28;
        const TASK_SWITCH = 1 << 29;
        const FERR_FREEZE = 1 << 30;
        const SHUTDOWN = 1 << 31;
    }
}

bitflags::bitflags! {
    /// The intercepts at offset 0x010.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(transparent)]
    pub(super) struct Intercepts2: u32 {
        const VMRUN = 1 << 0;
        const VMMCALL = 1 << 1;
        const VMLOAD = 1 << 2;
        const VMSAVE = 1 << 3;
        const STGI = 1 << 4;
        const CLGI = 1 << 5;
        const SKINIT = 1 << 6;
        const WBINVD = 1 << 9;
        const MONITOR = 1 << 10;
        const MWAIT = 1 << 11;
        const XSETBV = 1 << 13;
        const RDPRU = 1 << 14;
    }
}

bitflags::bitflags! {
    /// What the hardware may take for unchanged since it last left this VMCB (APM 2, "VMCB State Caching").
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(transparent)]
    pub(super) struct Clean: u32 {
        const INTERCEPTS = 1 << 0;
        const PERMISSION_MAPS = 1 << 1;
        const ASID = 1 << 2;
        const VIRTUAL_INTERRUPT = 1 << 3;
        const NESTED_PAGING = 1 << 4;
        const CONTROL_REGISTERS = 1 << 5;
        const DEBUG_REGISTERS = 1 << 6;
        const DESCRIPTOR_TABLES = 1 << 7;
        const SEGMENTS = 1 << 8;
        const CR2 = 1 << 9;
        const LBR = 1 << 10;
        /// Of what the hardware reads from memory each time.
        const NOT_CACHED = 0;
    }
}

/// What VMRUN flushes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TlbControl(pub(super) u32);

impl TlbControl {
    pub(super) const NOTHING: Self = Self(0);
    /// Every ASID.
    pub(super) const ALL: Self = Self(1);
    /// This guest's ASID. Only where CPUID shows flush-by-ASID.
    pub(super) const GUEST: Self = Self(3);
}

/// The virtual interrupt, and how the guest's interrupts and the host's are kept apart.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VirtualInterrupt(pub(super) u64);

impl VirtualInterrupt {
    /// RFLAGS.IF of the host masks physical interrupts, that of the guest the virtual one.
    pub(super) const MASKING: Self = Self(1 << 24);
    /// V_IRQ, at the highest priority, whatever the task priority.
    const PENDING: u64 = 1 << 8 | 0xf << 16 | 1 << 20;

    /// V_TPR, in four bits.
    const TASK_PRIORITY: u64 = 0xf;

    pub(super) const fn task_priority(self) -> u8 {
        (self.0 & Self::TASK_PRIORITY) as u8
    }

    pub(super) const fn with_task_priority(self, class: u8) -> Self {
        Self(self.0 & !Self::TASK_PRIORITY | class as u64 & Self::TASK_PRIORITY)
    }

    pub(super) const fn with_pending(self) -> Self {
        Self(self.0 | Self::PENDING)
    }

    pub(super) const fn without_pending(self) -> Self {
        Self(self.0 & !Self::PENDING)
    }
}

/// The pages that belong to a vCPU: for VMRUN, and for the host's VMSAVE.
#[repr(C, align(4096))]
struct Pages {
    vmcb: Vmcb,
    msr_permissions: [u8; 0x2000],
    host: [u8; 0x1000],
}

// SAFETY: integers, and structures and arrays of them.
unsafe impl AnyBytes for Pages {}

/// How far behind the VMCB the host's state is while the guest runs.
#[cfg(target_os = "none")]
pub(super) const HOST_OFFSET: usize = offset_of!(Pages, host) - offset_of!(Pages, vmcb);

/// A VMCB with its permission maps.
pub(super) struct VmcbPages<H: AxMmHal> {
    pages: HardwarePages<Pages, H>,
    ports: HardwarePages<[u8; 0x4000], H>,
}

impl<H: AxMmHal> VmcbPages<H> {
    /// All zero but for the permission maps.
    pub(super) fn new() -> AxResult<Self> {
        let mut new = Self {
            pages: HardwarePages::zeroed()?,
            ports: HardwarePages::zeroed()?,
        };
        let map = &mut new.pages.get_mut().msr_permissions;
        permissions::fill(map, msr_permission_bits);
        new.ports.get_mut().fill(u8::MAX);
        let (msrpm, iopm) = (
            new.at(offset_of!(Pages, msr_permissions)),
            new.ports.start(),
        );
        let control = &mut new.vmcb_mut().control;
        (control.msrpm_base, control.iopm_base) = (msrpm.as_u64(), iopm.as_u64());
        Ok(new)
    }

    /// The VMCB's own address.
    pub(super) fn vmcb_address(&self) -> HostPhysAddr {
        self.at(offset_of!(Pages, vmcb))
    }

    /// Where the host's state is while the guest runs.
    #[cfg(target_os = "none")]
    pub(super) fn host_address(&self) -> HostPhysAddr {
        self.at(offset_of!(Pages, host))
    }

    fn at(&self, offset: usize) -> HostPhysAddr {
        HostPhysAddr::new(self.pages.start().as_u64() + offset as u64)
    }

    #[inline(always)]
    pub(super) fn vmcb(&self) -> &Vmcb {
        &self.pages.get().vmcb
    }

    #[inline(always)]
    pub(super) fn vmcb_mut(&mut self) -> &mut Vmcb {
        &mut self.pages.get_mut().vmcb
    }
}

impl<H: AxMmHal> fmt::Debug for VmcbPages<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VMCB at {}", self.vmcb_address())
    }
}

/// Two bits an MSR, in three ranges of 0x2000 MSRs (APM 2, "MSR Intercepts").
const fn msr_permission_bits(number: u32) -> Option<PermissionBits> {
    let (range, first) = match number {
        0..0x2000 => (0, 0),
        0xc000_0000..0xc000_2000 => (1, 0xc000_0000),
        0xc001_0000..0xc001_2000 => (2, 0xc001_0000),
        _ => return None,
    };
    let read = (range * 0x2000 + (number - first) as usize) * 2;
    Some(PermissionBits {
        read,
        write: read + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msr;

    #[test]
    fn msr_permissions_let_the_guests_own_through_and_nothing_else() {
        let mut map = [0; 0x2000];
        permissions::fill(&mut map, msr_permission_bits);
        // SYSENTER_CS, _ESP and _EIP: bits 0x2e8 to 0x2ed.
        assert_eq!(map[0x174 / 4], 0b1100_0000);
        // EFER exits, STAR, LSTAR and CSTAR do not.
        assert_eq!(map[0x800 + 0x80 / 4], 0b0000_0011);
        // SFMASK.
        assert_eq!(map[0x800 + 0x84 / 4], 0b1111_1100);
        // FS, GS and kernel GS base.
        assert_eq!(map[0x800 + 0x100 / 4], 0b1100_0000);
        let open: u32 = map.iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(open as usize, 2 * msr::PASS_THROUGH.len());
    }
}
