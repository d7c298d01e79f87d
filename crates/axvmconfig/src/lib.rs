//! The VM config: what a TOML file may say about a VM, and what holds for all VMs together.
//!
//! A file becomes a [`VmConfig`] by [`VmConfig::parse`], which reads it, fills in the defaults of the
//! [`Isa`] and applies every rule that concerns one VM alone. [`validate`] then holds all VMs against one
//! another and against the machine. Both report every error they find, each with its file, line and key,
//! and neither lets one wrong VM stand in the way of another.
//!
//! [`bundle`] is the archive in which configs and images travel to the hypervisor. `docs/vm-config.md`
//! is the user's guide to all of this.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bundle;
mod config;
mod error;
mod isa;
pub mod keys;
mod parse;
mod passed;
mod pcpu;
mod size;
mod start;
mod validate;

pub use axvcpu::Sharing;
pub use bundle::Bundle;
pub use config::{
    Blob, DeviceModel, KernelConfig, KernelFormat, MapKind, MemoryRegion, VCpuPlacement,
    VirtualDevice, VmConfig,
};
pub use error::{ConfigError, Source};
pub use isa::{DeviceSpace, GuestMap, Isa, Window, X86_ACPI_PORTS};
pub use passed::{
    Dma, HostRange, IrqTrigger, MachineDevices, MachineIrq, Master, PassedDevice, PassedIrq,
    PassedPorts, PassedRegisters, Taken,
};
pub use pcpu::PcpuSet;
pub use size::{Size, SizeError, parse_size};
pub use start::{NotStarted, Starter, start_all};
pub use validate::{MachineLimits, Refusal, validate};
