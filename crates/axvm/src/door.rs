//! A vCPU's door: what the rest of the VM reaches it by, wherever it runs or waits.
//!
//! No wake-up is lost, whichever way the two sides interleave. Who wants something stores it first
//! (a letter in the mailbox, a power state), then looks whether the vCPU is in its guest or waits,
//! and kicks its pCPU if so. Who waits says so first, then looks with interrupts off at all that it
//! waits for ([`should_wake`](VCpuDoor::should_wake)), then sleeps. All of these are sequentially
//! consistent.
//!
//! Where the vCPU shares its pCPU a kick costs others something. So one that waits is kicked for
//! what it would wake for only, and once until it looks again.

use alloc::sync::Arc;
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use axaddrspace::GuestPhysAddr;
use axvcpu::{AxArchVCpu, AxVCpu, Fence, LineLevel, VCpuError, VCpuState, Wait, WaitKind};
use spin::Mutex;

use crate::AxVCpuRef;

/// Whether a vCPU is on (SBI specification, "Hart State Management Extension").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// It waits for another vCPU to start it.
    Off,
    /// It was started, and has not run since.
    StartPending {
        /// Where it starts.
        entry: GuestPhysAddr,
        /// What it is given.
        arg: u64,
    },
    /// It runs, or waits for an interrupt.
    On,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::StartPending { .. } => "start pending",
            Self::On => "on",
        })
    }
}

/// A power state, and how it came about.
struct Power {
    state: PowerState,
    /// The letter by which the vCPU was told that it is off, which it may not have read yet.
    stopped_by: Option<usize>,
}

/// One vCPU, as the rest of the VM sees it.
pub(crate) struct VCpuDoor<A> {
    vcpu: AxVCpuRef<A>,
    power: Mutex<Power>,
    /// Whether its task sleeps, or is about to, so that letters need a kick to be read.
    waiting: AtomicBool,
    /// Whether it was kicked since its task looked last whether it has reason to wake.
    roused: AtomicBool,
    /// When its wait ends by itself.
    deadline: AtomicU64,
    /// The lines that end it.
    lines: AtomicU64,
    /// Whether it waits as one that is suspended.
    suspended: AtomicBool,
    /// Where its task is, or will be next.
    pcpu: AtomicUsize,
    kick: fn(usize),
}

impl<A: AxArchVCpu> VCpuDoor<A> {
    /// The door of a vCPU that is off, and whose task waits on `pcpu`.
    pub(crate) fn new(vcpu: AxVCpu<A>, pcpu: usize, kick: fn(usize)) -> Self {
        Self {
            vcpu: Arc::new(vcpu),
            power: Mutex::new(Power {
                state: PowerState::Off,
                stopped_by: None,
            }),
            waiting: AtomicBool::new(true),
            roused: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            lines: AtomicU64::new(0),
            suspended: AtomicBool::new(false),
            pcpu: AtomicUsize::new(pcpu),
            kick,
        }
    }

    pub(crate) fn vcpu(&self) -> &AxVCpuRef<A> {
        &self.vcpu
    }

    /// Binds the vCPU to the caller's pCPU.
    pub(crate) fn bind(&self, pcpu: usize) -> Result<(), VCpuError> {
        self.pcpu.store(pcpu, Ordering::SeqCst);
        self.vcpu.bind(pcpu)
    }

    /// Raises interrupt `vector` once.
    pub(crate) fn raise(&self, vector: usize) {
        self.vcpu.mailbox().raise(vector);
        self.notify();
    }

    /// Sets the line of interrupt `vector`.
    pub(crate) fn set_line(&self, vector: usize, level: LineLevel) {
        self.vcpu.mailbox().set_line(vector, level);
        self.notify();
    }

    /// Asks for `fence`, which is done before the guest runs on.
    pub(crate) fn request_fence(&self, fence: Fence) {
        match fence {
            Fence::Instructions => self.vcpu.mailbox().request_instruction_fence(),
            // A range is not worth a queue of them: everything is forgotten.
            Fence::Translations { .. } => self.vcpu.mailbox().request_translation_fence(),
        }
        if self.vcpu.mailbox().is_in_guest() {
            self.kick();
        }
    }

    /// Whether the guest may still run as if the fence had not been asked for.
    pub(crate) fn owes_fence(&self) -> bool {
        self.vcpu.mailbox().has_fence() && self.vcpu.mailbox().is_in_guest()
    }

    /// Lets the vCPU see soon what was stored for it.
    pub(crate) fn notify(&self) {
        if self.vcpu.mailbox().is_in_guest() {
            self.kick();
        } else if self.waiting.load(Ordering::SeqCst) {
            self.notify_waiting();
        }
    }

    /// One that is off, or has masked what was raised, sleeps on.
    #[cold]
    #[inline(never)]
    fn notify_waiting(&self) {
        if self.has_reason() && !self.roused.swap(true, Ordering::SeqCst) {
            self.kick();
        }
    }

