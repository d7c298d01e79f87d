//! A vCPU's VMCS, and all that the shared part asks of it.

use axaddrspace::{HostPhysAddr, VmidAssignment};
use axerrno::{AxResult, ax_err, ax_err_type};
use axvcpu::{AxVCpuHal, FailReason, RawExit};

use super::{
    caps::{InvvpidType, VmxCapabilities},
    controls::{entry, primary, secondary},
    exit,
    exit_info::{InterruptKind, VmxExitInfo, VmxExitKind, VmxInterruptInfo, undid_nmi_blocking},
    exit_reason::VmxExitReason,
    fields::{
        VmcsControl16, VmcsControl32, VmcsControl64, VmcsControlNW, VmcsGuest32, VmcsGuest64,
        VmcsGuestNW, VmcsHostNW, VmcsReadOnly32, VmcsReadOnly64,
    },
    guest_state::{GuestState, Home, Interruptibility},
    msr_bitmap,
    percpu::{self, VmxRegion},
    switch::{self, Entry, HostRsp},
    vmcs::{self, Forget},
};
use crate::{
    backend::{Exit, ExitInfo, VendorVcpu, Window},
    config::HltPolicy,
    event::{Event, Exception, vector},
    hardware, msr,
    regs::{DescriptorTable, GuestRegisters, Register, Segment, SegmentName, TableName, rflags},
};

/// What exits of the guest's exceptions: those whose delivery can repeat itself for ever without an instruction in between, so that no
/// interrupt would ever take the guest out; and machine checks, which are the host's.
const EXCEPTIONS: u32 =
    1 << vector::DEBUG | 1 << vector::ALIGNMENT_CHECK | 1 << vector::MACHINE_CHECK;

/// Bits of CR0 and CR4, as far as it matters who owns them.
mod bits {
    pub(super) const CR0_PE: u64 = 1 << 0;
    const CR0_MP: u64 = 1 << 1;
    const CR0_EM: u64 = 1 << 2;
    const CR0_TS: u64 = 1 << 3;
    const CR0_WP: u64 = 1 << 16;
    const CR0_AM: u64 = 1 << 18;
    pub(super) const CR0_NW: u64 = 1 << 29;
    pub(super) const CR0_CD: u64 = 1 << 30;
    pub(super) const CR0_PG: u64 = 1 << 31;
    /// These the guest changes without an exit: the processor does, and checks, all that follows.
    pub(super) const CR0_GUESTS: u64 = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM | CR0_PG;

    const CR4_VME: u64 = 1 << 0;
    const CR4_PVI: u64 = 1 << 1;
    const CR4_TSD: u64 = 1 << 2;
    const CR4_DE: u64 = 1 << 3;
    const CR4_PSE: u64 = 1 << 4;
    const CR4_PAE: u64 = 1 << 5;
    /// A machine check while this is clear would shut the processor down.
    pub(super) const CR4_MCE: u64 = 1 << 6;
    const CR4_PGE: u64 = 1 << 7;
    const CR4_PCE: u64 = 1 << 8;
    const CR4_OSFXSR: u64 = 1 << 9;
    const CR4_OSXMMEXCPT: u64 = 1 << 10;
    /// The same for CR4. Whatever CPUID may hide or shows is the host's, so that its write exits and is checked.
    pub(super) const CR4_GUESTS: u64 = CR4_VME
        | CR4_PVI
        | CR4_TSD
        | CR4_DE
        | CR4_PSE
        | CR4_PAE
        | CR4_PGE
        | CR4_PCE
        | CR4_OSFXSR
        | CR4_OSXMMEXCPT;

    pub(super) const EFER_LMA: u64 = 1 << 10;
    pub(super) const DR7_GD: u64 = 1 << 13;
    /// B0 to B3, which say which breakpoint was met.
    pub(super) const DR6_BREAKPOINTS: u64 = 0xf;
    /// Those and what else a debug exception's qualification has in DR6's place: BD and BS.
    pub(super) const DR6_EVENTS: u64 = DR6_BREAKPOINTS | 1 << 13 | 1 << 14;
}

