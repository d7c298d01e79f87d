//! The RISC-V vCPU, on the hypervisor (H) extension.
//!
//! [`RISCVVCpu`] is one vCPU, [`RISCVPerCpu`] one pCPU's virtualization state. From the hardware up:
//! - `csr` and `trap` (with `trap.S`) touch the hardware, and are alone in that. On other hosts they drive a machine made of memory,
//!   so that everything above them is tested anywhere.
//! - `regs` says what is switched when, `switch` does what is switched when the pCPU changes vCPU, `timer` and `exception` hold the
//!   guest's timer and the faults that it is given.
//! - `exit` serves the guest's traps: `insn` decodes its instructions, `sbi` answers its calls.
//! - `vcpu` and `percpu` are what the outside sees.

#![no_std]

extern crate alloc;

mod config;
mod counters;
mod csr;
mod exception;
mod exit;
mod insn;
#[cfg(not(target_arch = "riscv64"))]
mod machine;
mod percpu;
mod regs;
mod sbi;
mod switch;
#[cfg(test)]
mod testing;
mod timer;
mod trap;
mod vcpu;

pub use axvcpu::{MAX_CPUS, Sharing};
pub use config::{CpuFeatures, MachineIds, RISCVVCpuConfig, WfiPolicy};
pub use counters::ExitKind;
pub use percpu::{RISCVPerCpu, enabled_pcpus};
pub use regs::{
    GuestRegisters, HypervisorRegisters, TrapCsrs, VirtualHsCsrs, VmCpuRegisters, VsCsrs,
};
pub use vcpu::{EXTERNAL_INTERRUPT, RISCVVCpu, SOFTWARE_INTERRUPT};
