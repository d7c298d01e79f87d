//! What goes wrong with a VM, in words that name it.

use alloc::string::String;
use core::fmt;

use axaddrspace::{AddrSpaceError, GuestMemoryError};
use axerrno::AxError;
use axvcpu::VCpuError;
use axvmconfig::ConfigError;

/// Why a VM could not be made, started or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmError {
    /// The VM's name.
    pub vm: String,
    /// Why.
    pub cause: VmErrorCause,
}

/// Why a VM could not be made, started or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmErrorCause {
    /// Its config asks for what cannot be.
    Config(ConfigError),
    /// Its address space could not be made, or not be emptied.
    Memory(AddrSpaceError),
    /// Its RAM could not be emptied.
    Ram(GuestMemoryError),
    /// A vCPU could not be made.
    NewVCpu {
        /// Which.
        vcpu: usize,
        /// Why.
        error: AxError,
    },
    /// A vCPU did not do what it was asked.
    VCpu {
        /// Which.
        vcpu: usize,
        /// Why.
        error: VCpuError,
    },
    /// It has no vCPU of this number.
    NoSuchVCpu(usize),
    /// It runs already.
    Running,
}

impl fmt::Display for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm {:?}: {}", self.vm, self.cause)
    }
}

impl fmt::Display for VmErrorCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Ram(error) => write!(f, "{error}"),
            Self::NewVCpu { vcpu, error } => write!(f, "vCPU {vcpu} cannot be made: {error}"),
            Self::VCpu { vcpu, error } => write!(f, "vCPU {vcpu}: {error}"),
            Self::NoSuchVCpu(vcpu) => write!(f, "there is no vCPU {vcpu}"),
            Self::Running => write!(f, "it runs already"),
        }
    }
}

impl core::error::Error for VmError {}

impl From<ConfigError> for VmErrorCause {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<AddrSpaceError> for VmErrorCause {
    fn from(error: AddrSpaceError) -> Self {
        Self::Memory(error)
    }
}
