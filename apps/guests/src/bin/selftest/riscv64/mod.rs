//! The checks of a RISC-V machine in supervisor mode, one module for each theme.

mod expect;
mod float;
mod hsm;
mod interrupts;
mod mmio;
mod paging;
mod plic;
mod registers;
mod sbi;
mod smp;
mod timer;
mod translation;
mod traps;
mod user;
mod vector;

use guests::arch::{Machine, csr};
use guests::report;

type Check = report::Check<Machine>;

/// All checks, those first on which the others build.
pub(crate) const THEMES: &[&[Check]] = &[
    traps::CHECKS,
    sbi::CHECKS,
    hsm::CHECKS,
    timer::CHECKS,
    interrupts::CHECKS,
    mmio::CHECKS,
    plic::CHECKS,
    user::CHECKS,
    translation::CHECKS,
    registers::CHECKS,
    float::CHECKS,
    vector::CHECKS,
    smp::CHECKS,
];

/// Brings the hart's interrupts into the state in which every check starts: nothing is enabled,
/// no timer runs, no software interrupt is pending.
pub(crate) fn prepare(machine: &Machine) {
    csr::enable_interrupts(0);
    machine.timer().set(u64::MAX);
    csr::clear_software_interrupt();
}
