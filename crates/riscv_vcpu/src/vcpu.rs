//! The vCPU: what it consists of, how it is set up, and how it runs.
//!
//! [`run`](AxArchVCpu::run) enters the guest once and comes back when [the exit handler](crate::exit) says so. All that the
//! handler answers itself happens within that one call. What is asked of the vCPU between two runs is noted down in memory and
//! takes effect at the next entry, because only then is it certain to be in the hardware.

use alloc::sync::Arc;
use core::{fmt, marker::PhantomData, ops::Range};

use axaddrspace::{GuestPhysAddr, HostPhysAddr, NestedMode, VmidTag};
use axerrno::{AxResult, ax_err, ax_err_type};
use axvcpu::{
    Account, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, DeviceAccess, HypercallError, LineLevel,
    MAX_CPUS, Mail, Mailbox, RawExit, Residence, Sharing, Wait, WaitKind,
};

use crate::{
    CpuFeatures, ExitKind, RISCVVCpuConfig, VmCpuRegisters, WfiPolicy,
    csr::{self, HSTATUS, HVIP, SEPC, SSTATUS, henvcfg, hstatus, interrupt, sstatus},
    exception::Exception,
    exit::{Context, Decoded},
    insn::{Load, Store},
    percpu::{self, Vmids},
    regs::{
        FloatRegisters, GuestRegisters, REGISTER_NAMES, VectorRegisters, VirtualHsCsrs, VsCsrs,
    },
    sbi::{self, base},
    trap,
};

/// The interrupt that one vCPU sends another, as [`inject_interrupt`](AxArchVCpu::inject_interrupt) numbers it.
pub const SOFTWARE_INTERRUPT: usize = 2;
/// The line of the guest's external interrupt controller, as [`set_interrupt_line`](AxArchVCpu::set_interrupt_line) numbers it.
pub const EXTERNAL_INTERRUPT: usize = 10;

/// `scounteren` as firmware leaves it: user mode reads cycles, time and instructions.
const USER_COUNTERS: u64 = 0b111;

/// What the last exit leaves to be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nothing.
    Nothing,
    /// An SBI call.
    Answer,
    /// A load from a device.
    Load(Load),
}

/// The last access that left the vCPU, in case nothing answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastAccess {
    pub(crate) pc: u64,
    pub(crate) fault: Exception,
}

/// A RISC-V vCPU on the H extension.
///
/// The registers come first: the entry assembly takes the vCPU's address for theirs.
#[repr(C)]
pub struct RISCVVCpu<H: AxVCpuHal> {
    pub(crate) regs: VmCpuRegisters,
    /// Why the guest was left last.
    pub(crate) exit: AxVCpuExitReason,
    pub(crate) pending: Pending,
    pub(crate) last_access: Option<LastAccess>,
    pub(crate) load: Decoded<Load>,
    pub(crate) store: Decoded<Store>,
    /// The mailbox's lines as they were taken last.
    pub(crate) lines: u64,
    pub(crate) account: Arc<Account>,
    pub(crate) vcpu_id: usize,
    pub(crate) vcpu_count: usize,
    pub(crate) features: CpuFeatures,
    /// What SBI BASE answers, by function.
    pub(crate) base_constants: [u64; base::FUNCTIONS],
    pub(crate) ram: Arc<[Range<GuestPhysAddr>]>,
    /// When the guest's timer is due. With Sstc the truth is in `vstimecmp` while the state is in the hardware.
    pub(crate) deadline: u64,

    vm_id: usize,
    wfi: WfiPolicy,
    sharing: Sharing,
    entry: GuestPhysAddr,
    /// What it is to others while it waits.
    pub(crate) wait: WaitKind,
    /// What the guest suffers at the next entry.
    exception: Option<Exception>,
    /// Interrupts that are raised at the next entry, as bits of `hvip`.
    edges: u64,
    /// The line that was set here, not in the mailbox, as a bit of `hvip`.
    line: u64,

