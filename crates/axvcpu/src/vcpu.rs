//! One vCPU: its identity, its state, and the architecture's part behind a lock that nobody waits for.
//!
//! The lock is held while the vCPU runs. Whoever else comes then learns that the vCPU is busy, and has changed nothing: what must
//! reach a running vCPU goes through its [`Mailbox`]. The state is written only under the lock, and read by anyone at any time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use axaddrspace::{GuestPhysAddr, HostPhysAddr};
use axerrno::AxResult;
use spin::{Mutex, MutexGuard};

use crate::{Account, AxArchVCpu, AxVCpuExitReason, DeviceAccess, Mailbox, VCpuError, VCpuState};

/// What [`AxVCpu::pcpu`] holds when the vCPU belongs to no pCPU.
const NO_PCPU: usize = usize::MAX;

/// One vCPU of a VM.
///
/// Every operation checks the state that it begins in. Success leaves the state that it leads to; a failure, or an operation that is
/// not due, leaves [`VCpuState::Invalid`], which is final. [`VCpuError::Busy`] alone changes nothing.
#[derive(Debug)]
pub struct AxVCpu<A> {
    vm_id: usize,
    vcpu_id: usize,
    affinity: Option<u64>,
    state: AtomicU8,
    pcpu: AtomicUsize,
    mailbox: Mailbox,
    account: Arc<Account>,
    arch: Mutex<A>,
}

impl<A: AxArchVCpu> AxVCpu<A> {
    /// vCPU `vcpu_id` of VM `vm_id`, in state [`Created`](VCpuState::Created). In `affinity`, bit `n` allows pCPU `n`; `None` allows
    /// them all. Whoever schedules the vCPU keeps to it.
    ///
    /// # Errors
    /// Those of [`AxArchVCpu::new`].
    pub fn new(
        vm_id: usize,
        vcpu_id: usize,
        affinity: Option<u64>,
        config: A::CreateConfig,
    ) -> AxResult<Self> {
        let arch = A::new(vm_id, vcpu_id, config)?;
        Ok(Self {
            vm_id,
            vcpu_id,
            affinity,
            state: AtomicU8::new(VCpuState::Created as u8),
            pcpu: AtomicUsize::new(NO_PCPU),
            mailbox: Mailbox::new(),
            account: arch.account().clone(),
            arch: Mutex::new(arch),
        })
    }

    /// The VM's number.
    #[must_use]
    pub const fn vm_id(&self) -> usize {
        self.vm_id
    }

    /// The vCPU's number within its VM.
    #[must_use]
    pub const fn id(&self) -> usize {
        self.vcpu_id
    }

    /// The pCPUs that it may run on, one bit each; `None`: all.
    #[must_use]
    pub const fn affinity(&self) -> Option<u64> {
        self.affinity
    }

    /// Where it stands. Another pCPU may have moved it on by the time that the caller looks at the answer.
    #[must_use]
    pub fn state(&self) -> VCpuState {
        VCpuState::from_u8(self.state.load(Ordering::Acquire))
    }

    /// How to reach it while it runs.
    #[must_use]
    pub const fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// What its time goes into, to be read at any time.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The pCPU that bound it; `None` while it belongs to none.
    #[must_use]
    pub fn pcpu(&self) -> Option<usize> {
        match self.pcpu.load(Ordering::Acquire) {
            NO_PCPU => None,
            pcpu => Some(pcpu),
        }
    }

    /// Created → Free: it starts at `entry`, in the memory behind `nested_root`.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Created;
    /// [`Failed`](VCpuError::Failed) if the architecture does not take root, entry or config.
    pub fn setup(
        &self,
        entry: GuestPhysAddr,
        nested_root: HostPhysAddr,
        config: A::SetupConfig,
    ) -> Result<(), VCpuError> {
        self.lock()?
            .step("setup", VCpuState::Created, VCpuState::Free, |arch| {
                arch.set_nested_root(nested_root)?;
                arch.set_entry(entry)?;
                arch.setup(config)
            })
    }

