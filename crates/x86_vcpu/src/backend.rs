//! The seam between the vCPU and the two vendors.
//!
//! [`VendorVcpu`] is what a vendor's part of a vCPU can do, [`VendorPerCpu`] what its part of a pCPU can do. All that a vendor says is in the plain types below,
//! so that nothing above knows which it is. The rules for both:
//! - Host interrupts are off from [`load`](VendorVcpu::load) to the end of the run; [`enter`](VendorVcpu::enter) comes back with them off, and with all that
//!   Rust code relies on (GS base, stack, TR …) the host's. A host interrupt that ends the guest's turn stays pending: it is served, by the host's own
//!   vector, as soon as the run is over. A host NMI that the exit consumed is given to the host's NMI vector by `enter` or `exit`.
//! - A register is read and written as *the guest* sees it: bits that the hardware wants set for itself (CR4.VMXE, CR0.NE, EFER.SVME) do not show.
//!   Between `load` and [`put`](VendorVcpu::put) the accessors go to the hardware's state (VMX: the current VMCS). Before the first `load` and after
//!   `put` they must work as well: reset state is written then (VMX keeps what is written in memory until `load`, or loads the VMCS for the moment).
//! - Guest registers that no VMCS or VMCB has are in [`GuestRegisters`]; of its `gpr`, RSP's place is not used.
//! - `DR0` to `DR3` are switched by the shared part at `load` and `put`; `CR2`, `DR6` and the MSRs in [`msr::SWITCHED`](crate::msr::SWITCHED) are the vendor's,
//!   at `load` and [`save`](VendorVcpu::save).
//! - [`frequent`](VendorVcpu::frequent) is the short way for the exits that count; [`exit`](VendorVcpu::exit) knows them all.
//! - [`exit`](VendorVcpu::exit) decodes: `VmxVcpu` and `SvmVcpu` first copy the hardware's words into a plain struct, and a pure function makes an
//!   [`ExitInfo`] of it, so that both decoders are tested on any machine.

mod exit;

use axaddrspace::{HostPhysAddr, LargestLeaf, VmidAssignment};
use axdevice::{HandOver, Keeps};
use axerrno::AxResult;
use axvcpu::{FailReason, RawExit};

use crate::{
    HltPolicy, LocalApicHardware, Unfit,
    cr::cr0,
    event::{Event, InterruptInfo},
    legal::GuestState,
    regs::{
        DescriptorTable, GuestRegisters, Register, Segment, SegmentName, SegmentRights, TableName,
        rflags,
    },
};

pub use exit::{ControlAccess, ControlRegister, Direction, IoExit, IoKind};
pub(crate) use exit::{
    Exit, ExitInfo, Frequent, IO_WIDTHS, Instruction, NestedFault, NestedPurpose,
};

/// Who made the processor's virtualization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel's VMX.
    Vmx,
    /// AMD's SVM.
    Svm,
}

/// What a vendor's part of a vCPU is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VendorConfig {
    /// Whether HLT exits.
    pub(crate) hlt: HltPolicy,
    /// After how many ticks of the host's counter without an exit there is to be one, if the hardware has a timer for that.
    pub(crate) longest_turn: u64,
    /// What of the local APIC the hardware keeps, and where; it can.
    pub(crate) local: Option<(LocalApicHardware, HostPhysAddr)>,
}

/// What the guest may be waiting for before it is given something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// RFLAGS.IF is set and no instruction shadows.
    Interrupt,
    /// No NMI is being handled, and no instruction shadows.
    Nmi,
}

/// Who ends the guest's turn when its timers are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The processor's virtualization, by [`Exit::Deadline`].
    Hardware,
    /// The host, by an interrupt of its own timer.
    Host,
}

/// A vendor's part of a vCPU. See the module's head for what all methods may assume.
pub(crate) trait VendorVcpu: Sized {
    /// Whose it is.
    const VENDOR: Vendor;

    /// What the hardware says where it would not enter a guest.
    type Refused;

    /// With all controls set, registers at zero: the shared part writes the reset state next.
    fn new(config: VendorConfig) -> AxResult<Self>;

