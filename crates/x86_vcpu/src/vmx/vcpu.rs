//! A vCPU's VMCS, and all that the shared part asks of it.

use axaddrspace::{HostPhysAddr, VmidAssignment};
use axdevice::HandOver;
use axerrno::{AxResult, ax_err, ax_err_type};
use axvcpu::{AxVCpuHal, FailReason, RawExit};

use super::{
    caps::{InvvpidType, VmxCapabilities},
    controls::{entry, secondary},
    exit,
    exit_info::{VmxExitInfo, VmxExitKind},
    fields::{
        VmcsControl16, VmcsControl32, VmcsControl64, VmcsControlNW, VmcsGuest32, VmcsGuest64,
        VmcsGuestNW, VmcsHostNW, VmcsReadOnly32, VmcsReadOnly64,
    },
    guest_state::{GuestState, Home, Interruptibility, PDPTES},
    msr_bitmap,
    percpu::{self, VmxRegion},
    preemption_timer::PreemptionTimer,
    primary::PrimaryControls,
    registers::{GUESTS_CR0, GUESTS_CR4},
    switch::{self, Entry, HostRsp},
    virtual_apic::VirtualApic,
    vmcs::{self, Forget, VmFail},
};
use crate::{
    backend::{
        Alarm, ExitInfo, Frequent, IoExit, NestedFault, Vendor, VendorConfig, VendorVcpu, Window,
    },
    cr::efer,
    event::{InterruptInfo, vector},
    hardware, msr,
    regs::{
        DescriptorTable, GuestRegisters, Register, Segment, SegmentName, SegmentRights, TableName,
    },
};

/// Write-back tables of four levels (SDM vol. 3, table 25-9).
const EPTP_FORMAT: u64 = 6 | 3 << 3;

/// A vCPU on Intel's VMX.
pub struct VmxVcpu<H: AxVCpuHal> {
    pub(super) capabilities: VmxCapabilities,
    vmcs: VmxRegion<H::MmHal>,
    msr_bitmap: VmxRegion<H::MmHal>,
    pub(super) guest: GuestState,
    /// False until the first VMLAUNCH after a VMCLEAR: then VMRESUME enters.
    launched: bool,
    /// Whether the VMCS has been cleared once and holds the controls.
    prepared: bool,
    /// The pCPU whose state the VMCS brings back at exits.
    host_of: Option<usize>,
    host_rsp: HostRsp,

    pub(super) primary: PrimaryControls,
    pub(super) timer: PreemptionTimer,
    apic: VirtualApic,
    pub(super) cr0_shadow: u64,
    pub(super) cr4_shadow: u64,
    eptp: u64,
    /// Whether another nested table was in force before: nothing cached of it must survive.
    nested_stale: bool,
    vpid: u16,

    /// What no VMCS holds, while the vCPU is not loaded.
    pub(super) switched: [u64; msr::SWITCHED.len()],
    pub(super) cr2: u64,
    pub(super) dr6: u64,
}

impl<H: AxVCpuHal> VmxVcpu<H> {
    /// Writes the controls, once in a VMCS's life.
    fn prepare(&mut self) {
        let VmxCapabilities {
            pin,
            secondary,
            exit,
            ..
        } = self.capabilities;
        VmcsControl32::PinBased.write(pin);
        self.primary.write();
        self.apic.prepare();
        VmcsControl32::ExitControls.write(exit);
        VmcsControl32::ExceptionBitmap.write(vector::INTERCEPTED);
        for unused in [
            VmcsControl32::PageFaultErrorMask,
            VmcsControl32::PageFaultErrorMatch,
            VmcsControl32::Cr3TargetCount,
            VmcsControl32::ExitMsrStoreCount,
            VmcsControl32::ExitMsrLoadCount,
            VmcsControl32::EntryMsrLoadCount,
        ] {
            unused.write(0);
        }
        VmcsControl64::MsrBitmap.write(self.msr_bitmap.start().as_u64());
        if secondary & secondary::ENABLE_XSAVES != 0 {
            // The guest's IA32_XSS is zero: there is nothing to intercept.
            VmcsControl64::XssExitingBitmap.write(0);
        }
        if secondary & secondary::ENCLS_EXITING != 0 {
            VmcsControl64::EnclsExitingBitmap.write(u64::MAX);
        }
        VmcsControlNW::Cr0Mask.write(!GUESTS_CR0);
        VmcsControlNW::Cr4Mask.write(!GUESTS_CR4);
        VmcsHostNW::Rip.write(switch::exit_address());
        self.prepared = true;
    }

