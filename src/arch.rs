//! This image's architecture, named once.
//!
//! Each architecture's module has
//!
//! - `platform`: the platform under ArceOS;
//! - `VCpu`, `PerCpu`: the hardware side of a vCPU and of a pCPU;
//! - `ISA`: the instruction set as configs know it;
//! - `describe_machine`: what VMs are told of the machine, `MachineInfo` being what only this one
//!   has to say; its error says why the CPUs cannot run guests;
//! - `describe_devices`: what of the machine's devices VMs can be given, and what not;
//! - `unused_cpus`: how many CPUs the machine has that one image does not serve;
//! - `serve_interrupt`: what follows when a host interrupt has taken a guest out;
//! - `flush_nested`, `forget_nested_here`: how pCPUs, or this one, forget nested translations;
//! - `read_port`, `write_port`: how its I/O ports are reached, if it has any.

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
