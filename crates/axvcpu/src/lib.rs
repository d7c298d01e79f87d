//! The vCPU, the same on every architecture.
//!
//! [`AxVCpu`] holds the state machine around an architecture's vCPU ([`AxArchVCpu`]); [`AxVCpuExitReason`] is why it stopped;
//! [`Mailbox`] is how the other pCPUs reach it; [`Account`] is what its time went into; [`Residence`] says where its state is; [`AxVCpuHal`] is what it
//! asks of its host.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
mod arch;
mod devices;
mod exit;
mod hal;
mod mailbox;
mod residence;
mod state;
mod vcpu;

pub use account::{ACCOUNT_CALL, Account, ExitKinds, MAX_EXIT_KINDS, Statement};
pub use arch::{AxArchPerCpu, AxArchVCpu, HypercallError, LineLevel, Wait, WaitKind};
pub use devices::{
    AtHostInterrupt, DeviceAccess, MmioRegisters, MmioWindow, NoDevices, PortWindow,
};
pub use exit::{
    AccessWidth, AxVCpuExitReason, ConsoleCall, FailReason, Fence, RawExit, ResetCause,
    SystemDownKind, VCpuSet,
};
pub use hal::AxVCpuHal;
pub use mailbox::{DEVICE_LETTER, Mail, Mailbox};
pub use residence::{Home, MAX_CPUS, PcpuCell, Residence, Sharing};
pub use state::{VCpuError, VCpuState};
pub use vcpu::AxVCpu;