    /// The VMCS is current: what memory holds goes to the hardware.
    fn bring_back(&mut self) {
        self.guest.load();
        self.apic.load();
        VmcsControlNW::Cr0ReadShadow.write(self.cr0_shadow);
        VmcsControlNW::Cr4ReadShadow.write(self.cr4_shadow);
        self.write_entry_controls();
        for (number, value) in msr::SWITCHED.into_iter().zip(self.switched) {
            hardware::write_msr(number, value);
        }
        hardware::write_cr2(self.cr2);
        hardware::write_dr6(self.dr6);
    }

    /// The first entry since VMCLEAR.
    #[cold]
    #[inline(never)]
    fn launch(&mut self, registers: &mut GuestRegisters) -> Result<(), VmFail> {
        switch::enter(registers, &mut self.host_rsp, Entry::Launch)?;
        self.launched = true;
        Ok(())
    }

    pub(super) const fn is_loaded(&self) -> bool {
        matches!(self.guest.home(), Home::Vmcs)
    }

    /// IA-32e mode is a control of the entry, which exits keep up to date themselves.
    pub(super) fn write_entry_controls(&self) {
        let ia32e = if self.guest.read(VmcsGuest64::Efer) & efer::LMA != 0 {
            entry::IA32E_MODE_GUEST
        } else {
            0
        };
        VmcsControl32::EntryControls.write(self.capabilities.entry | ia32e);
    }
}

impl<H: AxVCpuHal> VendorVcpu for VmxVcpu<H> {
    const VENDOR: Vendor = Vendor::Vmx;

    type Refused = VmFail;

    fn new(config: VendorConfig) -> AxResult<Self> {
        let capabilities = percpu::capabilities()?;
        let apic = VirtualApic::new(&capabilities, &config).ok_or_else(|| {
            ax_err_type!(Unsupported, "the CPU cannot keep so much of a local APIC")
        })?;
        let vmcs = VmxRegion::with_revision(capabilities.revision)?;
        let mut msr_bitmap = VmxRegion::zeroed()?;
        msr::permissions::fill(msr_bitmap.bytes_mut(), msr_bitmap::bits);
        let mut vcpu = Self {
            primary: PrimaryControls::new(apic.primary(capabilities.primary), config.hlt),
            timer: PreemptionTimer::new(
                capabilities.pin,
                capabilities.timer_shift,
                config.longest_turn,
            ),
            apic,
            capabilities,
            vmcs,
            msr_bitmap,
            guest: GuestState::new(),
            launched: false,
            prepared: false,
            host_of: None,
            host_rsp: HostRsp::default(),
            cr0_shadow: 0,
            cr4_shadow: 0,
            eptp: EPTP_FORMAT,
            nested_stale: false,
            vpid: 0,
            switched: [0; msr::SWITCHED.len()],
            cr2: 0,
            dr6: 0,
        };
        vcpu.set_cr0(0);
        vcpu.set_cr4(0);
        Ok(vcpu)
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) {
        self.eptp = root.as_u64() | EPTP_FORMAT;
        if self.is_loaded() {
            VmcsControl64::Eptp.write(self.eptp);
            percpu::forget(Forget::Nested);
        } else {
            self.nested_stale = true;
        }
    }

