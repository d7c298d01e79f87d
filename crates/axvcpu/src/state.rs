//! The states of a vCPU, and what goes wrong on the way between them.

use core::fmt;

use axerrno::{AxError, AxErrorKind};

/// Where a vCPU stands.
///
/// ```text
/// Created ──setup──▶ Free ◀──bind / unbind──▶ Ready ◀──run──▶ Running
///                     ▲
///                     └──block / unblock──▶ Blocked
/// ```
///
/// A broken order or a failure anywhere leads to `Invalid`, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum VCpuState {
    /// It exists, but has no registers, no entry and no memory yet.
    Created,
    /// It could run, and belongs to no pCPU.
    Free,
    /// It belongs to a pCPU, outside its guest.
    Ready,
    /// It is in its guest, or on the way in or out.
    Running,
    /// It waits for an interrupt, or to be started, and belongs to no pCPU.
    Blocked,
    /// Something went wrong; it never runs again.
    Invalid,
}

impl VCpuState {
    /// The state with this discriminant. What is none of them is as good as broken.
    pub(crate) const fn from_u8(raw: u8) -> Self {
        const CREATED: u8 = VCpuState::Created as u8;
        const FREE: u8 = VCpuState::Free as u8;
        const READY: u8 = VCpuState::Ready as u8;
        const RUNNING: u8 = VCpuState::Running as u8;
        const BLOCKED: u8 = VCpuState::Blocked as u8;
        match raw {
            CREATED => Self::Created,
            FREE => Self::Free,
            READY => Self::Ready,
            RUNNING => Self::Running,
            BLOCKED => Self::Blocked,
            _ => Self::Invalid,
        }
    }

    /// Whether a vCPU in this state belongs to a pCPU.
    pub(crate) const fn is_bound(self) -> bool {
        match self {
            Self::Ready | Self::Running => true,
            Self::Created | Self::Free | Self::Blocked | Self::Invalid => false,
        }
    }
}

impl fmt::Display for VCpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Free => "free",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Invalid => "invalid",
        })
    }
}

/// Why an operation on a vCPU did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VCpuError {
    /// Someone else, most likely the pCPU that runs it, has the vCPU. Nothing changed; trying again later may work.
    Busy,
    /// The vCPU was not in the state in which the operation begins.
    WrongState {
        /// What was tried.
        operation: &'static str,
        /// Where the operation begins.
        expected: VCpuState,
        /// Where the vCPU was.
        found: VCpuState,
    },
    /// The operation began and failed. The vCPU is [`Invalid`](VCpuState::Invalid) now.
    Failed {
        /// What was tried.
        operation: &'static str,
        /// Where the operation began.
        from: VCpuState,
        /// Where it would have led.
        to: VCpuState,
        /// Why it failed.
        error: AxError,
    },
}

impl fmt::Display for VCpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the vCPU is busy"),
            Self::WrongState {
                operation,
                expected,
                found,
            } => {
                write!(
                    f,
                    "{operation} needs a vCPU that is {expected}, and this one is {found}"
                )
            }
            Self::Failed {
                operation,
                from,
                to,
                error,
            } => {
                write!(
                    f,
                    "{operation} failed on the way from {from} to {to}: {error}"
                )
            }
        }
    }
}

impl core::error::Error for VCpuError {}

impl From<VCpuError> for AxError {
    fn from(error: VCpuError) -> Self {
        match error {
            VCpuError::Busy => AxErrorKind::ResourceBusy.into(),
            VCpuError::WrongState { .. } => AxErrorKind::BadState.into(),
            VCpuError::Failed { error, .. } => error,
        }
    }
}
