//! SVM's part of a vCPU: a VMCB, and what is remembered beside it.

use core::convert::Infallible;

use axaddrspace::{HostPhysAddr, VmidAssignment};
use axerrno::{AxResult, ax_err};
use axvcpu::{AxVCpuHal, FailReason, RawExit};

use super::{
    decode::{RawSvmExit, decode, decode_io, decode_nested, encode_event, length_to},
    entry, exit_code,
    percpu::{EFER_SVME, SvmFeatures},
    refusal::refusal,
    registers::group,
    vmcb::{Clean, Intercepts, Intercepts2, SaveArea, TlbControl, VirtualInterrupt, VmcbPages},
};
use crate::{
    HltPolicy,
    backend::{
        Exit, ExitInfo, Frequent, IoExit, NestedFault, Vendor, VendorConfig, VendorVcpu, Window,
    },
    event::{Event, InterruptInfo, InterruptKind, vector},
    hardware,
    regs::{
        DescriptorTable, GuestRegisters, Register, Segment, SegmentName, TableName, dr6, gpr,
        rflags,
    },
};

/// What always exits: what is the host's, what the guest has not, and what is answered for it.
const INTERCEPTS: Intercepts = Intercepts::INTR
    .union(Intercepts::NMI)
    .union(Intercepts::SMI)
    .union(Intercepts::INIT)
    .union(Intercepts::RDPMC)
    .union(Intercepts::CPUID)
    .union(Intercepts::INVD)
    .union(Intercepts::INVLPGA)
    .union(Intercepts::IO)
    .union(Intercepts::MSR)
    .union(Intercepts::TASK_SWITCH)
    .union(Intercepts::FERR_FREEZE)
    .union(Intercepts::SHUTDOWN);

const INTERCEPTS2: Intercepts2 = Intercepts2::all();

/// Bit 0 of the word at offset 0x068 of the VMCB.
const SHADOW: u64 = 1;

/// Where the guest stands with its NMIs (APM 2, "NMI Intercept", without virtual NMIs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NmiState {
    /// One can be injected.
    Open,
    /// One is being handled; its IRET exits.
    Handling,
    /// That IRET is being run, one step.
    Returning,
}

/// SVM's part of a vCPU.
pub struct SvmVcpu<H: AxVCpuHal> {
    pages: VmcbPages<H::MmHal>,
    features: SvmFeatures,
    /// What this processor keeps of a VMCB from an exit to the next entry: nothing, where it knows no clean bits. What changes in between is taken
    /// out of the VMCB's own word.
    cacheable: Clean,
    nmi: NmiState,
}

impl<H: AxVCpuHal> SvmVcpu<H> {
    #[inline(always)]
    fn save_area(&self) -> &SaveArea {
        &self.pages.vmcb().save
    }

    /// For a change of what `group` covers.
    #[inline(always)]
    fn change(&mut self, group: Clean) -> &mut super::vmcb::Vmcb {
        let vmcb = self.pages.vmcb_mut();
        vmcb.control.clean.remove(group);
        vmcb
    }

    fn intercept(&mut self, what: Intercepts, wanted: bool) {
        let control = &mut self.change(Clean::INTERCEPTS).control;
        control.intercepts.set(what, wanted);
    }

    fn read_raw(&self) -> RawSvmExit {
        let vmcb = self.pages.vmcb();
        RawSvmExit {
            code: vmcb.control.exit_code(),
            info1: vmcb.control.exit_info1,
            info2: vmcb.control.exit_info2,
            interrupted: vmcb.control.exit_interrupt_info,
            rip: vmcb.save.rip,
            next_rip: self
                .features
                .contains(SvmFeatures::NEXT_RIP)
                .then_some(vmcb.control.next_rip),
            decode_assists: self.features.contains(SvmFeatures::DECODE_ASSISTS),
        }
    }

    /// The handler's IRET: NMIs are open again once it has run, which one step tells.
    fn step_over_iret(&mut self) {
        self.nmi = NmiState::Returning;
        self.intercept(Intercepts::IRET, false);
        self.pages.vmcb_mut().save.rflags |= rflags::TRAP;
    }

    /// The step is done. The flags are those that IRET popped.
    fn end_step(&mut self) {
        self.nmi = NmiState::Open;
        self.change(Clean::DEBUG_REGISTERS).save.dr6 &= !dr6::SINGLE_STEP;
    }
}

impl<H: AxVCpuHal> VendorVcpu for SvmVcpu<H> {
    const VENDOR: Vendor = Vendor::Svm;

    /// VMRUN refuses by an exit.
    type Refused = Infallible;