    fn reset(&mut self) {
        self.guest.write(VmcsGuest32::ActivityState, 0);
        self.guest.set_interruptibility(Interruptibility::empty());
        self.guest.write(VmcsGuestNW::PendingDebugExceptions, 0);
        self.guest.write(VmcsGuest64::DebugCtl, 0);
    }

    fn load(&mut self, tag: VmidAssignment) -> AxResult {
        let region = self.vmcs.start();
        let cleared = if self.prepared {
            Ok(())
        } else {
            vmcs::clear(region)
        };
        if let Err(failure) = cleared.and_then(|()| vmcs::load(region)) {
            log::error!("a VMCS could not be loaded: {failure}");
            return ax_err!(BadState, "a VMCS could not be loaded");
        }
        if !self.prepared {
            self.prepare();
        }
        let pcpu = H::this_pcpu();
        if self.host_of != Some(pcpu) {
            percpu::host_state().write();
            self.host_of = Some(pcpu);
        }
        self.bring_back();
        // An entry that failed in a former life may have left its event.
        VmcsControl32::EntryInterruptInfo.write(0);
        VmcsControl64::Eptp.write(self.eptp);
        self.retag(tag);
        if self.nested_stale {
            percpu::forget(Forget::Nested);
            self.nested_stale = false;
        }
        Ok(())
    }

    fn save(&mut self) {
        if !self.is_loaded() {
            return;
        }
        for (number, value) in msr::SWITCHED.into_iter().zip(&mut self.switched) {
            *value = hardware::read_msr(number);
        }
        self.cr2 = hardware::read_cr2();
        self.dr6 = hardware::read_dr6();
        self.apic.save();
        self.guest.save();
    }

    fn reload(&mut self) {
        if !self.is_loaded() {
            self.bring_back();
        }
    }

    fn put(&mut self) {
        self.save();
        if let Err(failure) = vmcs::clear(self.vmcs.start()) {
            // The next load tells whether the VMCS is of any use still.
            log::error!("VMCLEAR failed: {failure}");
        }
        self.launched = false;
    }

    fn set_tag(&mut self, tag: u16) {
        self.vpid = tag;
        if self.capabilities.invvpid.is_some() {
            VmcsControl16::Vpid.write(tag);
        }
    }

    /// With EPT in force all that is cached of guests is nested or combined, and INVEPT forgets both, whatever the VPID.
    fn flush_all(&mut self) {
        percpu::forget(Forget::Nested);
    }

    fn flush(&mut self) {
        match self.capabilities.invvpid {
            Some(InvvpidType::SingleContext) => percpu::forget(Forget::Vpid(self.vpid)),
            Some(InvvpidType::AllContexts) => percpu::forget(Forget::AllVpids),
            // Each entry forgets them.
            None => {}
        }
    }

    #[inline]
    fn enter(&mut self, registers: &mut GuestRegisters, now: u64) -> Result<(), VmFail> {
        self.primary.update();
        self.timer.update(now);
        if self.launched {
            return switch::enter(registers, &mut self.host_rsp, Entry::Resume);
        }
        self.launch(registers)
    }

    fn why_refused(&self, refused: VmFail) -> FailReason {
        self.failure(refused)
    }

    #[inline]
    fn frequent(&self) -> Frequent {
        exit::frequent(VmcsReadOnly32::ExitReason.read())
    }

    fn exit(&mut self) -> ExitInfo {
        self.settled_exit(VmcsReadOnly32::ExitReason.read())
    }

    #[inline]
    fn length(&self) -> Option<u8> {
        Some(exit::instruction_length())
    }

    #[inline]
    fn io(&self) -> IoExit {
        exit::io()
    }

    #[inline]
    fn io_length(&self) -> u8 {
        exit::instruction_length()
    }

    #[inline]
    fn nested(&self) -> Option<NestedFault> {
        exit::plain_nested()
    }

    #[inline]
    fn local_write(&self) -> u16 {
        exit::page_offset()
    }

