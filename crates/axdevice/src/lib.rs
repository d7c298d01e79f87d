//! The devices of a VM.
//!
//! [`AxVmDevices`] finds the device behind an address; [`Device`] is what it finds; [`IrqLine`] is how a device asks for attention and
//! [`CpuInterrupts`] how an interrupt controller passes that on to a vCPU. The register models are [`Uart16550`] and [`Plic`], and for a PC the
//! [`LocalApic`]s on their [`ApicBus`], [`IoApic`], [`Pic8259`], [`Pit8254`], [`CmosRtc`], [`AcpiPm`] and a few ports. All of them know
//! registers, lines and bytes only: no hypervisor, no host. ([`PassedInterrupt`] and [`PassedPorts`] are the machine's own, by way of
//! [`HostDevices`].) Those that have anything to do with time read a [`Clock`], and are [`Timed`].
//!
//! Locks nest in one order: a device's own, then its interrupt controller's, then whatever stands behind [`CpuInterrupts`]; a
//! [`CharBackend`]'s comes after its device's. Nothing calls back up. None of these locks is for interrupt handlers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acpi_pm;
mod bus;
mod char_backend;
mod debug_port;
mod device;
mod i8042;
mod ioapic;
mod irq;
mod isa;
mod lapic;
mod local;
mod passed;
mod pci_none;
mod pic;
mod pit;
mod plic;
mod power;
mod rtc;
#[cfg(test)]
mod testing;
mod timed;
mod uart16550;

pub use acpi_pm::{AcpiPm, TimerWidth};
pub use bus::{AxVmDevices, AxVmDevicesBuilder, BuildError, BusError, BusKind, DeviceRange};
pub use char_backend::CharBackend;
pub use debug_port::DebugPort;
pub use device::{AccessFault, Device};
pub use i8042::I8042;
pub use ioapic::IoApic;
pub use irq::{CpuInterrupts, InterruptController, IrqLine};
pub use isa::IsaLines;
pub use lapic::{
    Acceptance, ApicBus, Delivery, Destination, DestinationMode, LocalApic, Message, TriggerMode,
};
pub use local::{
    ApicMode, CpuEvents, HandOver, InterruptFlag, Keeps, LocalInterrupts, Schedule, Standing,
};
pub use passed::{
    Arrival, HostDevices, HostTrigger, NoHostDevices, NotLed, PassedInterrupt, PassedPorts,
    ServedInterrupt,
};
pub use pci_none::NoPci;
pub use pic::Pic8259;
pub use pit::Pit8254;
pub use plic::{Plic, PlicError};
pub use power::SystemPower;
pub use rtc::CmosRtc;
pub(crate) use timed::SharedClock;
pub use timed::{Clock, Timed};
pub use uart16550::{RegisterLayout, Uart16550};
