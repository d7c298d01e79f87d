//! What local APICs and I/O APICs send to one another, and to whom (Intel SDM volume 3, 12.6.1, 12.6.2 and 12.11).

/// How a vector's interrupt came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerMode {
    /// Once, at an edge.
    Edge,
    /// By a line that stays until it is served: its end is told to the I/O APICs.
    Level,
}

/// What a message does at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Interrupt `vector` at every destination.
    Fixed {
        /// The vector.
        vector: u8,
        /// How it came about.
        trigger: TriggerMode,
    },
    /// Interrupt `vector` at the destination that does the least urgent thing.
    LowestPriority {
        /// The vector.
        vector: u8,
        /// How it came about.
        trigger: TriggerMode,
    },
    /// A non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// A start-up IPI.
    Startup {
        /// The number of the 4 KiB page where the vCPU starts.
        page: u8,
    },
    /// An interrupt whose vector an 8259 knows.
    ExtInt,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The local APIC of this ID.
    Physical(u32),
    /// The local APICs whose logical ID matches.
    Logical(u32),
    /// All.
    Everyone,
    /// All but the sender.
    Others,
}

impl Destination {
    /// What the eight bits of an xAPIC's ICR, of a redirection entry, or of an MSI's address mean.
    #[must_use]
    pub fn of_eight_bits(bits: u8, mode: DestinationMode) -> Self {
        match (bits, mode) {
            (0xff, _) => Self::Everyone,
            (bits, DestinationMode::Physical) => Self::Physical(bits.into()),
            (bits, DestinationMode::Logical) => Self::Logical(bits.into()),
        }
    }

    /// What the 32 bits of an x2APIC's ICR mean.
    #[must_use]
    pub fn of_32_bits(bits: u32, mode: DestinationMode) -> Self {
        match (bits, mode) {
            (u32::MAX, _) => Self::Everyone,
            (bits, DestinationMode::Physical) => Self::Physical(bits),
            (bits, DestinationMode::Logical) => Self::Logical(bits),
        }
    }
}

/// How a destination's bits are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationMode {
    /// As a local APIC's ID.
    Physical,
    /// Against the logical IDs.
    Logical,
}

impl DestinationMode {
    /// As the bit of ICR, redirection entry or MSI address says it.
    #[must_use]
    pub fn of_bit(set: bool) -> Self {
        if set { Self::Logical } else { Self::Physical }
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub destination: Destination,
    /// What it does there.
    pub delivery: Delivery,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Somebody took it.
    Accepted,
    /// Nobody did: there is nobody, or it is switched off.
    Refused,
}