    fn new(config: VendorConfig) -> AxResult<Self> {
        let VendorConfig { hlt, local, .. } = config;
        if local.is_some() {
            return ax_err!(Unsupported, "SVM keeps no local APIC");
        }
        let mut pages = VmcbPages::new()?;
        let control = &mut pages.vmcb_mut().control;
        control.intercept_exceptions = vector::INTERCEPTED;
        control.intercepts = INTERCEPTS;
        match hlt {
            HltPolicy::Exit => control.intercepts.insert(Intercepts::HLT),
            HltPolicy::Untrapped => {}
        }
        control.intercepts2 = INTERCEPTS2;
        // CR8 is the local APIC's; reads are answered with V_TPR. Writes of the others are rare, a processor may have features that no guest is
        // shown, and an emulated one takes values that it then refuses at VMRUN.
        control.intercept_cr_writes = 1 << 8 | 1 << 4 | 1 << 0;
        control.virtual_interrupt = VirtualInterrupt::MASKING;
        control.nested_paging = 1;
        let features = SvmFeatures::detect();
        Ok(Self {
            pages,
            features,
            cacheable: if features.contains(SvmFeatures::CLEAN_BITS) {
                Clean::all()
            } else {
                Clean::empty()
            },
            nmi: NmiState::Open,
        })
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) {
        self.change(Clean::NESTED_PAGING).control.nested_cr3 = root.as_u64();
    }

    fn reset(&mut self) {
        self.nmi = NmiState::Open;
        let control = &mut self.pages.vmcb_mut().control;
        control.clean = Clean::empty();
        control.intercepts.remove(Intercepts::IRET);
        control.event_injection = 0;
        control.interrupt_shadow = 0;
        self.flush();
    }

    fn load(&mut self, tag: VmidAssignment) -> AxResult {
        self.pages.vmcb_mut().control.clean = Clean::empty();
        entry::save_host(&mut self.pages);
        self.retag(tag);
        Ok(())
    }

    // The state is in the VMCB whenever the guest is not running.
    fn save(&mut self) {}

    fn put(&mut self) {}

    fn set_tag(&mut self, tag: u16) {
        self.change(Clean::ASID).control.asid = tag.into();
    }

    fn flush_all(&mut self) {
        self.pages.vmcb_mut().control.tlb_control = TlbControl::ALL;
    }

    fn flush(&mut self) {
        let wanted = if self.features.contains(SvmFeatures::FLUSH_BY_ASID) {
            TlbControl::GUEST
        } else {
            TlbControl::ALL
        };
        let control = &mut self.pages.vmcb_mut().control;
        if control.tlb_control == TlbControl::NOTHING {
            control.tlb_control = wanted;
        }
    }

    #[inline]
    fn enter(&mut self, registers: &mut GuestRegisters, _now: u64) -> Result<(), Infallible> {
        let vmcb = self.pages.vmcb_mut();
        vmcb.save.rax = registers.gpr[gpr::RAX];
        entry::run(registers, &mut self.pages);
        let vmcb = self.pages.vmcb_mut();
        registers.gpr[gpr::RAX] = vmcb.save.rax;
        vmcb.control.event_injection = 0;
        vmcb.control.tlb_control = TlbControl::NOTHING;
        vmcb.control.clean = self.cacheable;
        Ok(())
    }

    fn why_refused(&self, refused: Infallible) -> FailReason {
        match refused {}
    }

    #[inline]
    fn frequent(&self) -> Frequent {
        let control = &self.pages.vmcb().control;
        if InterruptInfo::is_valid(control.exit_interrupt_info as u32) {
            return Frequent::Other;
        }
        // Of the frequent the most frequent: before the table of all.
        if control.is_io() {
            return Frequent::Port;
        }
        match control.exit_code() {
            exit_code::CPUID => Frequent::Cpuid,
            exit_code::INTR => Frequent::HostInterrupt,
            exit_code::MSR if control.exit_info1 & 1 == 0 => Frequent::MsrRead,
            exit_code::MSR => Frequent::MsrWrite,
            exit_code::VMMCALL => Frequent::Hypercall,
            exit_code::NESTED_PAGE_FAULT => Frequent::Nested,
            _ => Frequent::Other,
        }
    }

    #[inline]
    fn length(&self) -> Option<u8> {
        let vmcb = self.pages.vmcb();
        let next = self
            .features
            .contains(SvmFeatures::NEXT_RIP)
            .then_some(vmcb.control.next_rip)?;
        length_to(vmcb.save.rip, next)
    }

    #[inline]
    fn io(&self) -> IoExit {
        decode_io(self.pages.vmcb().control.exit_info1)
    }

    #[inline]
    fn io_length(&self) -> u8 {
        let vmcb = self.pages.vmcb();
        vmcb.control.exit_info2.wrapping_sub(vmcb.save.rip) as u8
    }

    /// The next RIP is always there.
    #[inline]
    fn complete_io(&mut self) -> u64 {
        let vmcb = self.pages.vmcb_mut();
        vmcb.save.rip = vmcb.control.exit_info2;
        vmcb.control.interrupt_shadow &= !SHADOW;
        vmcb.save.rflags
    }

    #[inline]
    fn nested(&self) -> Option<NestedFault> {
        let control = &self.pages.vmcb().control;
        Some(decode_nested(control.exit_info1, control.exit_info2))
    }

