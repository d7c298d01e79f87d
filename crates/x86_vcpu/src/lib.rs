//! The x86_64 vCPU, on Intel VMX or AMD SVM, whichever the machine has.
//!
//! [`X86VCpu`] is one vCPU, [`X86PerCpu`] one pCPU's virtualization state. What is not a vendor's is written once; the two vendors differ behind
//! `backend`. From the hardware up:
//! - `hardware` runs the instructions that touch the processor. On other hosts it drives a machine made of memory, so that everything above is
//!   tested anywhere.
//! - `vmx` and `svm` enter the guest and put what comes out of it into plain words; `backend` is all that the rest sees of them, `pages`
//!   has what the hardware keeps in memory.
//! - `regs`, `xsave` and `switch` hold what is switched, and when, `reset` the states that a vCPU starts in, `legal` what a state must
//!   be; `event` what the guest is about to suffer.
//! - `exit` serves the guest's exits, with `cpuid`, `msr` and `cr` for what the CPU is and obeys, `fetch`, `walk`, `opcode` and
//!   `decode` for instructions that must be read, `device`, `mmio`, `string`, `operand` and `alu` for accesses that leave the vCPU, `ram_map` for which those are.
//! - `deliver` brings what comes from outside: interrupts, NMIs, timers.
//! - `vcpu` is one vCPU on either, `vendors` the one that this machine has; that and `percpu` are what the outside sees.

#![no_std]
#![cfg(any(target_arch = "x86_64", not(target_os = "none")))]

extern crate alloc;

mod alu;
mod backend;
mod config;
mod counters;
mod cpuid;
mod cr;
mod decode;
mod deliver;
mod device;
mod event;
mod exit;
mod fetch;
mod hardware;
#[cfg(test)]
mod hostile;
mod legal;
#[cfg(not(target_os = "none"))]
mod machine;
mod mmio;
mod msr;
mod opcode;
mod operand;
mod pages;
mod percpu;
mod ram_map;
mod regs;
mod reset;
mod string;
mod svm;
mod switch;
#[cfg(test)]
mod testing;
mod unfit;
mod vcpu;
mod vendors;
mod vmx;
mod walk;
mod xsave;

pub use axvcpu::{MAX_CPUS, Sharing};
pub use backend::{
    ControlAccess as CrAccessInfo, ControlRegister, Direction, IoExit as VmxIoExitInfo, IoKind,
    Vendor,
};
pub use config::{GuestBytes, HltPolicy, LocalApicHardware, X86Start, X86VCpuConfig};
pub use counters::ExitKind;
pub use event::{InterruptInfo as VmxInterruptInfo, InterruptKind};
pub use percpu::{X86PerCpu, forget_nested};
pub use svm::{SvmPerCpuState, SvmVcpu};
pub use unfit::Unfit;
pub use vcpu::{INIT, NMI, NOTIFY};
pub use vendors::X86VCpu;
pub use vmx::{
    FixedBits, InvvpidType, MissingCapability, VmcsControl16, VmcsControl32, VmcsControl64,
    VmcsControlNW, VmcsGuest16, VmcsGuest32, VmcsGuest64, VmcsGuestNW, VmcsHost16, VmcsHost32,
    VmcsHost64, VmcsHostNW, VmcsInterrupt16, VmcsReadOnly32, VmcsReadOnly64, VmcsReadOnlyNW,
    VmcsTimer32, VmxCapabilities, VmxCapabilityWords, VmxExitInfo, VmxExitKind, VmxExitReason,
    VmxPerCpuState, VmxRegion, VmxVcpu, instruction_error, interrupted_iret, undid_nmi_blocking,
};
