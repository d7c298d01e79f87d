//! Putting the buses together, and refusing what is ambiguous.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use axaddrspace::GuestPhysAddr;

use super::{AxVmDevices, Bus, Slot};
use crate::Device;

/// One of a VM's buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusKind {
    /// Guest-physical memory.
    Mmio,
    /// I/O ports.
    Port,
    /// System registers.
    SysReg,
}

impl BusKind {
    /// The highest address.
    const fn last(self) -> u64 {
        match self {
            Self::Mmio => u64::MAX,
            Self::Port => u16::MAX as u64,
            Self::SysReg => u32::MAX as u64,
        }
    }
}

impl fmt::Display for BusKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mmio => "MMIO",
            Self::Port => "port",
            Self::SysReg => "system register",
        })
    }
}

/// The range of addresses that a device asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRange {
    /// The device's name.
    pub owner: String,
    /// The first address.
    pub start: u64,
    /// The number of addresses.
    pub len: u64,
}

impl fmt::Display for DeviceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, start, len } = self;
        write!(f, "`{owner}` at {start:#x} (length {len:#x})")
    }
}

/// Why devices cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// A range without addresses.
    Empty(BusKind, DeviceRange),
    /// A range that goes on past the highest address.
    Overrun(BusKind, DeviceRange),
    /// Two ranges that share addresses.
    Overlap(BusKind, DeviceRange, DeviceRange),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(bus, range) => write!(f, "the {bus} range of {range} is empty"),
            Self::Overrun(bus, range) => {
                write!(
                    f,
                    "the {bus} range of {range} goes on past {:#x}",
                    bus.last()
                )
            }
            Self::Overlap(bus, a, b) => write!(f, "the {bus} ranges of {a} and {b} overlap"),
        }
    }
}

impl core::error::Error for BuildError {}

/// Devices on their way onto the buses. Mistakes come to light in [`build`](Self::build).
#[derive(Default)]
pub struct AxVmDevicesBuilder {
    wishes: Vec<Wish>,
}

struct Wish {
    bus: BusKind,
    start: u64,
    len: u64,
    offsets: Offsets,
    device: Arc<dyn Device>,
}

/// What the device sees of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offsets {
    FromStart,
    FromZero,
}

impl Wish {
    fn range(&self) -> DeviceRange {
        DeviceRange {
            owner: self.device.name().to_owned(),
            start: self.start,
            len: self.len,
        }
    }

    /// The first and the last address.
    fn bounds(&self) -> Result<(u64, u64), BuildError> {
        let Some(past_first) = self.len.checked_sub(1) else {
            return Err(BuildError::Empty(self.bus, self.range()));
        };
        match self.start.checked_add(past_first) {
            Some(last) if last <= self.bus.last() => Ok((self.start, last)),
            Some(_) | None => Err(BuildError::Overrun(self.bus, self.range())),
        }
    }
}

impl AxVmDevicesBuilder {
    /// Puts `device` at the `len` bytes of guest-physical memory from `start` on.
    #[must_use]
    pub fn mmio(self, start: GuestPhysAddr, len: u64, device: Arc<dyn Device>) -> Self {
        self.wish(
            BusKind::Mmio,
            start.as_u64(),
            len,
            Offsets::FromStart,
            device,
        )
    }

    /// Puts `device` at the `len` I/O ports from `start` on.
    #[must_use]
    pub fn port(self, start: u16, len: u32, device: Arc<dyn Device>) -> Self {
        self.wish(
            BusKind::Port,
            start.into(),
            len.into(),
            Offsets::FromStart,
            device,
        )
    }

    /// As [`port`](Self::port), for a device that has ports here and there: the offset that it sees is the port.
    #[must_use]
    pub fn port_by_number(self, start: u16, len: u32, device: Arc<dyn Device>) -> Self {
        self.wish(
            BusKind::Port,
            start.into(),
            len.into(),
            Offsets::FromZero,
            device,
        )
    }

    /// Puts `device` at the `len` system registers from number `start` on.
    #[must_use]
    pub fn sys_reg(self, start: u32, len: u32, device: Arc<dyn Device>) -> Self {
        self.wish(
            BusKind::SysReg,
            start.into(),
            len.into(),
            Offsets::FromStart,
            device,
        )
    }

    /// As [`sys_reg`](Self::sys_reg), for a device that has registers here and there: the offset that it sees is the number.
    #[must_use]
    pub fn sys_reg_by_number(self, start: u32, len: u32, device: Arc<dyn Device>) -> Self {
        self.wish(
            BusKind::SysReg,
            start.into(),
            len.into(),
            Offsets::FromZero,
            device,
        )
    }

    fn wish(
        mut self,
        bus: BusKind,
        start: u64,
        len: u64,
        offsets: Offsets,
        device: Arc<dyn Device>,
    ) -> Self {
        self.wishes.push(Wish {
            bus,
            start,
            len,
            offsets,
            device,
        });
        self
    }

    /// The finished buses, unless a range is empty, overruns its bus or overlaps another.
    ///
    /// # Errors
    /// [`BuildError::Empty`], [`BuildError::Overrun`] or [`BuildError::Overlap`], whichever comes first from the lowest address of each bus on.
    pub fn build(self) -> Result<AxVmDevices, BuildError> {
        Ok(AxVmDevices {
            mmio: self.bus(BusKind::Mmio)?,
            port: self.bus(BusKind::Port)?,
            sys_reg: self.bus(BusKind::SysReg)?,
            devices: self.devices(),
        })
    }

    fn bus(&self, kind: BusKind) -> Result<Bus, BuildError> {
        let mut wishes: Vec<&Wish> = self.wishes.iter().filter(|wish| wish.bus == kind).collect();
        wishes.sort_by_key(|wish| wish.start);
        let mut slots: Vec<Slot> = Vec::with_capacity(wishes.len());
        let mut before: Option<(&Wish, u64)> = None;
        for wish in wishes {
            let (first, last) = wish.bounds()?;
            if let Some((lower, lower_last)) = before
                && lower_last >= first
            {
                return Err(BuildError::Overlap(kind, lower.range(), wish.range()));
            }
            slots.push(Slot {
                first,
                last,
                origin: match wish.offsets {
                    Offsets::FromStart => first,
                    Offsets::FromZero => 0,
                },
                device: Arc::clone(&wish.device),
            });
            before = Some((wish, last));
        }
        Ok(Bus::new(slots.into()))
    }

    fn devices(&self) -> Box<[Arc<dyn Device>]> {
        let mut devices: Vec<Arc<dyn Device>> = Vec::new();
        for Wish { device, .. } in &self.wishes {
            if !devices.iter().any(|known| Arc::ptr_eq(known, device)) {
                devices.push(Arc::clone(device));
            }
        }
        devices.into()
    }
}
