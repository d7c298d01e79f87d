//! A machine made of memory, on hosts that are not RISC-V: its CSRs keep what is written, its guest follows a script.
//!
//! Each thread has one of its own, so that tests do not meet.

extern crate std;

use alloc::{boxed::Box, collections::BTreeMap, collections::VecDeque, vec::Vec};
use core::cell::RefCell;

use crate::{csr::Translations, regs::VmCpuRegisters};

/// A fence that was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    Instructions,
    Nested,
    Translations(Translations),
}

/// What a guest does until it traps: it changes its registers, and the CSRs say what the trap was.
pub(crate) type Step = Box<dyn FnOnce(&mut VmCpuRegisters)>;

/// The machine.
#[derive(Default)]
pub(crate) struct Machine {
    csrs: BTreeMap<u16, u64>,
    /// The bits of a CSR that can be written; all, where none are named.
    pub(crate) writable: BTreeMap<u16, u64>,
    pub(crate) fences: Vec<Fence>,
    /// What an instruction fetch in the guest finds, by address.
    pub(crate) code: BTreeMap<u64, u16>,
    pub(crate) script: VecDeque<Step>,
    /// Whether there is no H extension.
    pub(crate) without_hypervisor: bool,
    pub(crate) float: [u64; 32],
    /// The length of the vector registers that was told first.
    pub(crate) vector_length: Option<u64>,
}

impl Machine {
    pub(crate) fn read(&self, number: u16) -> u64 {
        self.csrs.get(&number).copied().unwrap_or(0)
    }

    pub(crate) fn write(&mut self, number: u16, value: u64) {
        let writable = self.writable.get(&number).copied().unwrap_or(u64::MAX);
        self.csrs.insert(number, value & writable);
    }
}

std::thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::default();
}

/// Lets `f` work on this thread's machine.
pub(crate) fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with(|machine| f(&mut machine.borrow_mut()))
}
