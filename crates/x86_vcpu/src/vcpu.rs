//! The vCPU: what it consists of, and how it runs.
//!
//! [`run`](AxArchVCpu::run) enters the guest again and again until [an exit](crate::exit) is not the CPU's own affair. What is asked of the vCPU between two
//! runs is noted down in memory and takes effect at the next one, because only then is it certain to be in the hardware.

use alloc::sync::Arc;
use core::{fmt, marker::PhantomData};

use axaddrspace::{GuestPhysAddr, HostPhysAddr, NestedMode, SharedPage, VmidTag};
use axdevice::{InterruptFlag, Keeps, LocalInterrupts, Timed};
use axerrno::{AxResult, ax_err, ax_err_type};
use axvcpu::{
    Account, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, DeviceAccess, Home, HypercallError,
    LineLevel, MAX_CPUS, Mail, Mailbox, RawExit, Residence, Sharing,
};

use crate::{
    ExitKind, GuestBytes, X86Start, X86VCpuConfig,
    backend::{Frequent, Vendor, VendorConfig, VendorVcpu},
    cpuid::CpuidTable,
    decode::DecodeCache,
    deliver::NEVER,
    device::Pending,
    event::EventQueue,
    exit::{Next, hypercall_answer},
    fetch::CodePages,
    hardware::InterruptsOff,
    msr::{self, MsrKind, MsrStorage},
    percpu::{self, Pcpu},
    ram_map::RamMap,
    regs::{GuestRegisters, Register, gpr, rflags},
    xsave::ExtendedState,
};

/// The letter, in a vCPU's mailbox, that says to look at its local APIC and timers again.
pub const NOTIFY: usize = 0;
/// The letter that is a non-maskable interrupt.
pub const NMI: usize = 1;
/// The letter that is INIT: the vCPU leaves as [`CpuDown`](AxVCpuExitReason::CpuDown), and waits for [`start_at`](AxArchVCpu::start_at).
pub const INIT: usize = 2;

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It does.
    Active,
    /// It waits for an interrupt that it can take, or an NMI.
    Halted { takes_interrupts: bool },
}

/// A vCPU on vendor `V`'s virtualization: all of it is compiled for each, so that no exit asks which it is.
pub(crate) struct VCpu<H: AxVCpuHal, V> {
    pub(crate) regs: GuestRegisters,
    pub(crate) backend: V,
    pub(crate) events: EventQueue,
    pub(crate) xsave: ExtendedState,
    pub(crate) msrs: MsrStorage,
    /// The MSR that was looked up last, and what it is.
    pub(crate) last_msr: (u32, Option<MsrKind>),
    /// What RDTSCP and RDPID read.
    pub(crate) tsc_aux: u64,
    /// DR0 to DR3, while another vCPU's are in the processor.
    pub(crate) breakpoints: [u64; 4],
    pub(crate) cpuid: CpuidTable,
    pub(crate) counters: Arc<Account>,
    /// Why the guest was left last.
    pub(crate) exit: AxVCpuExitReason,
    /// The hardware's words about that, once the state is saved.
    pub(crate) saved_exit: RawExit,
    /// What the last exit leaves to be completed.
    pub(crate) pending: Pending,
    /// The value that was read for it.
    pub(crate) answer: Option<u64>,
    pub(crate) activity: Activity,
    pub(crate) code_pages: CodePages,
    pub(crate) decoded_before: DecodeCache,
    pub(crate) local: Arc<dyn LocalInterrupts>,
    /// Whether it has an interrupt for us.
    pub(crate) flag: Arc<InterruptFlag>,
    /// What of it the hardware keeps.
    pub(crate) keeps: Option<Keeps>,
    pub(crate) memory: Arc<dyn GuestBytes>,
    pub(crate) ram: RamMap,
    pub(crate) timed: Arc<[Arc<dyn Timed>]>,
    /// What the host's timer was last told.
    pub(crate) armed: u64,
    /// Whether an exit was asked for as soon as the guest takes interrupts.
    pub(crate) awaits_interrupts: bool,
    /// How it starts next.
    pub(crate) start: X86Start,
    pub(crate) vcpu_id: usize,
    vm_id: usize,
    pub(crate) sharing: Sharing,
    /// The program counter when the guest was left last.
    pub(crate) pc: u64,

