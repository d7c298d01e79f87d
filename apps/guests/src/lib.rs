//! Small bare-metal guests: what a virtual machine looks like from inside.
//!
//! `hello` prints and powers off, `heartbeat` is a timer-driven loop in the manner of an RTOS,
//! `selftest` checks that the machine keeps what the architecture promises, `bench` counts what a
//! hypervisor costs; `busy` never sleeps, `restless` starts its machine again and again, `passed`
//! drives devices that are the machine's, and `hostile` means harm. All of them also run without a hypervisor, on QEMU's `virt` (RISC-V) and `q35`
//! (x86) machines.
//!
//! What the guests do is here and in `bin/`; how the machine is driven is in one module per
//! architecture, which the rest knows as `arch`. On the developer's machine only the former
//! exists, for its unit tests.

#![cfg_attr(target_os = "none", no_std)]

pub mod account;
pub mod acpi;
pub mod heartbeat;
pub mod measure;
pub mod memory;
pub mod multiboot;
pub mod options;
pub mod report;

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
pub mod snippet;

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64/mod.rs"]
pub mod arch;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64/mod.rs"]
pub mod arch;

/// How a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was to do.
    Success,
    /// It did not; the machine is told so where it can be.
    Failure,
}

/// Makes `$main`, a `fn(&'static arch::Machine) -> Exit`, what this guest runs.
///
/// For any other target than bare metal it makes an empty program, so that the workspace can be
/// checked as a whole.
#[macro_export]
macro_rules! guest {
    ($main:path) => {
        /// Called by the architecture's entry code.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "Rust" fn guest_main(machine: &'static $crate::arch::Machine) -> $crate::Exit {
            $main(machine)
        }

        #[cfg(not(target_os = "none"))]
        fn main() {}
    };
}
