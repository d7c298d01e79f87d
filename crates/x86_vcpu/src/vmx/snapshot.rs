//! Takes the [`GuestSnapshot`] of a vCPU whose entry was refused. The VMCS is current.

use axvcpu::AxVCpuHal;

use super::{
    controls::entry,
    entry_check::GuestSnapshot,
    exit_info::VmxInterruptInfo,
    fields::{VmcsControl32, VmcsGuest32, VmcsGuest64, VmcsGuestNW},
    vcpu::VmxVcpu,
};
use crate::{hardware, regs::SegmentName};

/// How many bits a physical address has (CPUID, leaf 0x8000_0008).
fn physical_bits() -> u32 {
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    match hardware::cpuid(ADDRESS_SIZES, 0).eax & 0xff {
        0 => 36,
        bits => bits.min(52),
    }
}

impl<H: AxVCpuHal> VmxVcpu<H> {
    pub(super) fn snapshot(&self) -> GuestSnapshot {
        let (guest, capabilities) = (self.guest(), self.capabilities());
        let natural = |field: VmcsGuestNW| guest.read(field);
        let word = |field: VmcsGuest32| guest.read(field);
        let long = |field: VmcsGuest64| guest.read(field);
        GuestSnapshot {
            cr0_fixed: capabilities.cr0,
            cr4_fixed: capabilities.cr4,
            physical_bits: physical_bits(),
            ia32e: VmcsControl32::EntryControls.read() & entry::IA32E_MODE_GUEST != 0,
            injected: VmxInterruptInfo::decode(VmcsControl32::EntryInterruptInfo.read(), || {
                VmcsControl32::EntryExceptionErrorCode.read()
            }),
            cr0: natural(VmcsGuestNW::Cr0),
            cr3: natural(VmcsGuestNW::Cr3),
            cr4: natural(VmcsGuestNW::Cr4),
            efer: long(VmcsGuest64::Efer),
            pat: long(VmcsGuest64::Pat),
            dr7: natural(VmcsGuestNW::Dr7),
            debugctl: long(VmcsGuest64::DebugCtl),
            sysenter_esp: natural(VmcsGuestNW::SysenterEsp),
            sysenter_eip: natural(VmcsGuestNW::SysenterEip),
            rip: natural(VmcsGuestNW::Rip),
            rflags: natural(VmcsGuestNW::Rflags),
            segments: [
                SegmentName::Es,
                SegmentName::Cs,
                SegmentName::Ss,
                SegmentName::Ds,
                SegmentName::Fs,
                SegmentName::Gs,
                SegmentName::Ldtr,
                SegmentName::Tr,
            ]
            .map(|name| guest.raw_segment(name)),
            gdtr: (natural(VmcsGuestNW::GdtrBase), word(VmcsGuest32::GdtrLimit)),
            idtr: (natural(VmcsGuestNW::IdtrBase), word(VmcsGuest32::IdtrLimit)),
            activity: word(VmcsGuest32::ActivityState),
            interruptibility: word(VmcsGuest32::Interruptibility),
            pending_debug: natural(VmcsGuestNW::PendingDebugExceptions),
            link_pointer: long(VmcsGuest64::LinkPointer),
            pdptes: [
                VmcsGuest64::Pdpte0,
                VmcsGuest64::Pdpte1,
                VmcsGuest64::Pdpte2,
                VmcsGuest64::Pdpte3,
            ]
            .map(long),
        }
    }
}
