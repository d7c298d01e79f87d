//! A 64-bit RISC-V machine in supervisor mode, under the SBI: QEMU's `virt`, or a VM like it.
//!
//! There are no trap handlers: a guest runs with interrupts off, and code that is to be
//! interrupted or to fault runs as a [`context`], which ends in its trap.

pub mod account;
pub mod context;
pub mod csr;
mod entry;
mod machine;
pub mod plic;
pub mod sbi;
mod timer;
pub mod uart;

pub use entry::HartStart;
pub use machine::Machine;
pub use sbi::power_off;
pub use timer::Timer;
