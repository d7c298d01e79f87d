//! The local vector table (Intel SDM volume 3, 12.5.1).

/// An entry: a source of interrupts within the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

/// What an entry's delivery mode asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalDelivery {
    Fixed,
    Nmi,
    Init,
    ExtInt,
    /// SMI, which there is none of, and the reserved ones.
    Nothing,
}

/// How the timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
}

const MODE_SHIFT: u32 = 8;
const MODE_BITS: u32 = 7 << MODE_SHIFT;
const DELIVERY_STATUS: u32 = 1 << 12;
const POLARITY: u32 = 1 << 13;
pub(super) const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const TIMER_PERIODIC: u32 = 1 << 17;
const TIMER_TSC_DEADLINE: u32 = 1 << 18;

impl Entry {
    const ALL: [Self; 6] = [
        Self::Timer,
        Self::Thermal,
        Self::Performance,
        Self::Lint0,
        Self::Lint1,
        Self::Error,
    ];

    pub(super) fn writable_bits(self) -> u32 {
        let own = match self {
            Self::Timer => TIMER_PERIODIC | TIMER_TSC_DEADLINE,
            Self::Thermal | Self::Performance => MODE_BITS,
            Self::Lint0 | Self::Lint1 => MODE_BITS | POLARITY | LEVEL,
            Self::Error => 0,
        };
        own | MASKED | 0xff
    }

    pub(super) fn read_only_bits(self) -> u32 {
        match self {
            Self::Lint0 | Self::Lint1 => DELIVERY_STATUS | REMOTE_IRR,
            Self::Timer | Self::Thermal | Self::Performance | Self::Error => DELIVERY_STATUS,
        }
    }
}

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Lvt {
    entries: [u32; Entry::ALL.len()],
}

impl Lvt {
    /// As after power-on: all masked.
    pub(super) fn new() -> Self {
        Self {
            entries: [MASKED; Entry::ALL.len()],
        }
    }

    /// Lets the pin LINT0 through to an 8259, as firmware leaves the first processor ("virtual wire mode").
    pub(super) fn wire_ext_int(&mut self) {
        *self.entry_mut(Entry::Lint0) = 7 << MODE_SHIFT;
    }

    /// Masks all, as switching the local APIC off by software does.
    pub(super) fn mask_all(&mut self) {
        for entry in &mut self.entries {
            *entry |= MASKED;
        }
    }

    pub(super) fn mask(&mut self, entry: Entry) {
        *self.entry_mut(entry) |= MASKED;
    }

    pub(super) fn get(&self, entry: Entry) -> u32 {
        let [timer, thermal, performance, lint0, lint1, error] = self.entries;
        match entry {
            Entry::Timer => timer,
            Entry::Thermal => thermal,
            Entry::Performance => performance,
            Entry::Lint0 => lint0,
            Entry::Lint1 => lint1,
            Entry::Error => error,
        }
    }

    fn entry_mut(&mut self, entry: Entry) -> &mut u32 {
        let [timer, thermal, performance, lint0, lint1, error] = &mut self.entries;
        match entry {
            Entry::Timer => timer,
            Entry::Thermal => thermal,
            Entry::Performance => performance,
            Entry::Lint0 => lint0,
            Entry::Lint1 => lint1,
            Entry::Error => error,
        }
    }

    /// Writes what exists of `value`.
    pub(super) fn set(&mut self, entry: Entry, value: u32) {
        let writable = entry.writable_bits();
        let place = self.entry_mut(entry);
        *place = *place & !writable | value & writable;
    }

    pub(super) fn set_remote_irr(&mut self, entry: Entry) {
        *self.entry_mut(entry) |= REMOTE_IRR;
    }

    pub(super) fn clear_remote_irr(&mut self, entry: Entry) {
        *self.entry_mut(entry) &= !REMOTE_IRR;
    }

    pub(super) fn is_masked(&self, entry: Entry) -> bool {
        self.get(entry) & MASKED != 0
    }

    pub(super) fn vector(&self, entry: Entry) -> u8 {
        self.get(entry) as u8
    }

    /// Whether the pin of `entry` asks by its level. LINT1 and all but fixed interrupts do by an edge.
    pub(super) fn is_level(&self, entry: Entry) -> bool {
        entry == Entry::Lint0
            && self.get(entry) & LEVEL != 0
            && self.delivery(entry) == LocalDelivery::Fixed
    }

    pub(super) fn delivery(&self, entry: Entry) -> LocalDelivery {
        match entry {
            Entry::Timer | Entry::Error => LocalDelivery::Fixed,
            Entry::Thermal | Entry::Performance | Entry::Lint0 | Entry::Lint1 => {
                match (self.get(entry) & MODE_BITS) >> MODE_SHIFT {
                    0 => LocalDelivery::Fixed,
                    4 => LocalDelivery::Nmi,
                    5 => LocalDelivery::Init,
                    7 => LocalDelivery::ExtInt,
                    _ => LocalDelivery::Nothing,
                }
            }
        }
    }

    /// Bit 18 decides alone: with bit 17 it is reserved.
    pub(super) fn timer_mode(&self) -> TimerMode {
        let entry = self.get(Entry::Timer);
        if entry & TIMER_TSC_DEADLINE != 0 {
            TimerMode::TscDeadline
        } else if entry & TIMER_PERIODIC != 0 {
            TimerMode::Periodic
        } else {
            TimerMode::OneShot
        }
    }
}