    /// The root of the nested page table. What was cached of another is no good any more.
    fn set_nested_root(&mut self, root: HostPhysAddr);

    /// Forgets what was injected, opened and interrupted: the registers are being reset.
    fn reset(&mut self);

    /// The vCPU's state goes into this pCPU's hardware, which holds no other. `tag`: its ASID or VPID, and what must be flushed before it is used.
    fn load(&mut self, tag: VmidAssignment) -> AxResult;

    /// Memory is brought up to date with the hardware, which goes on holding the vCPU: another vCPU may be loaded here next, without `put`. Then this one
    /// is loaded again before it runs, on this pCPU.
    fn save(&mut self);

    /// The hardware's state is the truth again, after `save` and with no other vCPU loaded since.
    fn reload(&mut self) {}

    /// The vCPU's state leaves the hardware for memory (VMX: VMCLEAR), so that any pCPU can load it. `save` has been called since it last ran;
    /// another vCPU may have been loaded here since.
    fn put(&mut self);

    /// Another tag for the loaded vCPU, or the same after a flush: nested tables changed.
    fn retag(&mut self, tag: VmidAssignment) {
        self.set_tag(tag.vmid());
        match tag {
            VmidAssignment::Kept(_) | VmidAssignment::Fresh(_) => {}
            VmidAssignment::FlushAll(_) => self.flush_all(),
        }
    }

    /// What is cached of the loaded vCPU is known by this tag from now on.
    fn set_tag(&mut self, tag: u16);

    /// What this pCPU has cached of any guest is forgotten before the loaded vCPU runs on.
    fn flush_all(&mut self);

    /// The guest's own translations, of this vCPU, are forgotten before it runs on.
    fn flush(&mut self);

    /// Runs the guest until it exits. It is `now` by the host's counter. `Err`: the hardware would not enter it.
    fn enter(&mut self, registers: &mut GuestRegisters, now: u64) -> Result<(), Self::Refused>;

    /// In words, right after that.
    fn why_refused(&self, refused: Self::Refused) -> FailReason;

    /// Which of the frequent exits the last one was.
    #[inline]
    fn frequent(&self) -> Frequent {
        Frequent::Other
    }

    /// What the last exit was. Called once after each `enter` for which [`frequent`](Self::frequent) says `Other`.
    fn exit(&mut self) -> ExitInfo;

    /// How long the instruction of a frequent exit is, where the hardware says so.
    #[inline]
    fn length(&self) -> Option<u8> {
        None
    }

    /// The access of an exit that is one to a port.
    fn io(&self) -> IoExit;

    /// How long its instruction is.
    fn io_length(&self) -> u8;

    /// Its instruction was completed for the guest, as [`complete`](Self::complete) has it.
    #[inline]
    fn complete_io(&mut self) -> u64 {
        self.complete(self.io_length())
    }

    /// The access of a frequent exit that the nested table does not allow.
    #[inline]
    fn nested(&self) -> Option<NestedFault> {
        None
    }

    /// Where in the page the guest has written, of a frequent exit for that.
    #[inline]
    fn local_write(&self) -> u16 {
        0
    }

    /// The last exit's words, for the record. The vCPU is in the hardware still.
    fn raw_exit(&self) -> RawExit;

    /// The manual's name for the exit that these words' `reason` tells of.
    fn exit_name(&self, reason: u64) -> &'static str;

    /// The bytes at RIP that the hardware fetched for the last exit (SVM: decode assists); empty where it does not.
    fn fetched_bytes(&self) -> &[u8] {
        &[]
    }

    /// A register.
    fn get(&self, register: Register) -> u64;

    /// Changes a register. Nothing is checked.
    fn set(&mut self, register: Register, value: u64);

    /// A segment register.
    fn segment(&self, name: SegmentName) -> Segment;

    /// A segment's base.
    #[inline]
    fn segment_base(&self, name: SegmentName) -> u64 {
        self.segment(name).base
    }

    /// A segment's access rights.
    #[inline]
    fn segment_rights(&self, name: SegmentName) -> SegmentRights {
        self.segment(name).rights
    }

    /// Changes a segment register.
    fn set_segment(&mut self, name: SegmentName, segment: Segment);