    #[inline]
    fn exit(&mut self) -> ExitInfo {
        let mut info = decode(&self.read_raw());
        match info.exit {
            Exit::Refused(_) => {
                info.exit = Exit::Refused(refusal(self.pages.vmcb(), &self.state()));
            }
            Exit::InterruptWindow => self.ignore(Window::Interrupt),
            // Not yet: after the IRET.
            Exit::NmiWindow => {
                self.step_over_iret();
                info.exit = Exit::HostNmi;
            }
            // It is the host's, and no later instruction shows it again (APM vol. 2, 15.12 "Exception Intercepts").
            Exit::Exception {
                vector: vector::MACHINE_CHECK,
                ..
            } => {
                hardware::host_event(vector::MACHINE_CHECK);
                info.exit = Exit::HostNmi;
            }
            Exit::Exception {
                vector: vector::DEBUG,
                ..
            } if self.nmi == NmiState::Returning => {
                self.end_step();
                info.exit = Exit::NmiWindow;
            }
            _ => {}
        }
        if info.interrupted == Some(Event::Nmi) {
            // It was not delivered, so no IRET will come for it.
            self.nmi = NmiState::Open;
            self.intercept(Intercepts::IRET, false);
        }
        info
    }

    fn raw_exit(&self) -> RawExit {
        let raw = self.read_raw();
        RawExit {
            reason: raw.code,
            info1: raw.info1,
            info2: raw.info2,
            pc: raw.rip,
        }
    }

    fn exit_name(&self, reason: u64) -> &'static str {
        exit_code::name(reason)
    }

    fn fetched_bytes(&self) -> &[u8] {
        if !self.features.contains(SvmFeatures::DECODE_ASSISTS) {
            return &[];
        }
        let control = &self.pages.vmcb().control;
        control
            .fetched_bytes
            .get(..control.fetched_count.into())
            .unwrap_or(&[])
    }

    #[inline]
    fn get(&self, register: Register) -> u64 {
        let value = self.save_area().register(register);
        if register == Register::Efer {
            value & !EFER_SVME
        } else {
            value
        }
    }

    #[inline]
    fn set(&mut self, register: Register, value: u64) {
        let always = if register == Register::Efer {
            EFER_SVME
        } else {
            0
        };
        let save = &mut self.change(group(register)).save;
        save.set_register(register, value | always);
    }

    fn segment(&self, name: SegmentName) -> Segment {
        self.save_area().segment(name).get()
    }

    #[inline]
    fn segment_base(&self, name: SegmentName) -> u64 {
        self.save_area().segment(name).base
    }

    fn set_segment(&mut self, name: SegmentName, segment: Segment) {
        let save = &mut self.change(Clean::SEGMENTS).save;
        if name == SegmentName::Ss {
            save.cpl = segment.rights.dpl();
        }
        save.segment_mut(name).set(segment);
    }

    fn privilege(&self) -> u8 {
        self.save_area().cpl
    }

    fn table(&self, name: TableName) -> DescriptorTable {
        let place = self.save_area().table(name);
        DescriptorTable {
            base: place.base,
            limit: place.limit as u16,
        }
    }

    fn set_table(&mut self, name: TableName, table: DescriptorTable) {
        let save = &mut self.change(Clean::DESCRIPTOR_TABLES).save;
        let place = save.table_mut(name);
        (place.base, place.limit) = (table.base, table.limit.into());
    }

    fn inject_info(&mut self, info: InterruptInfo) {
        self.pages.vmcb_mut().control.event_injection = encode_event(info);
        if info.kind == InterruptKind::Nmi {
            self.nmi = NmiState::Handling;
            self.intercept(Intercepts::IRET, true);
        }
    }

    #[inline]
    fn is_shadowed(&self) -> bool {
        self.pages.vmcb().control.interrupt_shadow & SHADOW != 0
    }

    /// The shadow is short, and nothing exits at its end; an NMI within is harmless to the host.
    fn blocks_nmis(&self) -> bool {
        self.nmi != NmiState::Open
    }

    fn await_open(&mut self, window: Window) {
        match window {
            Window::Interrupt => {
                let control = &mut self.change(Clean::VIRTUAL_INTERRUPT).control;
                control.virtual_interrupt = control.virtual_interrupt.with_pending();
                self.intercept(Intercepts::VINTR, true);
            }
            // The handler's IRET exits anyway.
            Window::Nmi => {}
        }
    }

    fn ignore(&mut self, window: Window) {
        match window {
            Window::Interrupt => {
                let control = &mut self.change(Clean::VIRTUAL_INTERRUPT).control;
                control.virtual_interrupt = control.virtual_interrupt.without_pending();
                self.intercept(Intercepts::VINTR, false);
            }
            Window::Nmi => {}
        }
    }

    #[inline]
    fn set_task_priority(&mut self, class: u8) {
        let now = self.pages.vmcb().control.virtual_interrupt;
        if now.task_priority() != class {
            let control = &mut self.change(Clean::VIRTUAL_INTERRUPT).control;
            control.virtual_interrupt = now.with_task_priority(class);
        }
    }

    #[inline]
    fn end_shadow(&mut self) {
        self.pages.vmcb_mut().control.interrupt_shadow &= !SHADOW;
    }
}

#[cfg(test)]
mod tests;