/// Write-back tables of four levels (SDM vol. 3, table 25-9).
const EPTP_FORMAT: u64 = 6 | 3 << 3;

/// A vCPU on Intel's VMX.
pub struct VmxVcpu<H: AxVCpuHal> {
    capabilities: VmxCapabilities,
    vmcs: VmxRegion<H::MmHal>,
    msr_bitmap: VmxRegion<H::MmHal>,
    guest: GuestState,
    /// False until the first VMLAUNCH after a VMCLEAR: then VMRESUME enters.
    launched: bool,
    /// Whether the VMCS has been cleared once and holds the controls.
    prepared: bool,
    /// The pCPU whose state the VMCS brings back at exits.
    host_of: Option<usize>,
    host_rsp: HostRsp,

    /// The primary controls as the VMCS holds them, and as they are to be.
    primary_written: u32,
    primary: u32,
    cr0_shadow: u64,
    cr4_shadow: u64,
    eptp: u64,
    /// Whether another nested table was in force before: nothing cached of it must survive.
    nested_stale: bool,
    vpid: u16,
    injected: Option<VmxInterruptInfo>,

    /// What no VMCS holds, while the vCPU is not loaded.
    switched: [u64; msr::SWITCHED.len()],
    cr2: u64,
    dr6: u64,
    last_exit: RawExit,
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
        VmcsControl32::PrimaryProcBased.write(self.primary);
        self.primary_written = self.primary;
        VmcsControl32::SecondaryProcBased.write(secondary);
        VmcsControl32::ExitControls.write(exit);
        VmcsControl32::ExceptionBitmap.write(EXCEPTIONS);
        for unused in [
            VmcsControl32::PageFaultErrorMask,
            VmcsControl32::PageFaultErrorMatch,
            VmcsControl32::Cr3TargetCount,
            VmcsControl32::ExitMsrStoreCount,
            VmcsControl32::ExitMsrLoadCount,
            VmcsControl32::EntryMsrLoadCount,
            VmcsControl32::EntryInterruptInfo,
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
        VmcsControlNW::Cr0Mask.write(!bits::CR0_GUESTS);
        VmcsControlNW::Cr4Mask.write(!bits::CR4_GUESTS);
        VmcsHostNW::Rip.write(switch::exit_address());
        self.prepared = true;
    }

    const fn is_loaded(&self) -> bool {
        matches!(self.guest.home(), Home::Vmcs)
    }

    /// IA-32e mode is a control of the entry, which exits keep up to date themselves.
    fn write_entry_controls(&self) {
        let ia32e = if self.guest.read(VmcsGuest64::Efer) & bits::EFER_LMA != 0 {
            entry::IA32E_MODE_GUEST
        } else {
            0
        };
        VmcsControl32::EntryControls.write(self.capabilities.entry | ia32e);
    }

    /// CR0 as the processor must hold it where the guest sees `value`. Caches stay on: EPT says what is cached.
    fn hardware_cr0(&self, value: u64) -> u64 {
        let free = bits::CR0_PE | bits::CR0_PG;
        (value | self.capabilities.cr0.must_be_set & !free) & !(bits::CR0_CD | bits::CR0_NW)
    }

    fn hardware_cr4(&self, value: u64) -> u64 {
        value | self.capabilities.cr4.must_be_set | bits::CR4_MCE
    }

    fn set_cr0(&mut self, value: u64) {
        self.cr0_shadow = value;
        self.guest.write(VmcsGuestNW::Cr0, self.hardware_cr0(value));
        if self.is_loaded() {
            VmcsControlNW::Cr0ReadShadow.write(value);
        }
    }

    fn set_cr4(&mut self, value: u64) {
        self.cr4_shadow = value;
        self.guest.write(VmcsGuestNW::Cr4, self.hardware_cr4(value));
        if self.is_loaded() {
            VmcsControlNW::Cr4ReadShadow.write(value);
        }
    }