    /// The current privilege level.
    fn privilege(&self) -> u8;

    /// All for which there are rules.
    #[cold]
    #[inline(never)]
    fn state(&self) -> GuestState {
        GuestState::of(self)
    }

    /// GDTR or IDTR.
    fn table(&self, name: TableName) -> DescriptorTable;

    /// Changes GDTR or IDTR.
    fn set_table(&mut self, name: TableName, table: DescriptorTable);

    /// The four entries that a CR3 of PAE paging leads to, after a control register's write brought or changed that paging. Hardware that reads them
    /// itself ignores this.
    fn set_pdptes(&mut self, entries: [u64; 4]) {
        let _ = entries;
    }

    /// The guest suffers `event` at the next entry, which follows. The vCPU is in the hardware.
    #[inline]
    fn inject(&mut self, event: Event) {
        let is_protected = || self.get(Register::Cr0) & cr0::PE != 0;
        if let Some(info) = InterruptInfo::of(event, is_protected) {
            self.inject_info(info);
        }
    }

    /// The same, in the hardware's words.
    fn inject_info(&mut self, info: InterruptInfo);

    /// Whether the next instruction is shadowed by STI or MOV SS.
    fn is_shadowed(&self) -> bool;

    /// Whether the guest takes no NMI now.
    fn blocks_nmis(&self) -> bool;

    /// Whether `window` is open now.
    #[inline]
    fn is_open(&self, window: Window) -> bool {
        match window {
            Window::Interrupt => {
                !self.is_shadowed() && self.get(Register::Rflags) & rflags::INTERRUPT != 0
            }
            Window::Nmi => !self.blocks_nmis(),
        }
    }

    /// Asks for an exit as soon as `window` is open, until that exit or until [`ignore`](Self::ignore).
    fn await_open(&mut self, window: Window);

    /// Takes [`await_open`](Self::await_open) back.
    fn ignore(&mut self, window: Window);

    /// Has the guest exit when the host's counter shows `deadline`; `u64::MAX`: not again. By a timer that runs with the guest, if there is one.
    fn set_deadline(&mut self, deadline: u64) -> Alarm {
        let _ = deadline;
        Alarm::Host
    }

    /// The vCPU has come to a pCPU: nothing is asked of its timer, and its turn begins.
    fn begin_turn(&mut self) {}

    /// What CR8 shows where the hardware answers reads of it (SVM). Elsewhere they exit.
    fn set_task_priority(&mut self, class: u8) {
        let _ = class;
    }

    /// What the hardware, which keeps the local APIC, must know of it before the next entry.
    fn take_over(&mut self, news: HandOver) {
        let _ = news;
    }

    /// Has the guest exit when its task priority, which the hardware keeps, does not hold back interrupts of this class any more; `0`: not again. It
    /// does now.
    fn hold_back(&mut self, class: u8) {
        let _ = class;
    }

    /// An instruction was completed for the guest: the shadow of STI or MOV SS is over.
    fn end_shadow(&mut self);

    /// An instruction of this length was completed for the guest, which is past it now. Its RFLAGS.
    #[inline]
    fn complete(&mut self, length: u8) -> u64 {
        let rip = self.get(Register::Rip).wrapping_add(length.into());
        self.set(Register::Rip, rip);
        self.end_shadow();
        self.get(Register::Rflags)
    }
}

/// A vendor's part of a pCPU.
pub(crate) trait VendorPerCpu: Sized {
    /// Whether the processor has this vendor's virtualization at all. Nothing is assumed.
    fn is_present() -> bool;

    /// The largest leaf of a nested page table. It is present.
    fn largest_leaf() -> LargestLeaf;

    /// What of guests' local APICs this pCPU, which has this vendor's virtualization, can keep.
    fn keeps() -> Option<Keeps> {
        None
    }

    /// Whether this pCPU, which has this vendor's virtualization, can run guests, and how many bits its tags (ASIDs, VPIDs) have.
    fn check() -> Result<u32, Unfit>;

    /// Lets guests run on this pCPU.
    fn enable() -> AxResult<Self>;

    /// The opposite.
    fn disable(self) -> AxResult;
}
