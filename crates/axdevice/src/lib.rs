//! The devices of a VM.
//!
//! [`AxVmDevices`] finds the device behind an address; [`Device`] is what it finds; [`IrqLine`] is how a device asks for attention and
//! [`CpuInterrupts`] how an interrupt controller passes that on to a vCPU. The register models are [`Uart16550`] and [`Plic`]. All of them know
//! registers, lines and bytes only: no hypervisor, no host, no time.
//!
//! Locks nest in one order: a device's own, then its interrupt controller's, then whatever stands behind [`CpuInterrupts`]; a
//! [`CharBackend`]'s comes after its device's. Nothing calls back up. None of these locks is for interrupt handlers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bus;
mod char_backend;
mod device;
mod ioapic;
mod irq;
mod lapic;
mod local;
mod pic;
mod pit;
mod plic;
mod power;
mod rtc;
#[cfg(test)]
mod testing;
mod timed;
mod uart16550;

pub use bus::{AxVmDevices, AxVmDevicesBuilder, BuildError, BusError, BusKind, DeviceRange};
pub use char_backend::CharBackend;
pub use device::{AccessFault, Device};
pub use ioapic::IoApic;
pub use irq::{CpuInterrupts, InterruptController, IrqLine};
pub use lapic::{
    Acceptance, ApicBus, Delivery, Destination, DestinationMode, LocalApic, Message, TriggerMode,
};
pub use local::{CpuEvents, LocalInterrupts};
pub use pic::Pic8259;
pub use pit::Pit8254;
pub use plic::{Plic, PlicError};
pub use power::SystemPower;
pub use rtc::CmosRtc;
pub use timed::{Clock, Timed};
pub use uart16550::{RegisterLayout, Uart16550};
