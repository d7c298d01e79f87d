//! The HPET Description Table (IA-PC HPET specification 1.0a, 3.2.4): where the high precision event timer is.

use crate::bytes::{u8_at, u64_at};

/// Where PCs have it, if no table says so (IA-PC HPET specification 1.0a, 2.3).
pub(crate) const USUAL: usize = 0xfed0_0000;
/// How many bytes of registers it has (2.3.1).
pub(crate) const SIZE: usize = 1024;

/// The address of its registers, which is a generic one: they are in memory.
pub(crate) fn address(table: &[u8]) -> Option<usize> {
    const BASE: usize = 40;
    const SYSTEM_MEMORY: u8 = 0;
    u8_at(table, BASE).filter(|&space| space == SYSTEM_MEMORY)?;
    let address = usize::try_from(u64_at(table, BASE + 4)?).ok()?;
    (address != 0).then_some(address)
}
