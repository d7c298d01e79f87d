//! Runs a VM of AxHV's under Linux's KVM: the peer that AxHV is measured against.
//!
//! The program is `/init` of Debian's kernel, on the emulated machine that AxHV itself would boot on.
//! It takes the bundle that AxHV takes, puts the bundle's VM into memory by AxHV's own loader, gives it
//! KVM's interrupt controllers and clocks and AxHV's model of the UART, and powers the machine off when
//! the guest powers off its own. So the same guest, with the same tables in its memory, tells what it
//! costs to run under either.
//!
//! From Linux up: [`linux`] is its system calls, [`kvm`] its virtual machines, [`init`] what the first
//! process has to do; [`bundle`] is what it is given, [`ram`], [`devices`] and [`console`] are a VM's parts,
//! and [`vm`] puts them together and runs its vCPUs until they [leave](exit) the kernel for good.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod bundle;
pub mod console;
pub mod devices;
pub mod exit;
pub mod init;
pub mod kvm;
pub mod linux;
pub mod ram;
pub mod vm;

#[cfg(target_arch = "riscv64")]
#[path = "arch/riscv64.rs"]
pub mod arch;

#[cfg(target_arch = "x86_64")]
#[path = "arch/x86_64.rs"]
pub mod arch;