    fn set_efer(&mut self, value: u64) {
        self.guest.write(VmcsGuest64::Efer, value);
        if self.is_loaded() {
            self.write_entry_controls();
        }
    }

    /// The register that [`msr::SWITCHED`] has at `place`.
    fn switched(&self, place: usize) -> u64 {
        if self.is_loaded() {
            hardware::read_msr(msr::SWITCHED[place])
        } else {
            self.switched[place]
        }
    }

    fn set_switched(&mut self, place: usize, value: u64) {
        self.switched[place] = value;
        if self.is_loaded() {
            hardware::write_msr(msr::SWITCHED[place], value);
        }
    }

    /// Why the processor refused the guest, in words.
    fn refusal(&self, reason: VmxExitReason) -> &'static str {
        if reason != VmxExitReason::InvalidGuestState {
            return reason.words();
        }
        match self.snapshot().check() {
            Err(rule) => rule,
            Ok(()) => match exit::qualification() {
                2 => "the PDPTEs could not be loaded",
                3 => "an NMI was injected where it cannot be",
                4 => "the VMCS link pointer is not valid",
                _ => "the guest's state breaks a rule that is not among those checked here",
            },
        }
    }

    /// Takes note of what the exit left behind besides its reason.
    fn settle(&mut self, reason: VmxExitReason, exit: Exit, interrupted: Option<Event>) {
        match exit {
            Exit::InterruptWindow => self.primary &= !primary::INTERRUPT_WINDOW_EXITING,
            Exit::NmiWindow => self.primary &= !primary::NMI_WINDOW_EXITING,
            Exit::Exception {
                vector: vector::DEBUG,
                ..
            } => self.take_debug_event(),
            Exit::HostNmi => {
                if let Some(number) = exit::for_the_host(reason) {
                    percpu::host_event(number);
                }
            }
            _ => {}
        }
        if interrupted == Some(Event::Nmi) {
            // Its delivery had begun, and begins again (SDM vol. 3, 33.7.1.2 "Resuming Guest Software after Handling an Exception").
            let blocking = self.guest.interruptibility();
            self.guest
                .set_interruptibility(blocking.difference(Interruptibility::NMI));
        } else if interrupted.is_none()
            && matches!(exit, Exit::Exception { .. } | Exit::Nested(_))
            && undid_nmi_blocking(
                reason,
                exit::qualification(),
                VmcsReadOnly32::ExitInterruptInfo.read(),
                VmcsReadOnly32::IdtVectoringInfo.read(),
            )
        {
            let blocking = self.guest.interruptibility();
            self.guest
                .set_interruptibility(blocking.union(Interruptibility::NMI));
        }
    }

    /// A debug exception that exits has not changed DR6 and DR7 (SDM vol. 3, 28.1): the guest is to find them changed.
    fn take_debug_event(&mut self) {
        let events = exit::qualification() & bits::DR6_EVENTS;
        percpu::write_dr6(percpu::read_dr6() & !bits::DR6_BREAKPOINTS | events);
        let dr7 = self.guest.read(VmcsGuestNW::Dr7);
        self.guest.write(VmcsGuestNW::Dr7, dr7 & !bits::DR7_GD);
    }

    fn forget_guest_translations(&self) {
        match self.capabilities.invvpid {
            Some(InvvpidType::SingleContext) => percpu::forget(Forget::Vpid(self.vpid)),
            Some(InvvpidType::AllContexts) => percpu::forget(Forget::AllVpids),
            // Each entry forgets them.
            None => {}
        }
    }

    const fn window_bit(window: Window) -> u32 {
        match window {
            Window::Interrupt => primary::INTERRUPT_WINDOW_EXITING,
            Window::Nmi => primary::NMI_WINDOW_EXITING,
        }
    }

    pub(super) const fn guest(&self) -> &GuestState {
        &self.guest
    }

    pub(super) const fn capabilities(&self) -> &VmxCapabilities {
        &self.capabilities
    }
}

