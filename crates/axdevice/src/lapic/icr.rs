//! The interrupt command register (Intel SDM volume 3, 12.6.1 and 12.12.9).

use super::message::{Delivery, Destination, DestinationMode, Message, TriggerMode};
use super::mode::Mode;

/// Delivery status. A message is gone at once, so that it is never set.
pub(super) const DELIVERY_STATUS: u64 = 1 << 12;
const LOGICAL: u64 = 1 << 11;
const ASSERT: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;

/// What a write of the register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// To interrupt this very processor.
    Own(u8),
    Send(Message),
    /// To send a vector that must not be.
    IllegalVector,
    /// Nothing: SMI and what is reserved, and the de-assertion of INIT, which means nothing to processors since the Pentium 4.
    Nothing,
}

impl Command {
    /// The command that `icr` holds, of a local APIC with this ID.
    pub(super) fn of(icr: u64, id: u32, mode: Mode) -> Self {
        let vector = icr as u8;
        // Whatever the trigger mode says, an IPI is an edge.
        let trigger = TriggerMode::Edge;
        let delivery = match icr >> 8 & 7 {
            0 | 1 if vector < 16 => return Self::IllegalVector,
            0 => Delivery::Fixed { vector, trigger },
            1 => Delivery::LowestPriority { vector, trigger },
            4 => Delivery::Nmi,
            5 if icr & (LEVEL | ASSERT) == LEVEL => return Self::Nothing,
            5 => Delivery::Init,
            6 => Delivery::Startup { page: vector },
            _ => return Self::Nothing,
        };
        let destination = match (icr >> 18 & 3, delivery) {
            (0, _) => Self::destination(icr, mode),
            (1, Delivery::Fixed { vector, .. } | Delivery::LowestPriority { vector, .. }) => {
                return Self::Own(vector);
            }
            (1, _) => Destination::Physical(id),
            (2, _) => Destination::Everyone,
            (_, _) => Destination::Others,
        };
        Self::Send(Message {
            destination,
            delivery,
        })
    }

    fn destination(icr: u64, mode: Mode) -> Destination {
        let bits = (icr >> 32) as u32;
        let how = DestinationMode::of_bit(icr & LOGICAL != 0);
        match mode {
            Mode::X2Apic => Destination::of_32_bits(bits, how),
            Mode::XApic | Mode::Disabled => Destination::of_eight_bits((bits >> 24) as u8, how),
        }
    }
}