    fn raw_exit(&self) -> RawExit {
        RawExit {
            reason: u64::from(VmcsReadOnly32::ExitReason.read()),
            info1: exit::qualification(),
            info2: VmcsReadOnly64::GuestPhysicalAddress.read(),
            pc: self.get(Register::Rip),
        }
    }

    fn exit_name(&self, reason: u64) -> &'static str {
        match VmxExitInfo::decode(reason as u32).kind {
            VmxExitKind::Exit(reason) | VmxExitKind::EntryFailure(reason) => reason.words(),
            VmxExitKind::Unknown => "a reason that the manual does not have",
        }
    }

    #[inline]
    fn get(&self, register: Register) -> u64 {
        self.register(register)
    }

    #[inline]
    fn set(&mut self, register: Register, value: u64) {
        self.set_register(register, value);
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.guest.segment(name)
    }

    #[inline]
    fn segment_base(&self, name: SegmentName) -> u64 {
        self.guest.segment_base(name)
    }

    #[inline]
    fn segment_rights(&self, name: SegmentName) -> SegmentRights {
        self.guest.segment_rights(name)
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        self.guest.set_segment(name, segment);
    }

    fn table(&self, name: TableName) -> DescriptorTable {
        self.guest.table(name)
    }

    fn set_table(&mut self, name: TableName, table: DescriptorTable) {
        self.guest.set_table(name, table);
    }

    fn set_deadline(&mut self, deadline: u64) -> Alarm {
        self.timer.set(deadline)
    }

    fn begin_turn(&mut self) {
        self.timer.begin_turn();
    }

    fn set_pdptes(&mut self, entries: [u64; 4]) {
        for (field, entry) in PDPTES.into_iter().zip(entries) {
            self.guest.write(field, entry);
        }
    }

    fn inject_info(&mut self, info: InterruptInfo) {
        if let Some(code) = info.error_code {
            VmcsControl32::EntryExceptionErrorCode.write(code);
        }
        VmcsControl32::EntryInterruptInfo.write(info.encode());
    }

    /// SS has it, in real and in virtual-8086 mode too (SDM vol. 3, 25.4.1).
    fn privilege(&self) -> u8 {
        (self.guest.read(VmcsGuest32::SsAccess) >> 5 & 0b11) as u8
    }

    #[inline]
    fn is_shadowed(&self) -> bool {
        let blocking = self.guest.interruptibility();
        blocking.intersects(Interruptibility::SHADOW)
    }

    fn blocks_nmis(&self) -> bool {
        let blocking = self.guest.interruptibility();
        blocking.intersects(Interruptibility::SHADOW | Interruptibility::NMI)
    }

    fn await_open(&mut self, window: Window) {
        self.primary.await_open(window);
    }

    fn ignore(&mut self, window: Window) {
        self.primary.ignore(window);
    }

    fn take_over(&mut self, news: HandOver) {
        if self.apic.take_over(news, self.guest.home()).is_some() {
            msr_bitmap::set_x2apic(self.msr_bitmap.bytes_mut(), self.apic.msrs());
        }
    }

    fn hold_back(&mut self, class: u8) {
        self.apic.set_threshold(class);
    }

    /// It has exited, so all of it is in the VMCS.
    #[inline]
    fn complete(&mut self, length: u8) -> u64 {
        let rip = VmcsGuestNW::Rip.read().wrapping_add(length.into());
        VmcsGuestNW::Rip.write(rip);
        let blocking = Interruptibility::from_bits_retain(VmcsGuest32::Interruptibility.read());
        if blocking.intersects(Interruptibility::SHADOW) {
            let open = blocking.difference(Interruptibility::SHADOW);
            VmcsGuest32::Interruptibility.write(open.bits());
        }
        VmcsGuestNW::Rflags.read()
    }

    #[inline]
    fn end_shadow(&mut self) {
        let blocking = self.guest.interruptibility();
        if blocking.intersects(Interruptibility::SHADOW) {
            self.guest
                .set_interruptibility(blocking.difference(Interruptibility::SHADOW));
        }
    }
}

#[cfg(test)]
mod tests;