    /// Free → Free: as after power-on, throwing away the letters of its former life, but starting at `entry` with `arg`.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Free;
    /// [`Failed`](VCpuError::Failed) if the architecture does not take config or entry.
    pub fn reset(
        &self,
        entry: GuestPhysAddr,
        arg: u64,
        config: A::SetupConfig,
    ) -> Result<(), VCpuError> {
        self.lock()?
            .step("reset", VCpuState::Free, VCpuState::Free, |arch| {
                self.mailbox.clear();
                // Its code was written anew, by the hypervisor, as data.
                self.mailbox.request_instruction_fence();
                arch.setup(config)?;
                arch.start_at(entry, arg)
            })
    }

    /// Free → Free: another vCPU starts this one, at `entry` with `arg`.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Free;
    /// [`Failed`](VCpuError::Failed) if it cannot start there.
    pub fn start_at(&self, entry: GuestPhysAddr, arg: u64) -> Result<(), VCpuError> {
        self.lock()?
            .step("start_at", VCpuState::Free, VCpuState::Free, |arch| {
                arch.start_at(entry, arg)
            })
    }

    /// Free → Ready: it belongs to `pcpu`, the caller's own.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Free;
    /// [`Failed`](VCpuError::Failed) if guests cannot run on the pCPU.
    pub fn bind(&self, pcpu: usize) -> Result<(), VCpuError> {
        let mut hold = self.lock()?;
        hold.step("bind", VCpuState::Free, VCpuState::Ready, A::bind)?;
        self.pcpu.store(pcpu, Ordering::Release);
        Ok(())
    }

    /// Ready → Free: it leaves the pCPU, the caller's own.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Ready;
    /// [`Failed`](VCpuError::Failed) if another vCPU ran on its dedicated pCPU.
    pub fn unbind(&self) -> Result<(), VCpuError> {
        self.lock()?
            .step("unbind", VCpuState::Ready, VCpuState::Free, A::unbind)
    }

    /// The hardware of the caller's own pCPU gives up what it holds of the vCPU, which was bound there and has failed. It goes on being what it is.
    ///
    /// # Errors
    /// [`VCpuError::Busy`], and the hardware holds what it held.
    #[cold]
    #[inline(never)]
    pub fn abandon(&self) -> Result<(), VCpuError> {
        // It has failed already, and that error is the one to report.
        let _ = self.lock()?.arch.unbind();
        Ok(())
    }

    /// Ready → Running → Ready: it runs until something happens that is not its own affair.
    ///
    /// On the pCPU that bound it only.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Ready;
    /// [`Failed`](VCpuError::Failed) with what [`AxArchVCpu::run`] says.
    #[inline]
    pub fn run<D: DeviceAccess>(&self, devices: &D) -> Result<AxVCpuExitReason, VCpuError> {
        let mut hold = self.lock()?;
        hold.expect("run", VCpuState::Ready)?;
        self.set_state(VCpuState::Running);
        let result = hold.arch.run(&self.mailbox, devices);
        hold.settle("run", VCpuState::Running, VCpuState::Ready, result)
    }

    /// Free → Blocked: it waits for an interrupt or to be started.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Free.
    pub fn block(&self) -> Result<(), VCpuError> {
        self.lock()?
            .step("block", VCpuState::Free, VCpuState::Blocked, |_| Ok(()))
    }

    /// Blocked → Free: what it waited for has come.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Blocked.
    pub fn unblock(&self) -> Result<(), VCpuError> {
        self.lock()?
            .step("unblock", VCpuState::Blocked, VCpuState::Free, |_| Ok(()))
    }

    /// `from` → `to`, if `f` succeeds.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is in `from`;
    /// [`Failed`](VCpuError::Failed) with the error of `f`.
    pub fn with_state_transition<T>(
        &self,
        from: VCpuState,
        to: VCpuState,
        f: impl FnOnce() -> AxResult<T>,
    ) -> Result<T, VCpuError> {
        self.lock()?
            .step("with_state_transition", from, to, |_| f())
    }