/// The place of a register in [`msr::SWITCHED`].
const fn place(number: u32) -> usize {
    let mut place = 0;
    while msr::SWITCHED[place] != number {
        place += 1;
    }
    place
}

/// Where the shared part's name for a register leads.
enum Place {
    Guest(VmcsGuestNW),
    Switched(usize),
}

const fn natural_place(register: Register) -> Option<Place> {
    use msr::number::{CSTAR, KERNEL_GS_BASE, LSTAR, SFMASK, STAR};
    Some(match register {
        Register::Rip => Place::Guest(VmcsGuestNW::Rip),
        Register::Rsp => Place::Guest(VmcsGuestNW::Rsp),
        Register::Rflags => Place::Guest(VmcsGuestNW::Rflags),
        Register::Cr3 => Place::Guest(VmcsGuestNW::Cr3),
        Register::Dr7 => Place::Guest(VmcsGuestNW::Dr7),
        Register::SysenterEsp => Place::Guest(VmcsGuestNW::SysenterEsp),
        Register::SysenterEip => Place::Guest(VmcsGuestNW::SysenterEip),
        Register::Star => Place::Switched(const { place(STAR) }),
        Register::Lstar => Place::Switched(const { place(LSTAR) }),
        Register::Cstar => Place::Switched(const { place(CSTAR) }),
        Register::Sfmask => Place::Switched(const { place(SFMASK) }),
        Register::KernelGsBase => Place::Switched(const { place(KERNEL_GS_BASE) }),
        Register::Cr0
        | Register::Cr2
        | Register::Cr4
        | Register::Efer
        | Register::Pat
        | Register::Dr6
        | Register::SysenterCs => return None,
    })
}

