//! The ArceOS platform of AxHV's riscv64 image.
//!
//! Nothing about the machine is fixed when the image is built: harts, RAM, reserved memory, timebase, interrupt controller and UART are read from the
//! device tree that the firmware hands over ([`Machine`]). What ArceOS asks of a platform is implemented on that, one module a trait of `axplat`;
//! beyond it, a hypervisor needs [timers](timer) that share the hart's timer with the scheduler's tick, and a [kick](irq::kick) that
//! takes a remote pCPU out of a guest or out of its sleep.

#![no_std]

#[macro_use]
extern crate axplat;

mod boot;
pub mod console;
mod init;
pub mod irq;
mod machine;
mod mem;
pub mod power;
pub mod timer;

pub use machine::{Hart, Machine, machine};

mod config {
    #![allow(missing_docs)]
    axconfig_macros::include_configs!(
        path_env = "AX_CONFIG_PATH",
        fallback = "../../configs/platforms/riscv64.toml"
    );
    assert_str_eq!(
        PACKAGE,
        env!("CARGO_PKG_NAME"),
        "AX_CONFIG_PATH names the config of another platform"
    );
}