    /// Has the vCPU's task look at what the VM has become, even if the vCPU is off.
    pub(crate) fn rouse(&self) {
        if self.vcpu.mailbox().is_in_guest() || self.waiting.load(Ordering::SeqCst) {
            self.kick();
        }
    }

    fn kick(&self) {
        (self.kick)(self.pcpu.load(Ordering::SeqCst));
    }

    pub(crate) fn power(&self) -> PowerState {
        self.power.lock().state
    }

    /// Whether it is on, but suspended.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    /// It is off, as when the VM starts.
    pub(crate) fn switch_off(&self) {
        *self.power.lock() = Power {
            state: PowerState::Off,
            stopped_by: None,
        };
    }

    /// Starts it if it is off; else says what it is.
    ///
    /// What was raised before is not for the life that begins: neither what its former life did not take, nor what came while it was off.
    /// A hart that is off has no pending interrupts when it starts (SBI specification, "Hart State Management Extension"), and a CPU that
    /// waits for its start-up IPI takes nothing else (Intel SDM volume 3, "MP Initialization Protocol Algorithm"): an NMI that it kept would find it in real mode, without handlers.
    pub(crate) fn start(&self, entry: GuestPhysAddr, arg: u64) -> Result<(), PowerState> {
        let mut power = self.power.lock();
        match power.state {
            PowerState::Off => {
                // Under the lock, so that nothing of the new life is thrown away. That it is off it may still have to read.
                self.vcpu.mailbox().forget_raised(power.stopped_by);
                power.state = PowerState::StartPending { entry, arg };
            }
            PowerState::StartPending { .. } | PowerState::On => return Err(power.state),
        }
        drop(power);
        self.notify();
        Ok(())
    }

    /// Takes it down, wherever it is. If it runs it reads letter `vector`, and goes down by itself.
    pub(crate) fn stop(&self, vector: usize) {
        let mut power = self.power.lock();
        match core::mem::replace(&mut power.state, PowerState::Off) {
            PowerState::On => {
                power.stopped_by = Some(vector);
                // Under the lock, so that it is not taken for a letter of the next life.
                self.vcpu.mailbox().raise(vector);
            }
            PowerState::StartPending { .. } | PowerState::Off => {}
        }
        drop(power);
        self.notify();
    }

    /// It went down by itself. One that was stopped may have been started again since.
    pub(crate) fn went_down(&self) {
        let mut power = self.power.lock();
        match power.state {
            PowerState::On => power.state = PowerState::Off,
            PowerState::Off | PowerState::StartPending { .. } => {}
        }
    }

    /// The state as its own task finds it, which a start that was pending has left
    /// [`On`](PowerState::On).
    pub(crate) fn take_start(&self) -> PowerState {
        let mut power = self.power.lock();
        match power.state {
            PowerState::StartPending { .. } => {
                if let Some(vector) = power.stopped_by.take() {
                    self.vcpu.mailbox().withdraw(vector);
                }
                core::mem::replace(&mut power.state, PowerState::On)
            }
            PowerState::Off | PowerState::On => power.state,
        }
    }

    /// The vCPU, which its task has left, waits until `deadline`.
    pub(crate) fn park(&self, deadline: u64, wait: Wait) -> Result<(), VCpuError> {
        self.vcpu.block()?;
        self.deadline.store(deadline, Ordering::SeqCst);
        self.lines.store(wait.lines, Ordering::SeqCst);
        let suspended = wait.kind == WaitKind::Suspended;
        self.suspended.store(suspended, Ordering::SeqCst);
        self.roused.store(false, Ordering::SeqCst);
        self.waiting.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Its wait, if it waited, is over.
    pub(crate) fn unpark(&self) -> Result<(), VCpuError> {
        self.suspended.store(false, Ordering::SeqCst);
        self.waiting.store(false, Ordering::SeqCst);
        self.unblock()
    }

    /// Blocked → Free, for a vCPU whose task may sleep on.
    pub(crate) fn unblock(&self) -> Result<(), VCpuError> {
        match self.vcpu.state() {
            VCpuState::Blocked => self.vcpu.unblock(),
            VCpuState::Created
            | VCpuState::Free
            | VCpuState::Ready
            | VCpuState::Running
            | VCpuState::Invalid => Ok(()),
        }
    }

    /// Whether there is something for the vCPU to do at time `now`. For its own task to ask, which is kicked for what comes afterwards.
    pub(crate) fn should_wake(&self, now: u64) -> bool {
        // Before it looks, so that what this look does not see is worth a kick.
        self.roused.store(false, Ordering::SeqCst);
        let timer_is_due =
            || self.power() == PowerState::On && now >= self.deadline.load(Ordering::SeqCst);
        self.has_reason() || timer_is_due()
    }

    /// Whether it has reason to wake, whatever the time is.
    fn has_reason(&self) -> bool {
        match self.power() {
            PowerState::Off => false,
            PowerState::StartPending { .. } => true,
            PowerState::On => {
                let lines = self.lines.load(Ordering::SeqCst);
                self.vcpu.mailbox().has_interrupt(lines) || !self.waiting.load(Ordering::SeqCst)
            }
        }
    }
}
