//! This image's architecture, named once.
//!
//! Each architecture's module has the platform under ArceOS (`platform`), one vCPU's and one pCPU's hardware side (`VCpu`, `PerCpu`), the instruction set as
//! configs know it (`ISA`), what VMs (with what only this one has to say, `MachineInfo`) are told about the machine (`describe_machine`; the error says why its CPUs cannot run guests), what of its devices they can be given (`describe_devices`), how many CPUs
//! the machine has that one image does not serve (`unused_cpus`), how a host interrupt that took
//! a guest out is served (`serve_interrupt`), how pCPUs, or this one, forget nested translations (`flush_nested`, `forget_nested_here`), and how its
//! I/O ports are reached, if it has any (`read_port`, `write_port`).

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "riscv64")]
use riscv64 as this;
#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64 as this;

use axerrno::AxResult;
use axvcpu::{AxArchPerCpu, AxVCpuHal};

use crate::host::Host;

pub(crate) use this::{
    ISA, MachineInfo, PerCpu, VCpu, describe_devices, describe_machine, flush_nested,
    forget_nested_here, platform, read_port, serve_interrupt, unused_cpus, write_port,
};

/// Lets guests run on the current pCPU, if they cannot yet.
///
/// # Errors
/// Those of [`AxArchPerCpu::new`] and [`AxArchPerCpu::hardware_enable`].
pub(crate) fn enable_this_pcpu() -> AxResult {
    let mut pcpu = PerCpu::new(Host::this_pcpu())?;
    if pcpu.is_enabled() {
        Ok(())
    } else {
        pcpu.hardware_enable()
    }
}