    pub(crate) residence: Residence<Vmids>,
    pub(crate) nested_mode: NestedMode,
    pub(crate) root_page: u64,
    pub(crate) vmid: VmidTag,
    pub(crate) float: FloatRegisters,
    pub(crate) vector: Option<VectorRegisters>,
    _host: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> RISCVVCpu<H> {
    /// The registers as they are in memory: see each group for when that is the truth.
    #[must_use]
    pub const fn registers(&self) -> &VmCpuRegisters {
        &self.regs
    }

    /// The guest's argument register `a<n>`.
    #[inline(always)]
    pub(crate) const fn arg(&self, n: usize) -> u64 {
        self.regs.guest_regs.x[10 + n]
    }

    /// Changes the guest's argument register `a<n>`.
    #[inline(always)]
    pub(crate) const fn set_arg(&mut self, n: usize, value: u64) {
        self.regs.guest_regs.x[10 + n] = value;
    }

    /// Whether the VM has RAM there.
    pub(crate) fn is_ram(&self, addr: GuestPhysAddr) -> bool {
        self.gap_in_ram(addr).is_none()
    }

    /// The addresses around `addr` at which there is no RAM; `None` if it is there. The last address of all is in no gap.
    pub(crate) fn gap_in_ram(&self, addr: GuestPhysAddr) -> Option<Range<GuestPhysAddr>> {
        let mut gap = GuestPhysAddr::new(0)..GuestPhysAddr::new(u64::MAX);
        for range in &*self.ram {
            if addr < range.start {
                gap.end = gap.end.min(range.start);
            } else if addr < range.end {
                return None;
            } else {
                gap.start = gap.start.max(range.end);
            }
        }
        Some(gap)
    }

    /// Everything as after power-on, in memory.
    fn reset(&mut self) {
        let features = self.features;
        let has = |feature, value| if features.contains(feature) { value } else { 0 };
        self.regs.guest_regs = GuestRegisters {
            x: [0; 32],
            sepc: self.entry.as_u64(),
            sstatus: sstatus::UXL_64
                | sstatus::SPP
                | has(CpuFeatures::FLOAT, sstatus::FS_INITIAL)
                | has(CpuFeatures::VECTOR, sstatus::VS_INITIAL),
            hstatus: hstatus::VSXL_64
                | hstatus::SPV
                | hstatus::SPVP
                | match self.wfi {
                    WfiPolicy::Exit => hstatus::VTW,
                    WfiPolicy::Untrapped => 0,
                },
        };
        self.set_arg(0, self.vcpu_id as u64);
        self.regs.vs_csrs = VsCsrs {
            vsstatus: sstatus::UXL_64,
            scounteren: USER_COUNTERS,
            ..VsCsrs::default()
        };
        self.regs.virtual_hs_csrs = VirtualHsCsrs {
            hvip: 0,
            henvcfg: henvcfg::CBIE_FLUSH
                | henvcfg::CBCFE
                | henvcfg::CBZE
                | has(CpuFeatures::SSTC, henvcfg::STCE),
            htimedelta: 0,
        };
        self.deadline = u64::MAX;
        self.float = FloatRegisters::default();
        if let Some(vector) = &mut self.vector {
            vector.reset();
        }
        self.pending = Pending::Nothing;
        self.last_access = None;
        self.exception = None;
        (self.edges, self.line) = (0, 0);
        self.residence.changed();
    }

    /// What waited outside takes effect. The vCPU is in the hardware.
    #[inline]
    pub(crate) fn open(&mut self, mail: Mail) {
        self.lines = mail.levels;
        let edges = self.edges | mail.edges & interrupt::VSSIP;
        if edges != 0 {
            HVIP.set(edges);
            self.edges = 0;
        }
        if (mail.levels | self.line) & interrupt::VSEIP != 0 {
            HVIP.set(interrupt::VSEIP);
        } else {
            HVIP.clear(interrupt::VSEIP);
        }
        if mail.fence_instructions {
            csr::fence_instructions();
        }
        if mail.fence_translations {
            csr::fence_translations(csr::Translations::All);
        }
        self.poll_timer();
    }

    /// Switches the CSRs that are switched at every entry, and runs the guest.
    #[inline]
    fn enter<D: DeviceAccess>(&mut self, context: &mut Context<'_, D>) {
        let host_sstatus = SSTATUS.swap(self.regs.guest_regs.sstatus);
        HSTATUS.write(self.regs.guest_regs.hstatus);
        SEPC.write(self.regs.guest_regs.sepc);
        if let Some(exception) = self.exception.take() {
            exception.raise();
        }
        trap::enter(self, context);
        self.regs.guest_regs.sepc = SEPC.read();
        // SPV must not stay: the host may be in the midst of a trap of its own, whose sret would then lead to a guest.
        self.regs.guest_regs.hstatus = HSTATUS.swap(0);
        self.regs.guest_regs.sstatus = SSTATUS.swap(host_sstatus);
    }
}

impl<H: AxVCpuHal> AxArchVCpu for RISCVVCpu<H> {
    type CreateConfig = RISCVVCpuConfig;
    type SetupConfig = ();

