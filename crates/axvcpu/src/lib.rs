//! The vCPU, the same on every architecture.
//!
//! [`AxVCpu`] holds the state machine around an architecture's vCPU ([`AxArchVCpu`]); [`AxVCpuExitReason`] is why it stopped;
//! [`Mailbox`] is how the other pCPUs reach it; [`AxVCpuHal`] is what it asks of its host.

#![no_std]

extern crate alloc;

mod arch;
mod exit;
mod hal;
mod mailbox;

pub use arch::{AxArchPerCpu, AxArchVCpu, HypercallError, LineLevel};
pub use exit::{
    AccessWidth, AxVCpuExitReason, ConsoleCall, FailReason, Fence, RawExit, SystemDownKind, VCpuSet,
};
pub use hal::AxVCpuHal;
pub use mailbox::{Mail, Mailbox};