    pub(crate) residence: Residence<Pcpu>,
    pub(crate) tag: VmidTag,
    _host: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// General register `number`.
    #[inline(always)]
    pub(crate) fn gpr(&self, number: u8) -> u64 {
        match usize::from(number) & 0xf {
            gpr::RSP => self.backend.get(Register::Rsp),
            number => self.regs.gpr[number],
        }
    }

    /// Changes general register `number`.
    #[inline(always)]
    pub(crate) fn set_gpr(&mut self, number: u8, value: u64) {
        match usize::from(number) & 0xf {
            gpr::RSP => self.backend.set(Register::Rsp, value),
            number => self.regs.gpr[number] = value,
        }
    }

    /// What waits outside takes effect. The vCPU is in the hardware, and has said that it is entering.
    #[inline]
    fn open(&mut self, mail: Mail) -> AxResult<Next> {
        if mail.edges & 1 << INIT != 0 {
            self.leave_pcpu()?;
            self.reset(X86Start::Parked);
            return Ok(self.leave(AxVCpuExitReason::CpuDown));
        }
        self.refresh()?;
        if mail.edges & 1 << NMI != 0 {
            self.events.post_nmi();
        }
        if mail.fence_translations {
            self.backend.flush();
        }
        self.follow_local();
        Ok(self.wake())
    }

    /// All that waits outside takes effect. A timer that was due may have raised an NMI for this very vCPU.
    ///
    /// Apart from the loop, most rounds of which have nothing for it.
    #[inline(never)]
    fn open_all(&mut self, mailbox: &Mailbox) -> AxResult<Next> {
        loop {
            let next = self.open(mailbox.take())?;
            if next == Next::Leave || !mailbox.has_changed_from(NO_LINES) {
                return Ok(next);
            }
        }
    }

    /// Enters the guest until an exit leaves that the devices do not answer.
    #[inline]
    fn enter<D: DeviceAccess>(&mut self, mailbox: &Mailbox, devices: &D) -> AxResult {
        let mut ports = None;
        let Some(cell) = self.residence.cell() else {
            return ax_err!(BadState, "a vCPU runs only where it is bound");
        };
        if self.open_all(mailbox)? == Next::Leave {
            return Ok(());
        }
        loop {
            self.deliver();
            let now = H::now();
            self.counters.entering(now);
            let entered = self.backend.enter(&mut self.regs, now);
            self.counters.left(H::now());
            let next = match entered {
                Ok(()) => match self.backend.frequent() {
                    // Of the frequent the most frequent: with a copy of what follows, so that nothing is asked twice.
                    Frequent::Port => match self.port_at_hand(ports.as_ref()) {
                        Some(flags) if flags & rflags::TRAP == 0 => {
                            if self.look(cell.own(), mailbox, devices)? == Next::Leave {
                                return Ok(());
                            }
                            continue;
                        }
                        Some(flags) => self.look_past(flags),
                        None => self.port_elsewhere(&mut ports, devices),
                    },
                    exit => self.serve_exit(exit, devices),
                },
                Err(refused) => self.refused(refused),
            };
            if next != Next::Resume {
                if next == Next::Leave && self.ask(devices) == Next::Leave {
                    return Ok(());
                }
                if self.look(cell.own(), mailbox, devices)? == Next::Leave {
                    return Ok(());
                }
            }
        }
    }

    /// What the access that a device has answered did to this very vCPU.
    #[inline(always)]
    fn look(
        &mut self,
        pcpu: &Pcpu,
        mailbox: &Mailbox,
        devices: &dyn DeviceAccess,
    ) -> AxResult<Next> {
        if devices.wants_exit() {
            return Ok(self.leave(AxVCpuExitReason::Nothing));
        }
        // An access that moves a deadline, or has something for this very vCPU, sends it a letter.
        if mailbox.has_changed_from(NO_LINES) || pcpu.is_stale() {
            return self.open_all(mailbox);
        }
        Ok(Next::Resume)
    }

