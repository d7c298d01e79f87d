//! What goes wrong with an address space, in words that name the range.

use core::fmt;

use axerrno::AxErrorKind;

use crate::{GuestPhysAddr, MappingFlags};

/// Why an address space was not made or changed. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrSpaceError {
    /// The host has no frame for the memory or its tables.
    OutOfMemory {
        /// First address; of the whole address space: 0.
        start: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
    /// The length is zero, or it or an address is not a multiple of 4 KiB.
    Misaligned {
        /// First address.
        start: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
    /// The range, or the host memory behind it, ends past what the nested paging mode can address.
    TooHigh {
        /// First address.
        start: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
    /// Another region is there.
    Overlap {
        /// First address.
        start: GuestPhysAddr,
        /// Bytes.
        len: u64,
        /// First address of the other.
        other_start: GuestPhysAddr,
        /// Bytes of the other.
        other_len: u64,
    },
    /// The hardware has no such permissions (READ must be among them), or the guest's RAM is said to be a device.
    BadFlags {
        /// First address.
        start: GuestPhysAddr,
        /// Bytes.
        len: u64,
        /// Which.
        flags: MappingFlags,
    },
    /// Somebody relies on the RAM's staying where it is ([`FixedRam`](crate::FixedRam)).
    Held {
        /// First address.
        start: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
}

impl fmt::Display for AddrSpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { start, len } => {
                write!(f, "no memory left for {len:#x} bytes at {start}")
            }
            Self::Misaligned { start, len } => {
                write!(f, "{len:#x} bytes at {start} are not whole pages of 4 KiB")
            }
            Self::TooHigh { start, len } => {
                write!(
                    f,
                    "{len:#x} bytes at {start} end past what nested paging can address"
                )
            }
            Self::Overlap {
                start,
                len,
                other_start,
                other_len,
            } => write!(
                f,
                "{len:#x} bytes at {start} overlap the {other_len:#x} bytes that are at {other_start}"
            ),
            Self::BadFlags { start, len, flags } => {
                write!(
                    f,
                    "{len:#x} bytes at {start} cannot have the permissions {flags:?}"
                )
            }
            Self::Held { start, len } => {
                write!(f, "{len:#x} bytes at {start} are held where they are")
            }
        }
    }
}

impl core::error::Error for AddrSpaceError {}

impl From<AddrSpaceError> for AxErrorKind {
    fn from(error: AddrSpaceError) -> Self {
        match error {
            AddrSpaceError::OutOfMemory { .. } => Self::NoMemory,
            AddrSpaceError::Misaligned { .. } | AddrSpaceError::BadFlags { .. } => {
                Self::InvalidInput
            }
            AddrSpaceError::TooHigh { .. } => Self::OutOfRange,
            AddrSpaceError::Overlap { .. } => Self::AlreadyExists,
            AddrSpaceError::Held { .. } => Self::ResourceBusy,
        }
    }
}

/// Why bytes of guest memory were not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestMemoryError {
    /// Not all of it is RAM.
    NotRam {
        /// First address.
        gpa: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
    /// The guest itself may not do that there.
    Denied {
        /// First address.
        gpa: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
    /// The memory is filled on first touch, and the host has no frame. What comes before the missing page may have been done.
    OutOfMemory {
        /// First address.
        gpa: GuestPhysAddr,
        /// Bytes.
        len: u64,
    },
}

impl fmt::Display for GuestMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gpa, len, why) = match self {
            Self::NotRam { gpa, len } => (gpa, len, "are not all RAM"),
            Self::Denied { gpa, len } => (gpa, len, "do not allow that access"),
            Self::OutOfMemory { gpa, len } => (gpa, len, "find no memory on first touch"),
        };
        write!(f, "{len:#x} bytes of guest memory at {gpa} {why}")
    }
}

impl core::error::Error for GuestMemoryError {}

impl From<GuestMemoryError> for AxErrorKind {
    fn from(error: GuestMemoryError) -> Self {
        match error {
            GuestMemoryError::NotRam { .. } => Self::BadAddress,
            GuestMemoryError::Denied { .. } => Self::PermissionDenied,
            GuestMemoryError::OutOfMemory { .. } => Self::NoMemory,
        }
    }
}
