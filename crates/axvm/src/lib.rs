//! A VM: vCPUs, devices and memory, and the loop that serves its exits.
//!
//! [`AxVM`] is one VM. [`AxVM::new`] makes it from an [`AxVMConfig`], [`AxVM::boot`] starts it, and
//! each vCPU's task [drives](AxVM::drive) that vCPU until the VM is down. [`AxVM::run_vcpu`] is the
//! one dispatcher of exits.
//!
//! [`AxVMHal`] is what all this asks of the host, [`GuestArch`] what it asks of the instruction
//! set; the rest is the same on every architecture. What a VM finds in its memory when it starts is
//! put there by the loaders in `boot`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
mod arch;
mod boot;
mod config;
mod console;
mod door;
mod drive;
mod error;
mod hal;
mod homes;
mod link;
mod machine;
mod passed;
mod ram_by_turns;
mod restarts;
mod run;
mod smp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod vm;

#[cfg(any(target_arch = "riscv64", not(target_os = "none")))]
pub use arch::riscv::load_riscv;
#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
pub use arch::x86::load_x86;
pub use arch::{BootState, GuestArch, GuestDevices, Parts};
pub use boot::{
    ElfError, GuestRam, GuestRange, GzipError, ImageError, ImageSource, PlaceError, Thing,
};
pub use config::{AxVCpuConfig, AxVMConfig};
pub use door::PowerState;
pub use drive::{StopRecord, VCpuNext};
pub use error::{VmError, VmErrorCause};
pub use hal::AxVMHal;
pub use homes::Homes;
pub use link::VmLink;
pub use machine::Machine;
#[cfg(any(target_arch = "riscv64", not(target_os = "none")))]
pub use machine::riscv::{IsaInfo, RiscvMachine};
#[cfg(any(target_arch = "x86_64", not(target_os = "none")))]
pub use machine::x86::{LocalApicLimit, X86Machine};
pub use restarts::Restarts;
pub use vm::{AxVCpuRef, AxVM, AxVMRef};
