//! The Multiple APIC Description Table (ACPI 6.5, 5.2.12): CPUs and interrupt controllers.

use crate::bytes::{u8_at, u16_at, u32_at, u64_at};

/// An entry that this platform has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A CPU that may be started.
    Cpu { apic_id: u32 },
    IoApic {
        address: u32,
        /// The number of its first input among the machine's global system interrupts.
        first_gsi: u32,
    },
    /// An ISA interrupt that is not the global system interrupt of the same number, or not edge-triggered and active high.
    Override {
        isa_irq: u8,
        gsi: u32,
        signal: Signal,
    },
    /// The local APIC input that carries NMIs. Which CPUs it is said of does not matter: boards wire all alike.
    LocalNmi { lint: u8 },
    /// Where the local APICs are, if not where the header says.
    LocalApicAddress(u64),
}

/// How an interrupt line speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) polarity: Polarity,
    pub(crate) trigger: Trigger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polarity {
    ActiveHigh,
    ActiveLow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Edge,
    Level,
}

impl Signal {
    /// What the ISA bus has, and every line of which nothing else is said.
    pub(crate) const ISA: Self = Self {
        polarity: Polarity::ActiveHigh,
        trigger: Trigger::Edge,
    };

    /// Decodes MPS INTI flags (table 5.26).
    fn from_flags(flags: u16) -> Self {
        Self {
            polarity: match flags & 3 {
                3 => Polarity::ActiveLow,
                // "Conforms to the bus": overrides are of the ISA bus.
                _ => Polarity::ActiveHigh,
            },
            trigger: match flags >> 2 & 3 {
                3 => Trigger::Level,
                _ => Trigger::Edge,
            },
        }
    }
}

/// The address in the table's header at which every CPU sees its local APIC.
pub(crate) fn local_apic_address(madt: &[u8]) -> Option<u64> {
    let replaced = entries(madt).find_map(|entry| match entry {
        Entry::LocalApicAddress(address) => Some(address),
        Entry::Cpu { .. }
        | Entry::IoApic { .. }
        | Entry::Override { .. }
        | Entry::LocalNmi { .. } => None,
    });
    replaced.or_else(|| u32_at(madt, 36).map(u64::from))
}

/// The entries, in the table's order.
pub(crate) fn entries(madt: &[u8]) -> impl Iterator<Item = Entry> {
    const FIRST: usize = 44;
    let mut rest = madt.get(FIRST..).unwrap_or(&[]);
    core::iter::from_fn(move || {
        let len = usize::from(u8_at(rest, 1)?);
        // An entry shorter than its own header would stand still.
        let (entry, after) = rest.split_at_checked(len.max(2))?;
        rest = after;
        Some(entry)
    })
    .filter_map(decode)
}

fn decode(entry: &[u8]) -> Option<Entry> {
    /// Of a CPU's flags: it is there and works.
    const ENABLED: u32 = 1;
    match u8_at(entry, 0)? {
        0 if u32_at(entry, 4)? & ENABLED != 0 => Some(Entry::Cpu {
            apic_id: u32::from(u8_at(entry, 3)?),
        }),
        1 => Some(Entry::IoApic {
            address: u32_at(entry, 4)?,
            first_gsi: u32_at(entry, 8)?,
        }),
        2 => Some(Entry::Override {
            isa_irq: u8_at(entry, 3)?,
            gsi: u32_at(entry, 4)?,
            signal: Signal::from_flags(u16_at(entry, 8)?),
        }),
        4 => Some(Entry::LocalNmi {
            lint: u8_at(entry, 5)?,
        }),
        5 => u64_at(entry, 4).map(Entry::LocalApicAddress),
        9 if u32_at(entry, 8)? & ENABLED != 0 => Some(Entry::Cpu {
            apic_id: u32_at(entry, 4)?,
        }),
        10 => Some(Entry::LocalNmi {
            lint: u8_at(entry, 8)?,
        }),
        // CPUs that are off, and what this platform has no use for.
        _ => None,
    }
}