    /// The hardware would not enter the guest.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, refused: V::Refused) -> Next {
        let reason = self.backend.why_refused(refused);
        self.leave(AxVCpuExitReason::FailEntry { reason })
    }
}

/// An x86 CPU has none.
const NO_LINES: u64 = 0;

/// Has the local APIC keep its registers where the hardware does: there.
fn keep_local<H: AxVCpuHal>(local: &dyn LocalInterrupts, keeps: Keeps) -> AxResult<HostPhysAddr> {
    let page = SharedPage::new::<H::MmHal>()
        .ok_or_else(|| ax_err_type!(NoMemory, "no memory for a local APIC"))?;
    let registers = page.start();
    local.keep_in(page, keeps);
    Ok(registers)
}

impl<H: AxVCpuHal, V: VendorVcpu> AxArchVCpu for VCpu<H, V> {
    type CreateConfig = X86VCpuConfig;
    type SetupConfig = X86Start;

    fn new(vm_id: usize, vcpu_id: usize, config: X86VCpuConfig) -> AxResult<Self> {
        if config.vcpu_count > MAX_CPUS {
            return ax_err!(InvalidInput, "a VM has at most 64 vCPUs");
        }
        if vcpu_id >= config.vcpu_count {
            return ax_err!(InvalidInput, "vCPU id not below the VM's number of vCPUs");
        }
        match (V::VENDOR, config.nested_mode) {
            (Vendor::Svm, NestedMode::Npt(_)) | (Vendor::Vmx, NestedMode::Ept(_)) => {}
            _ => {
                return ax_err!(
                    InvalidInput,
                    "the nested page table is not in this CPU's format"
                );
            }
        }
        let keeps = config.local_hardware.keeps();
        let registers = match keeps {
            None => None,
            Some(keeps) => Some(keep_local::<H>(&*config.local, keeps)?),
        };
        let vendor_config = VendorConfig {
            hlt: config.hlt,
            longest_turn: config.longest_turn,
            local: registers.map(|registers| (config.local_hardware, registers)),
        };
        let mut vcpu = Self {
            regs: GuestRegisters::default(),
            backend: V::new(vendor_config)?,
            events: EventQueue::default(),
            xsave: ExtendedState::new(),
            msrs: MsrStorage::new(),
            last_msr: (0, msr::kind(0)),
            tsc_aux: 0,
            breakpoints: [0; 4],
            cpuid: CpuidTable::new(vcpu_id, config.vcpu_count, config.tsc_hz),
            counters: Arc::new(Account::new::<ExitKind>()),
            exit: AxVCpuExitReason::Nothing,
            saved_exit: RawExit::default(),
            pending: Pending::Nothing,
            answer: None,
            activity: Activity::Active,
            code_pages: CodePages::default(),
            decoded_before: DecodeCache::default(),
            flag: config.local.flag(),
            keeps,
            local: config.local,
            memory: config.memory,
            ram: RamMap::new(config.ram),
            timed: config.timed,
            armed: NEVER,
            awaits_interrupts: false,
            start: X86Start::Parked,
            vcpu_id,
            vm_id,
            sharing: config.sharing,
            pc: 0,
            residence: Residence::new(),
            tag: VmidTag::default(),
            _host: PhantomData,
        };
        vcpu.reset(X86Start::Parked);
        Ok(vcpu)
    }

    fn account(&self) -> &Arc<Account> {
        &self.counters
    }

    /// The entry is part of the setup's [`X86Start`]; this one is not used.
    fn set_entry(&mut self, _: GuestPhysAddr) -> AxResult {
        Ok(())
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) -> AxResult {
        if !root.is_aligned(axaddrspace::FrameSize::Size4K.bytes()) {
            return ax_err!(InvalidInput, "a nested root is aligned to 4 KiB");
        }
        self.backend.set_nested_root(root);
        // What is cached under the tag belongs to another table.
        self.tag = VmidTag::default();
        self.residence.changed();
        Ok(())
    }