impl<H: AxVCpuHal> VendorVcpu for VmxVcpu<H> {
    fn new(hlt: HltPolicy) -> AxResult<Self> {
        let mut capabilities = percpu::capabilities()?;
        match hlt {
            HltPolicy::Exit => {}
            HltPolicy::Untrapped => capabilities.primary &= !primary::HLT_EXITING,
        }
        let no_memory = || ax_err_type!(NoMemory, "no memory for a VMCS");
        let vmcs = VmxRegion::with_revision(capabilities.revision).ok_or_else(no_memory)?;
        let mut msr_bitmap = VmxRegion::zeroed().ok_or_else(no_memory)?;
        msr_bitmap::fill(msr_bitmap.bytes_mut(), &msr::PASS_THROUGH);
        let mut vcpu = Self {
            primary: capabilities.primary,
            primary_written: capabilities.primary,
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
            injected: None,
            switched: [0; msr::SWITCHED.len()],
            cr2: 0,
            dr6: 0,
            last_exit: RawExit {
                reason: 0,
                info1: 0,
                info2: 0,
                pc: 0,
            },
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
        self.injected = None;
        self.ignore(Window::Interrupt);
        self.ignore(Window::Nmi);
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
        self.guest.load();
        VmcsControlNW::Cr0ReadShadow.write(self.cr0_shadow);
        VmcsControlNW::Cr4ReadShadow.write(self.cr4_shadow);
        VmcsControl64::Eptp.write(self.eptp);
        self.write_entry_controls();
        for (number, value) in msr::SWITCHED.into_iter().zip(self.switched) {
            hardware::write_msr(number, value);
        }
        percpu::write_cr2(self.cr2);
        percpu::write_dr6(self.dr6);
        self.retag(tag);
        if self.nested_stale {
            percpu::forget(Forget::Nested);
            self.nested_stale = false;
        }
        Ok(())
    }

    fn put(&mut self) {
        self.last_exit = self.raw_exit();
        self.guest.save();
        for (number, value) in msr::SWITCHED.into_iter().zip(&mut self.switched) {
            *value = hardware::read_msr(number);
        }
        self.cr2 = percpu::read_cr2();
        self.dr6 = percpu::read_dr6();
        if let Err(failure) = vmcs::clear(self.vmcs.start()) {
            // The next load tells whether the VMCS is of any use still.
            log::error!("VMCLEAR failed: {failure}");
        }
        self.launched = false;
    }

    fn retag(&mut self, tag: VmidAssignment) {
        self.vpid = tag.vmid();
        if self.capabilities.invvpid.is_some() {
            VmcsControl16::Vpid.write(self.vpid);
        }
        match tag {
            VmidAssignment::Kept(_) | VmidAssignment::Fresh(_) => {}
            // With EPT in force all that is cached of guests is nested or combined, and INVEPT forgets both, whatever the VPID.
            VmidAssignment::FlushAll(_) => percpu::forget(Forget::Nested),
        }
    }

    fn flush(&mut self) {
        self.forget_guest_translations();
    }

    #[inline]
    fn enter(&mut self, registers: &mut GuestRegisters) -> Result<(), FailReason> {
        if let Some(event) = self.injected.take() {
            if let Some(code) = event.error_code {
                VmcsControl32::EntryExceptionErrorCode.write(code);
            }
            VmcsControl32::EntryInterruptInfo.write(event.encode());
        }
        if self.primary != self.primary_written {
            VmcsControl32::PrimaryProcBased.write(self.primary);
            self.primary_written = self.primary;
        }
        let entry = if self.launched {
            Entry::Resume
        } else {
            Entry::Launch
        };
        match switch::enter(registers, &mut self.host_rsp, entry) {
            Ok(()) => {
                self.launched = true;
                Ok(())
            }
            Err(failure) => Err(FailReason {
                what: failure.words(),
                raw: RawExit {
                    reason: u64::from(failure.number()),
                    info1: 0,
                    info2: 0,
                    pc: self.get(Register::Rip),
                },
            }),
        }
    }

    #[inline]
    fn exit(&mut self) -> ExitInfo {
        let info = VmxExitInfo::decode(VmcsReadOnly32::ExitReason.read());
        let reason = match info.kind {
            VmxExitKind::Exit(reason) => reason,
            VmxExitKind::EntryFailure(reason) => {
                // A failed VMLAUNCH leaves the VMCS clear, and a failed VMRESUME was of a launched one; which it was no longer matters
                // to a guest that is refused, and VMCLEAR comes before its next life.
                return ExitInfo {
                    exit: Exit::Refused(self.refusal(reason)),
                    length: None,
                    interrupted: None,
                };
            }
            VmxExitKind::Unknown => {
                return ExitInfo {
                    exit: Exit::Unknown,
                    length: None,
                    interrupted: exit::interrupted(),
                };
            }
        };
        let exit = exit::decode(reason);
        let interrupted = exit::interrupted();
        self.settle(reason, exit, interrupted);
        ExitInfo {
            exit,
            length: exit::length(exit),
            interrupted,
        }
    }

    fn raw_exit(&self) -> RawExit {
        if !self.is_loaded() {
            return self.last_exit;
        }
        RawExit {
            reason: u64::from(VmcsReadOnly32::ExitReason.read()),
            info1: exit::qualification(),
            info2: VmcsReadOnly64::GuestPhysicalAddress.read(),
            pc: self.get(Register::Rip),
        }
    }

    fn exit_name(&self) -> &'static str {
        match VmxExitInfo::decode(self.raw_exit().reason as u32).kind {
            VmxExitKind::Exit(reason) | VmxExitKind::EntryFailure(reason) => reason.words(),
            VmxExitKind::Unknown => "a reason that the manual does not have",
        }
    }

