//! The ArceOS platform of AxHV's x86_64 image.
//!
//! Nothing about the machine is fixed when the image is built: a Multiboot loader (GRUB, or QEMU's `-kernel`) says what RAM there is, ACPI's tables
//! say which CPUs and interrupt controllers, and the clocks are measured ([`Machine`]). What ArceOS asks of a platform is implemented on that, one
//! module a trait of `axplat`; beyond it, a hypervisor needs [timers](Timer) that share the CPU's timer with the scheduler's tick, a
//! [kick](irq::kick) that takes a remote pCPU out of a guest or out of its sleep, [calls](irq::run_on) of CPUs, and
//! [access to MSRs](safe_rdmsr) that may not be there.

#![no_std]
// On the developer's machine only the parts without hardware are built, for their tests.
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, rustdoc::broken_intra_doc_links)
)]

#[cfg(target_os = "none")]
#[macro_use]
extern crate axplat;

#[cfg(test)]
extern crate std;

mod acpi;
mod bytes;
mod calibration;
mod cpus;
mod io_apics;
mod multiboot;
mod redirection;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod clock;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod init;
#[cfg(target_os = "none")]
mod ioapic;
#[cfg(target_os = "none")]
pub mod irq;
#[cfg(target_os = "none")]
mod lapic;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod mem;
#[cfg(target_os = "none")]
mod msr;
#[cfg(target_os = "none")]
mod owned;
#[cfg(target_os = "none")]
mod paging;
#[cfg(target_os = "none")]
pub mod port;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
mod rtc;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
mod traps;

pub use cpus::Cpu;
#[cfg(target_os = "none")]
pub use machine::{Machine, machine};
#[cfg(target_os = "none")]
pub use msr::{safe_rdmsr, safe_wrmsr};
#[cfg(target_os = "none")]
pub use owned::{Input, Owned, Space, phys_bits};
#[cfg(target_os = "none")]
pub use timer::ApicTimer as Timer;

#[cfg(target_os = "none")]
mod config {
    #![allow(missing_docs)]
    axconfig_macros::include_configs!(
        path_env = "AX_CONFIG_PATH",
        fallback = "../../configs/platforms/x86_64.toml"
    );
    assert_str_eq!(
        PACKAGE,
        env!("CARGO_PKG_NAME"),
        "AX_CONFIG_PATH names the config of another platform"
    );
}
