//! SVM's part of a vCPU: a VMCB, and what is remembered beside it.

use axaddrspace::{HostPhysAddr, VmidAssignment};
use axerrno::{AxResult, ax_err};
use axvcpu::{AxVCpuHal, FailReason, RawExit};

use super::{
    decode::{RawSvmExit, decode, decode_io, decode_nested, encode_event, is_event, length_to},
    entry, exit_code,
    percpu::{EFER_SVME, SvmFeatures},
    refusal::refusal,
    vmcb::{Clean, Intercepts, Intercepts2, SaveArea, TlbControl, VirtualInterrupt, VmcbPages},
};
use crate::{
    HltPolicy,
    backend::{Exit, ExitInfo, Frequent, IoExit, NestedFault, VendorConfig, VendorVcpu, Window},
    event::{Event, vector},
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

/// A guest could keep the processor in the delivery of these two for ever; the third is about the machine.
const INTERCEPTED_EXCEPTIONS: u32 =
    1 << vector::DEBUG | 1 << vector::ALIGNMENT_CHECK | 1 << vector::MACHINE_CHECK;

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
    /// What has not changed since the last exit.
    clean: Clean,
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
        self.clean.remove(group);
        self.pages.vmcb_mut()
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
    fn new(config: VendorConfig) -> AxResult<Self> {
        let VendorConfig { hlt, local, .. } = config;
        if local.is_some() {
            return ax_err!(Unsupported, "SVM keeps no local APIC");
        }
        let mut pages = VmcbPages::new()?;
        let control = &mut pages.vmcb_mut().control;
        control.intercept_exceptions = INTERCEPTED_EXCEPTIONS;
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
        Ok(Self {
            pages,
            features: SvmFeatures::detect(),
            clean: Clean::empty(),
            nmi: NmiState::Open,
        })
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) {
        self.change(Clean::NESTED_PAGING).control.nested_cr3 = root.as_u64();
    }

    fn reset(&mut self) {
        self.clean = Clean::empty();
        self.nmi = NmiState::Open;
        let control = &mut self.pages.vmcb_mut().control;
        control.intercepts.remove(Intercepts::IRET);
        control.event_injection = 0;
        control.interrupt_shadow = 0;
        self.ignore(Window::Interrupt);
        self.flush();
    }

    fn load(&mut self, tag: VmidAssignment) -> AxResult {
        self.clean = Clean::empty();
        entry::save_host(&mut self.pages);
        self.retag(tag);
        Ok(())
    }

    // The state is in the VMCB whenever the guest is not running.
    fn save(&mut self) {}

    fn put(&mut self) {}

    fn retag(&mut self, tag: VmidAssignment) {
        let control = &mut self.change(Clean::ASID).control;
        control.asid = tag.vmid().into();
        match tag {
            VmidAssignment::Kept(_) | VmidAssignment::Fresh(_) => {}
            VmidAssignment::FlushAll(_) => control.tlb_control = TlbControl::ALL,
        }
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
    fn enter(&mut self, registers: &mut GuestRegisters) -> Result<(), FailReason> {
        let clean = if self.features.contains(SvmFeatures::CLEAN_BITS) {
            self.clean
        } else {
            Clean::empty()
        };
        let vmcb = self.pages.vmcb_mut();
        vmcb.control.clean = clean;
        vmcb.save.rax = registers.gpr[gpr::RAX];
        entry::run(registers, &mut self.pages);
        let vmcb = self.pages.vmcb_mut();
        registers.gpr[gpr::RAX] = vmcb.save.rax;
        vmcb.control.event_injection = 0;
        vmcb.control.tlb_control = TlbControl::NOTHING;
        self.clean = Clean::all();
        Ok(())
    }

    #[inline]
    fn frequent(&self) -> Frequent {
        let control = &self.pages.vmcb().control;
        if is_event(control.exit_interrupt_info) {
            return Frequent::Other;
        }
        match control.exit_code() {
            exit_code::CPUID => Frequent::Cpuid,
            exit_code::INTR => Frequent::HostInterrupt,
            exit_code::IO => Frequent::Port,
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
    fn io(&self) -> Option<(IoExit, Option<u8>)> {
        let vmcb = self.pages.vmcb();
        let io = decode_io(vmcb.control.exit_info1);
        Some((io, length_to(vmcb.save.rip, vmcb.control.exit_info2)))
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
                let vmcb = self.pages.vmcb();
                info.exit = Exit::Refused(refusal(vmcb.control.asid, &vmcb.save));
            }
            Exit::InterruptWindow => self.ignore(Window::Interrupt),
            // Not yet: after the IRET.
            Exit::NmiWindow => {
                self.step_over_iret();
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

    fn exit_name(&self) -> &'static str {
        exit_code::name(self.pages.vmcb().control.exit_code())
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
        let save = self.save_area();
        match register {
            Register::Rip => save.rip,
            Register::Rsp => save.rsp,
            Register::Rflags => save.rflags,
            Register::Cr0 => save.cr0,
            Register::Cr2 => save.cr2,
            Register::Cr3 => save.cr3,
            Register::Cr4 => save.cr4,
            Register::Efer => save.efer & !EFER_SVME,
            Register::Pat => save.g_pat,
            Register::Dr6 => save.dr6,
            Register::Dr7 => save.dr7,
            Register::SysenterCs => save.sysenter_cs,
            Register::SysenterEsp => save.sysenter_esp,
            Register::SysenterEip => save.sysenter_eip,
            Register::Star => save.star,
            Register::Lstar => save.lstar,
            Register::Cstar => save.cstar,
            Register::Sfmask => save.sfmask,
            Register::KernelGsBase => save.kernel_gs_base,
        }
    }

    #[inline]
    fn set(&mut self, register: Register, value: u64) {
        // Not cached, those without a group.
        let group = match register {
            Register::Cr0 | Register::Cr3 | Register::Cr4 | Register::Efer => {
                Clean::CONTROL_REGISTERS
            }
            Register::Cr2 => Clean::CR2,
            Register::Pat => Clean::NESTED_PAGING,
            Register::Dr6 | Register::Dr7 => Clean::DEBUG_REGISTERS,
            Register::Rip
            | Register::Rsp
            | Register::Rflags
            | Register::SysenterCs
            | Register::SysenterEsp
            | Register::SysenterEip
            | Register::Star
            | Register::Lstar
            | Register::Cstar
            | Register::Sfmask
            | Register::KernelGsBase => Clean::empty(),
        };
        let save = &mut self.change(group).save;
        match register {
            Register::Rip => save.rip = value,
            Register::Rsp => save.rsp = value,
            Register::Rflags => save.rflags = value,
            Register::Cr0 => save.cr0 = value,
            Register::Cr2 => save.cr2 = value,
            Register::Cr3 => save.cr3 = value,
            Register::Cr4 => save.cr4 = value,
            Register::Efer => save.efer = value | EFER_SVME,
            Register::Pat => save.g_pat = value,
            Register::Dr6 => save.dr6 = value,
            Register::Dr7 => save.dr7 = value,
            Register::SysenterCs => save.sysenter_cs = value,
            Register::SysenterEsp => save.sysenter_esp = value,
            Register::SysenterEip => save.sysenter_eip = value,
            Register::Star => save.star = value,
            Register::Lstar => save.lstar = value,
            Register::Cstar => save.cstar = value,
            Register::Sfmask => save.sfmask = value,
            Register::KernelGsBase => save.kernel_gs_base = value,
        }
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
        let save = self.save_area();
        let place = match name {
            TableName::Gdtr => &save.gdtr,
            TableName::Idtr => &save.idtr,
        };
        DescriptorTable {
            base: place.base,
            limit: place.limit as u16,
        }
    }

    fn set_table(&mut self, name: TableName, table: DescriptorTable) {
        let save = &mut self.change(Clean::DESCRIPTOR_TABLES).save;
        let place = match name {
            TableName::Gdtr => &mut save.gdtr,
            TableName::Idtr => &mut save.idtr,
        };
        (place.base, place.limit) = (table.base, table.limit.into());
    }

    fn set_pdptes(&mut self, _: [u64; 4]) {}

    fn inject(&mut self, event: Event) {
        self.pages.vmcb_mut().control.event_injection = encode_event(event);
        if event == Event::Nmi {
            self.nmi = NmiState::Handling;
            self.intercept(Intercepts::IRET, true);
        }
    }

    #[inline]
    fn is_open(&self, window: Window) -> bool {
        let vmcb = self.pages.vmcb();
        let shadowed = vmcb.control.interrupt_shadow & SHADOW != 0;
        match window {
            Window::Interrupt => !shadowed && vmcb.save.rflags & rflags::INTERRUPT != 0,
            // The shadow is short, and nothing exits at its end; an NMI within is harmless to the host.
            Window::Nmi => self.nmi == NmiState::Open,
        }
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