    #[inline]
    fn get(&self, register: Register) -> u64 {
        match register {
            Register::Cr0 => {
                let own = self.guest.read(VmcsGuestNW::Cr0) & bits::CR0_GUESTS;
                own | self.cr0_shadow & !bits::CR0_GUESTS
            }
            Register::Cr4 => {
                let own = self.guest.read(VmcsGuestNW::Cr4) & bits::CR4_GUESTS;
                own | self.cr4_shadow & !bits::CR4_GUESTS
            }
            Register::Cr2 if self.is_loaded() => percpu::read_cr2(),
            Register::Cr2 => self.cr2,
            Register::Dr6 if self.is_loaded() => percpu::read_dr6(),
            Register::Dr6 => self.dr6,
            Register::Efer => self.guest.read(VmcsGuest64::Efer),
            Register::Pat => self.guest.read(VmcsGuest64::Pat),
            Register::SysenterCs => u64::from(self.guest.read(VmcsGuest32::SysenterCs)),
            _ => match natural_place(register) {
                Some(Place::Guest(field)) => self.guest.read(field),
                Some(Place::Switched(place)) => self.switched(place),
                None => 0,
            },
        }
    }

    #[inline]
    fn set(&mut self, register: Register, value: u64) {
        match register {
            Register::Cr0 => self.set_cr0(value),
            Register::Cr4 => self.set_cr4(value),
            Register::Cr2 => {
                self.cr2 = value;
                if self.is_loaded() {
                    percpu::write_cr2(value);
                }
            }
            Register::Dr6 => {
                self.dr6 = value;
                if self.is_loaded() {
                    percpu::write_dr6(value);
                }
            }
            Register::Efer => self.set_efer(value),
            Register::Pat => self.guest.write(VmcsGuest64::Pat, value),
            Register::SysenterCs => self.guest.write(VmcsGuest32::SysenterCs, value as u32),
            _ => match natural_place(register) {
                Some(Place::Guest(field)) => self.guest.write(field, value),
                Some(Place::Switched(place)) => self.set_switched(place, value),
                None => {}
            },
        }
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.guest.segment(name)
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

    fn set_pdptes(&mut self, entries: [u64; 4]) {
        let fields = [
            VmcsGuest64::Pdpte0,
            VmcsGuest64::Pdpte1,
            VmcsGuest64::Pdpte2,
            VmcsGuest64::Pdpte3,
        ];
        for (field, entry) in fields.into_iter().zip(entries) {
            self.guest.write(field, entry);
        }
    }

    fn inject(&mut self, event: Event) {
        let (kind, vector, error_code) = match event {
            Event::Exception(Exception { vector, error_code }) => {
                // Real mode pushes no error codes, and the entry refuses to (SDM vol. 3, 27.2.1.3).
                let protected = self.get(Register::Cr0) & bits::CR0_PE != 0;
                let code = error_code.filter(|_| protected);
                (InterruptKind::HardwareException, vector, code)
            }
            Event::Nmi => (InterruptKind::Nmi, vector::NMI, None),
            Event::Interrupt(vector) => (InterruptKind::External, vector, None),
            // The instruction runs again and brings the event itself.
            Event::Software => return,
        };
        self.injected = Some(VmxInterruptInfo {
            vector,
            kind,
            error_code,
        });
    }

    /// SS has it, in real and in virtual-8086 mode too (SDM vol. 3, 25.4.1).
    fn privilege(&self) -> u8 {
        (self.guest.read(VmcsGuest32::SsAccess) >> 5 & 0b11) as u8
    }

    #[inline]
    fn is_open(&self, window: Window) -> bool {
        let blocking = self.guest.interruptibility();
        match window {
            Window::Interrupt => {
                !blocking.intersects(Interruptibility::SHADOW)
                    && self.guest.read(VmcsGuestNW::Rflags) & rflags::INTERRUPT != 0
            }
            Window::Nmi => !blocking.intersects(Interruptibility::SHADOW | Interruptibility::NMI),
        }
    }

    fn await_open(&mut self, window: Window) {
        self.primary |= Self::window_bit(window);
    }

    fn ignore(&mut self, window: Window) {
        self.primary &= !Self::window_bit(window);
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
