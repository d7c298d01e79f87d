//! The machine's own devices that a VM is given: passed through, not emulated.

use alloc::{string::String, vec::Vec};
use core::fmt;

use axaddrspace::{GuestPhysAddr, HostPhysAddr};

use crate::{DeviceSpace, Isa, Window};

/// A device of the machine that a VM has for itself. It has registers in memory, at I/O ports, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedDevice {
    /// Its name, which no other device of the VM has: 1 to 32 visible ASCII characters.
    pub id: String,
    /// Its registers in memory.
    pub registers: Option<PassedRegisters>,
    /// Its registers at I/O ports, which are the same for the guest.
    pub ports: Option<PassedPorts>,
    /// Its interrupt.
    pub irq: Option<PassedIrq>,
    /// What the guest's device tree calls it; `None`: it has no node there.
    pub compatible: Option<String>,
    /// What it may do to memory.
    pub dma: Dma,
}

/// Registers in memory: whole pages of 4 KiB, at least one, that end below 2^64 on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedRegisters {
    /// Where the machine has them.
    pub host: HostPhysAddr,
    /// Where the guest finds them.
    pub guest: GuestPhysAddr,
    /// How many bytes.
    pub size: u64,
}

impl PassedRegisters {
    /// What the guest sees.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window {
            base: self.guest,
            size: self.size,
        }
    }
}

/// I/O ports: at least one, the last below 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedPorts {
    /// The first.
    pub first: u16,
    /// How many.
    pub count: u32,
}

impl PassedPorts {
    /// As addresses of that space.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window::new(self.first as u64, self.count as u64)
    }
}

/// An interrupt, as both sides number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedIrq {
    /// The machine's: a source of its PLIC, or a global system interrupt of its I/O APICs.
    pub host: u32,
    /// The guest's: an input of its PLIC or I/O APIC.
    pub guest: u32,
}

/// What a passed-through device may do to memory. There is no IOMMU to hold it to less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dma {
    /// It never reaches memory by itself: so says the config.
    None,
    /// It reaches all memory of the machine, and the guest that drives it is trusted with that.
    Trusted,
}

impl PassedDevice {
    /// What it takes of the machine's addresses.
    pub fn host_ranges(&self) -> impl Iterator<Item = HostRange> {
        let registers = self.registers.map(|registers| HostRange {
            space: DeviceSpace::Memory,
            first: registers.host.as_u64(),
            size: registers.size,
        });
        let ports = self.ports.map(|ports| HostRange {
            space: DeviceSpace::Ports,
            first: ports.first.into(),
            size: ports.count.into(),
        });
        registers.into_iter().chain(ports)
    }
}

impl fmt::Display for PassedDevice {
    /// In a line, for who looks whether that is what was meant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device \"{}\" of the machine:", self.id)?;
        for range in self.host_ranges() {
            write!(f, " {range},")?;
        }
        if let Some(registers) = self.registers
            && registers.guest.as_u64() != registers.host.as_u64()
        {
            write!(f, " for the guest at {},", registers.guest)?;
        }
        if let Some(irq) = self.irq {
            write!(f, " interrupt {},", irq.host)?;
            if irq.guest != irq.host {
                write!(f, " for the guest {},", irq.guest)?;
            }
        }
        f.write_str(match self.dma {
            Dma::None => " no DMA",
            Dma::Trusted => " DMA: it reaches ALL memory, the guest is trusted with that",
        })
    }
}

/// A range of the machine's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRange {
    /// Which addresses.
    pub space: DeviceSpace,
    /// The first.
    pub first: u64,
    /// How many.
    pub size: u64,
}

impl HostRange {
    /// Whether any address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let window = |range: &Self| Window::new(range.first, range.size);
        self.space == other.space && window(self).overlaps(window(other))
    }
}

impl fmt::Display for HostRange {
    /// First and last: `0x101000 to 0x101fff`, `ports 0x2f8 to 0x2ff`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.space {
            DeviceSpace::Memory => "",
            DeviceSpace::Ports => "ports ",
        };
        let last = self.first.saturating_add(self.size.saturating_sub(1));
        write!(f, "{kind}{:#x} to {last:#x}", self.first)
    }
}

/// What a machine says of its devices and interrupts, which only it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineDevices {
    /// Addresses that no VM can have.
    pub taken: Vec<Taken>,
    /// Devices that store to memory, whatever they are for: whoever has one is trusted with all of it.
    pub masters: Vec<Master>,
    /// Its interrupts.
    pub irqs: Vec<MachineIrq>,
    /// How many bits its physical addresses have.
    pub phys_bits: u32,
}

/// Addresses of the machine that no VM can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub range: HostRange,
    /// What is there.
    pub what: &'static str,
}

/// A device of the machine that is a bus master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its registers.
    pub range: HostRange,
    /// What it is.
    pub what: &'static str,
    /// How it stores to memory.
    pub how: &'static str,
}

/// An interrupt of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineIrq {
    /// Its number.
    pub number: u32,
    /// How it asks.
    pub trigger: IrqTrigger,
    /// Whose it is, if not for VMs to have.
    pub owner: Option<&'static str>,
}

/// How an interrupt asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IrqTrigger {
    /// By the level of its line. Until the guest has served it, it does not come again.
    Level,
    /// By an edge: each is an interrupt of its own.
    Edge,
}

impl fmt::Display for IrqTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Level => "level",
            Self::Edge => "edge",
        })
    }
}

impl IrqTrigger {
    /// How interrupt `guest`, of those that [`Isa`] has for passed-through devices, asks in a VM. A PLIC's gateways make one of both.
    #[must_use]
    pub const fn of_guest(isa: Isa, guest: u32) -> Self {
        match isa {
            Isa::Riscv64 => Self::Level,
            // The lines of the ISA bus, which lead to the 8259s too, and the pins that only the I/O APIC has.
            Isa::X86_64 if guest < 16 => Self::Edge,
            Isa::X86_64 => Self::Level,
        }
    }
}

#[cfg(test)]
mod tests;
