//! A machine made of memory, on hosts that are no bare machine: its registers keep what is written, its guest follows a script.
//!
//! Each thread has one of its own, so that tests do not meet.

extern crate std;

use alloc::{collections::BTreeMap, vec::Vec};
use core::cell::RefCell;

use crate::hardware::CpuidResult;

/// The machine.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) cpuid: BTreeMap<(u32, u32), CpuidResult>,
    pub(crate) msrs: BTreeMap<u32, u64>,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr4: u64,
    pub(crate) dr6: u64,
    pub(crate) xcr0: u64,
    pub(crate) tsc: u64,
    pub(crate) float: [u8; 32],
    pub(crate) breakpoints: [u64; 4],
    /// How often host interrupts were let in.
    pub(crate) interrupts_served: usize,
    /// Which of the host's vectors were run.
    pub(crate) host_events: Vec<u8>,
    /// How often the x87 FPU's pointers were made the hypervisor's.
    pub(crate) pointers_forgotten: usize,
}

std::thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::default();
}

/// Lets `f` work on this thread's machine.
pub(crate) fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with(|machine| f(&mut machine.borrow_mut()))
}