    fn setup(&mut self, start: X86Start) -> AxResult {
        self.reset(start);
        self.start = start;
        Ok(())
    }

    /// As long as the vCPU has not run after `setup` with anything but [`Parked`](X86Start::Parked): as that says, but at `entry`, with `arg` in
    /// RSI (64-bit) or EBX (32-bit). Otherwise as a start-up IPI does it: in real mode at `entry`, a multiple of 4 KiB below 1 MiB.
    fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) -> AxResult {
        let due = self.start;
        let start = due.at(entry, arg).ok_or_else(|| {
            ax_err_type!(
                InvalidInput,
                "a vCPU starts in real mode at a 4 KiB page below 1 MiB"
            )
        })?;
        self.reset(start);
        self.start = due;
        Ok(())
    }

    #[inline]
    fn run<D: DeviceAccess>(
        &mut self,
        mailbox: &Mailbox,
        devices: &D,
    ) -> AxResult<AxVCpuExitReason> {
        let _off = InterruptsOff::new();
        self.start = X86Start::Parked;
        self.load()?;
        if self.complete() != Next::Leave || self.ask(devices) != Next::Leave {
            mailbox.entering();
            let result = if mailbox.take_device_letter() {
                self.exit = AxVCpuExitReason::DeviceInterrupt;
                Ok(())
            } else {
                self.enter(mailbox, devices)
            };
            mailbox.left();
            result?;
        }
        self.pc = self.backend.get(Register::Rip);
        // INIT has put it there.
        if self.residence.home() != Home::Memory {
            self.residence.ran();
            if self.sharing == Sharing::Shared {
                self.save();
            }
        }
        Ok(self.exit)
    }

    fn bind(&mut self) -> AxResult {
        self.residence.bind(percpu::cell(H::this_pcpu())?);
        // Others may have used the timer meanwhile.
        self.armed = NEVER;
        self.backend.begin_turn();
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        let _off = InterruptsOff::new();
        self.leave_pcpu()
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        match vector {
            NMI => {
                self.events.post_nmi();
                Ok(())
            }
            _ => ax_err!(
                InvalidInput,
                "only NMI (1) is raised once: interrupts come from the local APIC"
            ),
        }
    }

    fn set_interrupt_line(&mut self, _: usize, _: LineLevel) -> AxResult {
        ax_err!(
            InvalidInput,
            "an x86 CPU has no lines: interrupts come from the local APIC"
        )
    }

    fn set_return_value(&mut self, answer: Result<u64, HypercallError>) {
        if self.pending == Pending::Hypercall {
            self.pending = Pending::Nothing;
            self.regs.gpr[gpr::RAX] = hypercall_answer(answer);
        }
    }

    fn finish_read(&mut self, value: u64) -> AxResult {
        if !self.pending.is_read() {
            return ax_err!(BadState, "no read is waiting for its value");
        }
        self.answer = Some(value);
        Ok(())
    }

    /// #GP for a system register. What is not there at a port or a memory address reads as all ones, and a write to it is lost.
    fn fault_access(&mut self) -> AxResult {
        self.refuse_access()
    }

    fn has_pending_interrupt(&self) -> bool {
        let takes_interrupts = match self.activity {
            Activity::Active => true,
            Activity::Halted { takes_interrupts } => takes_interrupts,
        };
        let next = self.next_deadline();
        self.wakes(takes_interrupts) || next != NEVER && next <= H::now()
    }

    fn timer_deadline(&self) -> Option<u64> {
        Some(self.next_deadline()).filter(|&deadline| deadline != NEVER)
    }

    fn pc(&self) -> u64 {
        self.pc
    }

    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.record(out)
    }
}

mod record;
#[cfg(test)]
mod tests;