    fn new(vm_id: usize, vcpu_id: usize, config: RISCVVCpuConfig) -> AxResult<Self> {
        if config.vcpu_count > MAX_CPUS {
            return ax_err!(InvalidInput, "a VM has at most 64 vCPUs");
        }
        if vcpu_id >= config.vcpu_count {
            return ax_err!(InvalidInput, "vCPU id not below the VM's number of vCPUs");
        }
        if !CpuFeatures::detect().contains(config.features) {
            return ax_err!(
                Unsupported,
                "the machine lacks a feature that the vCPU is to have"
            );
        }
        let vector = config.features.contains(CpuFeatures::VECTOR).then(|| {
            let vlenb = csr::vlenb();
            // Where they differ, the pCPU that is not as the others is refused.
            let _ = trap::vectors_agree(vlenb);
            VectorRegisters::new(vlenb as usize)
        });
        let mut vcpu = Self {
            regs: VmCpuRegisters::default(),
            exit: AxVCpuExitReason::Nothing,
            pending: Pending::Nothing,
            last_access: None,
            load: Decoded::<Load>::NONE,
            store: Decoded::<Store>::NONE,
            lines: 0,
            account: Arc::new(Account::new::<ExitKind>()),
            vcpu_id,
            vcpu_count: config.vcpu_count,
            features: config.features,
            base_constants: base::constants(config.machine_ids),
            ram: config.ram,
            deadline: u64::MAX,
            vm_id,
            wfi: config.wfi,
            sharing: config.sharing,
            entry: GuestPhysAddr::new(0),
            wait: WaitKind::Idle,
            exception: None,
            edges: 0,
            line: 0,
            residence: Residence::new(),
            nested_mode: config.nested_mode,
            root_page: 0,
            vmid: VmidTag::default(),
            float: FloatRegisters::default(),
            vector,
            _host: PhantomData,
        };
        vcpu.reset();
        Ok(vcpu)
    }

    fn account(&self) -> &Arc<Account> {
        &self.account
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        self.entry = entry;
        Ok(())
    }

    fn set_nested_root(&mut self, root: HostPhysAddr) -> AxResult {
        if !root.is_aligned(axaddrspace::FrameSize::Size16K.bytes()) {
            return ax_err!(InvalidInput, "a nested root is aligned to 16 KiB");
        }
        self.root_page = root.as_u64() >> 12;
        // What is cached under the VMID belongs to another table.
        self.vmid = VmidTag::default();
        self.residence.changed();
        Ok(())
    }

    fn setup(&mut self, (): ()) -> AxResult {
        self.reset();
        Ok(())
    }

    fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) -> AxResult {
        self.reset();
        self.regs.guest_regs.sepc = entry.as_u64();
        self.set_arg(1, arg);
        Ok(())
    }

    #[inline]
    fn run<D: DeviceAccess>(
        &mut self,
        mailbox: &Mailbox,
        devices: &D,
    ) -> AxResult<AxVCpuExitReason> {
        let _off = csr::InterruptsOff::new();
        self.load()?;
        self.pending = Pending::Nothing;
        self.last_access = None;
        self.wait = WaitKind::Idle;
        mailbox.entering();
        if mailbox.take_device_letter() {
            self.exit = AxVCpuExitReason::DeviceInterrupt;
        } else {
            self.open(mailbox.take());
            self.enter(&mut Context::new(mailbox, devices));
        }
        mailbox.left();
        self.residence.ran();
        if self.sharing == Sharing::Shared || self.exit == AxVCpuExitReason::Halt {
            self.save();
        }
        Ok(self.exit)
    }

    fn bind(&mut self) -> AxResult {
        self.residence.bind(percpu::cell(H::this_pcpu())?);
        Ok(())
    }

