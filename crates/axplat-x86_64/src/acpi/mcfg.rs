//! The MCFG table (PCI Firmware Specification 3.3, 4.1.2): where PCI's configuration space is in memory.

use crate::bytes::{u8_at, u64_at};

/// The ranges of addresses of all buses that it tells of: start and size.
pub(crate) fn ranges(table: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    const FIRST: usize = 44;
    const ENTRY: usize = 16;
    let entries = table.get(FIRST..).unwrap_or(&[]).chunks_exact(ENTRY);
    entries.filter_map(|entry| {
        // The base is that of bus 0, and each bus has a MiB (PCI Express Base Specification, "Enhanced Configuration Access Mechanism").
        let base = usize::try_from(u64_at(entry, 0)?).ok()?;
        let (first, last) = (usize::from(u8_at(entry, 10)?), u8_at(entry, 11)?.into());
        let buses = (first..=last).count();
        let start = base.checked_add(first << 20)?;
        (buses != 0 && start.checked_add(buses << 20).is_some()).then_some((start, buses << 20))
    })
}
