//! Where the PLIC's registers are (specification, "Memory Map").

use axvcpu::AccessWidth;

use crate::AccessFault;

const PRIORITY_END: u64 = 0x1000;
const PENDING: u64 = 0x1000;
const PENDING_END: u64 = 0x1080;
const ENABLE: u64 = 0x2000;
const ENABLE_STRIDE: u64 = 0x80;
const ENABLE_END: u64 = 0x1f_2000;
const CONTEXT: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;
const CONTEXT_END: u64 = 0x400_0000;

/// A register. That the source, word or context exists is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// The priority of a source.
    Priority { source: usize },
    /// The pending bits of sources `32 * word` to `32 * word + 31`.
    Pending { word: usize },
    /// The enable bits of as many sources in a context.
    Enable { context: usize, word: usize },
    /// The priority that a source must exceed for the context to be notified.
    Threshold { context: usize },
    /// Read: claim. Write: completion.
    Claim { context: usize },
    /// None.
    Reserved,
}

impl Register {
    /// The register of an access.
    pub(super) fn at(offset: u64, width: AccessWidth) -> Result<Self, AccessFault> {
        if width != AccessWidth::Dword || offset & 3 != 0 {
            return Err(AccessFault);
        }
        // All offsets below are under 64 MiB: no conversion cuts anything off.
        Ok(match offset {
            ..PRIORITY_END => Self::Priority {
                source: offset as usize / 4,
            },
            PENDING..PENDING_END => Self::Pending {
                word: (offset - PENDING) as usize / 4,
            },
            ENABLE..ENABLE_END => Self::Enable {
                context: ((offset - ENABLE) / ENABLE_STRIDE) as usize,
                word: ((offset - ENABLE) % ENABLE_STRIDE) as usize / 4,
            },
            CONTEXT..CONTEXT_END => {
                let context = ((offset - CONTEXT) / CONTEXT_STRIDE) as usize;
                match (offset - CONTEXT) % CONTEXT_STRIDE {
                    0 => Self::Threshold { context },
                    4 => Self::Claim { context },
                    _ => Self::Reserved,
                }
            }
            _ => Self::Reserved,
        })
    }
}