    fn unbind(&mut self) -> AxResult {
        let _off = csr::InterruptsOff::new();
        self.leave_pcpu()
    }

    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        match vector {
            SOFTWARE_INTERRUPT => {
                self.edges |= interrupt::VSSIP;
                Ok(())
            }
            _ => ax_err!(
                InvalidInput,
                "only the software interrupt (2) is raised once"
            ),
        }
    }

    fn set_interrupt_line(&mut self, vector: usize, level: LineLevel) -> AxResult {
        match (vector, level) {
            (EXTERNAL_INTERRUPT, LineLevel::High) => self.line = interrupt::VSEIP,
            (EXTERNAL_INTERRUPT, LineLevel::Low) => self.line = 0,
            _ => return ax_err!(InvalidInput, "only the external interrupt (10) has a line"),
        }
        Ok(())
    }

    fn set_return_value(&mut self, answer: Result<u64, HypercallError>) {
        if self.pending == Pending::Answer {
            self.pending = Pending::Nothing;
            sbi::write_answer(self, answer);
        }
    }

    fn finish_read(&mut self, value: u64) -> AxResult {
        let Pending::Load(load) = self.pending else {
            return ax_err!(BadState, "no load is waiting for its value");
        };
        self.pending = Pending::Nothing;
        load.to
            .write(&mut self.regs.guest_regs.x, load.extend(value));
        Ok(())
    }

    fn fault_access(&mut self) -> AxResult {
        let access = self
            .last_access
            .take()
            .ok_or_else(|| ax_err_type!(BadState, "the last exit was no access"))?;
        self.pending = Pending::Nothing;
        self.regs.guest_regs.sepc = access.pc;
        self.exception = Some(access.fault);
        Ok(())
    }

    /// In state Ready the answer is that of the last [`Halt`](AxVCpuExitReason::Halt); after `unbind` it is always true.
    fn has_pending_interrupt(&self) -> bool {
        let timer = if self.deadline <= H::now() {
            interrupt::VSTIP
        } else {
            0
        };
        // The line's last level was for that run only: the mailbox knows the present one.
        let raised = self.regs.virtual_hs_csrs.hvip & !interrupt::VSEIP;
        // `vsie` has each interrupt one bit lower than `hvip`.
        (raised | timer | self.edges | self.line) & self.regs.vs_csrs.vsie << 1 != 0
    }

    fn wait(&self) -> Wait {
        Wait {
            // `vsie` has each interrupt one bit lower than the mailbox, whose lines are those of `hvip`.
            lines: self.regs.vs_csrs.vsie << 1,
            kind: self.wait,
        }
    }

    /// In state Ready the answer is that of the last [`Halt`](AxVCpuExitReason::Halt); after `unbind` it is always true.
    fn timer_deadline(&self) -> Option<u64> {
        let enabled = self.regs.vs_csrs.vsie << 1 & interrupt::VSTIP != 0;
        (enabled && self.deadline != u64::MAX).then_some(self.deadline)
    }

    fn pc(&self) -> u64 {
        self.regs.guest_regs.sepc
    }

    /// In state Ready the CSRs may be those of an earlier run; after `unbind` they are true.
    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let guest = &self.regs.guest_regs;
        writeln!(
            out,
            "VM {} vCPU {}, pc {:#018x}",
            self.vm_id, self.vcpu_id, guest.sepc
        )?;
        for (row, registers) in guest.x.chunks(4).enumerate() {
            for (column, value) in registers.iter().enumerate() {
                let name = REGISTER_NAMES[row * 4 + column];
                write!(out, "{name:>5} {value:#018x}")?;
            }
            writeln!(out)?;
        }
        writeln!(out, "   sstatus {:#018x}", guest.sstatus)?;
        writeln!(out, "   hstatus {:#018x}", guest.hstatus)?;
        write!(out, "{}{}", self.regs.vs_csrs, self.regs.virtual_hs_csrs)?;
        let trap = &self.regs.trap_csrs;
        let raw = RawExit {
            reason: trap.scause,
            info1: trap.stval,
            info2: trap.htval,
            pc: guest.sepc,
        };
        writeln!(out, "last recorded trap: {raw}, htinst {:#x}", trap.htinst)
    }
}

#[cfg(test)]
mod tests;
