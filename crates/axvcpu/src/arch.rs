//! The seam that an architecture's vCPU crate implements.

use alloc::sync::Arc;

use axaddrspace::{GuestPhysAddr, HostPhysAddr};
use axerrno::AxResult;

use crate::{Account, AxVCpuExitReason, DeviceAccess, Mailbox};

/// The level of an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineLevel {
    /// Not asserted.
    Low,
    /// Asserted.
    High,
}

/// How a vCPU waits, after [`Halt`](AxVCpuExitReason::Halt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The lines in its mailbox that end the wait when they are high: not those that it has masked, one bit each.
    pub lines: u64,
    /// What it is to others meanwhile.
    pub kind: WaitKind,
}

/// What a vCPU that waits is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// On.
    Idle,
    /// Suspended, as it asked to be.
    Suspended,
}

impl Wait {
    /// Any line ends it.
    pub const FOR_ANY: Self = Self {
        lines: u64::MAX,
        kind: WaitKind::Idle,
    };
}

/// Why a hypercall did not do what it was asked. Each architecture has its own code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypercallError {
    /// It failed for a reason that has no name here.
    Failed,
    /// There is no such call.
    NotSupported,
    /// An argument is not valid.
    InvalidParam,
    /// It is not allowed.
    Denied,
    /// An address is not valid.
    InvalidAddress,
    /// It is available already (a started CPU).
    AlreadyAvailable,
}

/// One architecture's vCPU.
///
/// The caller ([`AxVCpu`](crate::AxVCpu)) guarantees the order: `set_nested_root`, `set_entry` and `setup` come first; `run` only between `bind` and
/// `unbind`, on the pCPU that bound it.
pub trait AxArchVCpu: Sized {
    /// What [`new`](Self::new) needs besides the ids.
    type CreateConfig;
    /// What [`setup`](Self::setup) needs.
    type SetupConfig;

    /// A vCPU that has no state yet.
    ///
    /// # Errors
    /// `InvalidInput`: the ids or the config cannot be. `Unsupported`: the machine lacks what the vCPU needs. `NoMemory`.
    fn new(vm_id: usize, vcpu_id: usize, config: Self::CreateConfig) -> AxResult<Self>;

    /// What it counts its exits in, and the time between an entry and an exit.
    fn account(&self) -> &Arc<Account>;

    /// Where the guest starts.
    ///
    /// # Errors
    /// Those of an architecture that cannot start there; neither of ours refuses any address.
    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult;

    /// The root of the VM's nested page table.
    ///
    /// # Errors
    /// `InvalidInput`: it is not aligned as the root of a nested page table (RISC-V: 16 KiB; x86: 4 KiB).
    fn set_nested_root(&mut self, root: HostPhysAddr) -> AxResult;

    /// Puts every register to its value at reset. May be called again, to reset the vCPU.
    ///
    /// # Errors
    /// Those of an architecture that cannot do what `config` says; ours can always.
    fn setup(&mut self, config: Self::SetupConfig) -> AxResult;

    /// Prepares a vCPU that another vCPU starts: at `entry`, with `arg` where the architecture passes it, all else as at reset.
    ///
    /// # Errors
    /// `InvalidInput`: it cannot start there (x86, as by a start-up IPI: `entry` is not the start of a 4 KiB page below 1 MiB).
    fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) -> AxResult;

    /// Runs the guest until something happens that is neither the CPU's own affair nor answered by `devices`.
    ///
    /// Host interrupts are off from before the mailbox is marked [`entering`](Mailbox::entering) and emptied until the guest runs, so that a
    /// letter posted after that is followed by a kick that takes the guest out again; and on when this returns.
    ///
    /// # Errors
    /// `BadState`: the vCPU is not bound, guests cannot run on this pCPU, the state of a dedicated vCPU was displaced by another, or the hardware does
    /// not take what describes the vCPU. That the hardware refuses the guest's state is no error but [`FailEntry`](AxVCpuExitReason::FailEntry).
    fn run<D: DeviceAccess>(
        &mut self,
        mailbox: &Mailbox,
        devices: &D,
    ) -> AxResult<AxVCpuExitReason>;

    /// The vCPU belongs to this pCPU from now on. State is loaded when it first runs, if it is not there still.
    ///
    /// # Errors
    /// `InvalidInput`: the pCPU is beyond those that can run guests, of which there are at most 64.
    fn bind(&mut self) -> AxResult;

    /// The vCPU no longer belongs to this pCPU.
    ///
    /// # Errors
    /// `BadState`: another vCPU ran on its dedicated pCPU, and its state is lost.
    fn unbind(&mut self) -> AxResult;

    /// Raises interrupt `vector`, numbered as in the vCPU's [`Mailbox`], once.
    ///
    /// # Errors
    /// `InvalidInput`: that interrupt is not raised once (RISC-V: any but the software interrupt; x86: any but NMI).
    fn inject_interrupt(&mut self, vector: usize) -> AxResult;

    /// Sets the line of interrupt `vector`.
    ///
    /// # Errors
    /// `InvalidInput`: that interrupt has no line (RISC-V: any but the external interrupt; x86: any).
    fn set_interrupt_line(&mut self, vector: usize, level: LineLevel) -> AxResult;

    /// Answers a hypercall.
    fn set_return_value(&mut self, answer: Result<u64, HypercallError>);

    /// Completes the read that [`run`](Self::run) returned last, with the device's value.
    ///
    /// # Errors
    /// `BadState`: no read waits for its value.
    fn finish_read(&mut self, value: u64) -> AxResult;

    /// Gives the guest the fault that its hardware would raise for the access that [`run`](Self::run) returned last, which nothing answers.
    /// The program counter is as it was before the access.
    ///
    /// # Errors
    /// `BadState`: the last exit was no access.
    fn fault_access(&mut self) -> AxResult;

    /// Whether an interrupt that the guest would take, or that would end its wait, is pending in the vCPU itself.
    fn has_pending_interrupt(&self) -> bool;

    /// How it waits, after [`Halt`](AxVCpuExitReason::Halt).
    fn wait(&self) -> Wait {
        Wait::FOR_ANY
    }

    /// When the vCPU's own timer next raises an interrupt, in ticks of [`AxVCpuHal::now`](crate::AxVCpuHal::now); `None`: never.
    fn timer_deadline(&self) -> Option<u64>;

    /// The guest's program counter, for the record.
    fn pc(&self) -> u64;

    /// Writes the vCPU's registers, for the record of a VM that is stopped.
    ///
    /// # Errors
    /// That of `out`.
    fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result;
}

/// One pCPU's virtualization state.
pub trait AxArchPerCpu: Sized {
    /// The state of pCPU `cpu_id`, not enabled.
    ///
    /// # Errors
    /// `InvalidInput`: the pCPU is beyond those that can run guests, of which there are at most 64.
    fn new(cpu_id: usize) -> AxResult<Self>;

    /// Whether guests can run on this pCPU.
    fn is_enabled(&self) -> bool;

    /// Lets guests run on this pCPU, which is the current one.
    ///
    /// # Errors
    /// `Unsupported`: it lacks what guests need, or the firmware has locked it off. `BadState`: it is enabled already (x86), or VMX cannot be entered.
    /// `NoMemory`.
    fn hardware_enable(&mut self) -> AxResult;

    /// Ends what [`hardware_enable`](Self::hardware_enable) began, on the same pCPU.
    ///
    /// # Errors
    /// `BadState`: VMX cannot be left. It is no error if it was not enabled.
    fn hardware_disable(&mut self) -> AxResult;
}
