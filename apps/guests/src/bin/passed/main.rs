//! A guest that has devices of the machine for itself, and drives them: on RISC-V a clock (`google,goldfish-rtc`), on x86 a timer (HPET)
//! and a serial port at COM2.
//!
//! On QEMU's machines it does the same without a hypervisor. Each line that it prints tells of a device that did what it was asked for.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64.rs"]
mod devices;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64.rs"]
mod devices;

guests::guest!(passed);

#[cfg(target_os = "none")]
fn passed(machine: &'static guests::arch::Machine) -> guests::Exit {
    match devices::drive(machine) {
        Ok(()) => guests::Exit::Success,
        Err(what) => {
            guests::println!("passed: {what}");
            guests::Exit::Failure
        }
    }
}