    /// `from` → `to`, if `f`, which is given the architecture's part, succeeds.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is in `from`;
    /// [`Failed`](VCpuError::Failed) with the error of `f`.
    pub fn manipulate_arch_vcpu<T>(
        &self,
        from: VCpuState,
        to: VCpuState,
        f: impl FnOnce(&mut A) -> AxResult<T>,
    ) -> Result<T, VCpuError> {
        self.lock()?.step("manipulate_arch_vcpu", from, to, f)
    }

    /// `from` → `to`.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is in `from`.
    pub fn transition_state(&self, from: VCpuState, to: VCpuState) -> Result<(), VCpuError> {
        self.lock()?.step("transition_state", from, to, |_| Ok(()))
    }

    /// Gives `f` the architecture's part between two runs, in state Ready: to answer the last exit, to inject, to look.
    ///
    /// In any other state `f` is not called and nothing changes: this moves no state, so it breaks no order.
    ///
    /// # Errors
    /// [`VCpuError::Busy`]; [`WrongState`](VCpuError::WrongState) unless it is Ready.
    #[inline]
    pub fn with_arch<T>(&self, f: impl FnOnce(&mut A) -> T) -> Result<T, VCpuError> {
        let mut arch = self.arch.try_lock().ok_or(VCpuError::Busy)?;
        match self.state() {
            VCpuState::Ready => Ok(f(&mut arch)),
            found => Err(VCpuError::WrongState {
                operation: "with_arch",
                expected: VCpuState::Ready,
                found,
            }),
        }
    }

    /// Gives `f` the architecture's part to look at, in any state: for the record of a VM that is stopped.
    ///
    /// # Errors
    /// [`VCpuError::Busy`].
    pub fn inspect<T>(&self, f: impl FnOnce(&A) -> T) -> Result<T, VCpuError> {
        Ok(f(&*self.arch.try_lock().ok_or(VCpuError::Busy)?))
    }

    #[inline]
    fn lock(&self) -> Result<Hold<'_, A>, VCpuError> {
        let arch = self.arch.try_lock().ok_or(VCpuError::Busy)?;
        Ok(Hold { vcpu: self, arch })
    }

    /// The one place that writes the state; under the lock.
    #[inline]
    fn set_state(&self, state: VCpuState) {
        if !state.is_bound() {
            self.pcpu.store(NO_PCPU, Ordering::Release);
        }
        self.state.store(state as u8, Ordering::Release);
    }
}

/// A vCPU whose lock the caller has.
struct Hold<'a, A> {
    vcpu: &'a AxVCpu<A>,
    arch: MutexGuard<'a, A>,
}

impl<A: AxArchVCpu> Hold<'_, A> {
    /// Goes on only in state `expected`; else the order is broken, for good. Nothing begins in `Invalid`.
    #[inline]
    fn expect(&self, operation: &'static str, expected: VCpuState) -> Result<(), VCpuError> {
        let found = self.vcpu.state();
        if found == expected && found != VCpuState::Invalid {
            return Ok(());
        }
        self.vcpu.set_state(VCpuState::Invalid);
        Err(VCpuError::WrongState {
            operation,
            expected,
            found,
        })
    }

    /// `from` → `to` by way of `f`.
    #[inline]
    fn step<T>(
        &mut self,
        operation: &'static str,
        from: VCpuState,
        to: VCpuState,
        f: impl FnOnce(&mut A) -> AxResult<T>,
    ) -> Result<T, VCpuError> {
        self.expect(operation, from)?;
        let result = f(&mut self.arch);
        self.settle(operation, from, to, result)
    }

    /// What began in `from` came to `result`: the vCPU is in `to`, or broken.
    #[inline]
    fn settle<T>(
        &self,
        operation: &'static str,
        from: VCpuState,
        to: VCpuState,
        result: AxResult<T>,
    ) -> Result<T, VCpuError> {
        match result {
            Ok(value) => {
                self.vcpu.set_state(to);
                Ok(value)
            }
            Err(error) => {
                self.vcpu.set_state(VCpuState::Invalid);
                Err(VCpuError::Failed {
                    operation,
                    from,
                    to,
                    error,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
