//! The x86_64 vCPU, on Intel VMX or AMD SVM, whichever the machine has.
//!
//! [`X86VCpu`] is one vCPU, [`X86PerCpu`] one pCPU's virtualization state. What is not a vendor's is written once; the two vendors differ behind
//! [`backend`]. From the hardware up:
//! - `hardware` runs the instructions that touch the processor. On other hosts it drives a machine made of memory, so that everything above is
//!   tested anywhere.
//! - `vmx` and `svm` enter the guest and put what comes out of it into plain words; `backend` is all that the rest sees of them.
//! - `regs`, `xsave` and `switch` hold what is switched, and when; `event` what the guest is about to suffer.
//! - `exit` serves the guest's exits, with `cpuid`, `msr` and `cr` for what the CPU is and obeys, `decode` for instructions that must be read,
//!   `walk` for the guest's page tables, `device` for accesses that leave the vCPU.
//! - `vcpu` and `percpu` are what the outside sees.

#![no_std]
#![cfg(any(target_arch = "x86_64", not(target_os = "none")))]

extern crate alloc;

mod backend;
mod config;
mod event;
mod hardware;
#[cfg(not(target_os = "none"))]
mod machine;
mod msr;
mod percpu;
mod regs;
mod svm;
mod vmx;

pub use config::{GuestBytes, HltPolicy, MAX_CPUS, Sharing, X86Start, X86VCpuConfig};
