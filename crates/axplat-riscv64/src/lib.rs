//! The ArceOS platform of AxHV's riscv64 image.
//!
//! Nothing about the machine is fixed when the image is built: harts, RAM, reserved memory, timebase, interrupt controller and UART are read from the
//! device tree that the firmware hands over (`machine`). What ArceOS asks of a platform is implemented on that, one module a trait of `axplat`;
//! beyond it, a hypervisor needs timers (`timer`) that share the hart's timer with the scheduler's tick, and a kick (`irq`) that
//! takes a remote pCPU out of a guest or out of its sleep.
//!
//! The modules that touch no hart, `machine` and `uart`, are also compiled for tests on the developer's machine. There the crate is otherwise empty.

#![cfg_attr(target_os = "none", no_std)]
#![cfg(any(target_os = "none", test))]
// Their callers are missing in tests.
#![cfg_attr(test, allow(dead_code))]

#[cfg(target_os = "none")]
#[macro_use]
extern crate axplat;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod firmware;
#[cfg(target_os = "none")]
mod init;
#[cfg(target_os = "none")]
pub mod irq;
mod machine;
#[cfg(target_os = "none")]
mod mem;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
mod timer;
mod uart;

#[cfg(target_os = "none")]
pub use machine::found::machine;
pub use machine::{Hart, Machine, Owned};
#[cfg(target_os = "none")]
pub use timer::HartTimer as Timer;

mod config {
    #![allow(missing_docs)]
    axconfig_macros::include_configs!(
        path_env = "AX_CONFIG_PATH",
        fallback = "../../configs/platforms/riscv64.toml"
    );
    #[cfg(target_os = "none")]
    assert_str_eq!(
        PACKAGE,
        env!("CARGO_PKG_NAME"),
        "AX_CONFIG_PATH names the config of another platform"
    );
}
