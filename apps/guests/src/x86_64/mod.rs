//! A 64-bit x86 PC in ring 0, as a Multiboot loader leaves it: QEMU's `q35` and `pc`, or a VM like
//! them.
//!
//! There are no interrupt handlers: a guest runs with interrupts off, and code that is to be
//! interrupted or to fault runs as a [`context`], which ends in its trap.

pub mod account;
pub mod context;
pub mod cpu;
mod entry;
pub mod ioapic;
pub mod lapic;
mod machine;
pub mod msr;
pub mod pic;
pub mod pit;
pub mod port;
mod power;
pub mod segment;
mod start;
mod timer;
pub mod uart;

pub use machine::{Machine, Physical};
pub use power::power_off;
pub use start::{CpuStart, STARTUP_PAGE};
pub use timer::{Request, Timer};
