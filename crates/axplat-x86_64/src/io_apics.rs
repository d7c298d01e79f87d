//! The machine's I/O APICs, as the MADT lists them: all, since one that is forgotten would keep what firmware left open, and could be given to a VM.

use crate::acpi::madt::Entry;

/// One I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoApic {
    pub(crate) address: usize,
    /// The global system interrupt of its first input.
    pub(crate) first_gsi: u32,
}

const MAX: usize = 32;

/// All of them, kept without a heap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApics {
    list: [IoApic; MAX],
    count: usize,
}

/// There are more than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl IoApics {
    pub(crate) const fn new() -> Self {
        let none = IoApic {
            address: 0,
            first_gsi: 0,
        };
        Self {
            list: [none; MAX],
            count: 0,
        }
    }

    /// Those among the MADT's entries.
    pub(crate) fn from_entries(entries: impl Iterator<Item = Entry>) -> Result<Self, TooMany> {
        let mut all = Self::new();
        for entry in entries {
            match entry {
                Entry::IoApic { address, first_gsi } => {
                    let address = address as usize;
                    let slot = all.list.get_mut(all.count).ok_or(TooMany)?;
                    *slot = IoApic { address, first_gsi };
                    all.count += 1;
                }
                Entry::Cpu { .. }
                | Entry::Override { .. }
                | Entry::LocalNmi { .. }
                | Entry::LocalApicAddress(_) => {}
            }
        }
        Ok(all)
    }

    pub(crate) fn as_slice(&self) -> &[IoApic] {
        self.list.get(..self.count).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
