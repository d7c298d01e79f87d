//! From an address to the device that answers there.
//!
//! A VM has three buses: memory, I/O ports and system registers. They are put together once, by the [builder](AxVmDevicesBuilder), which
//! refuses what is ambiguous, and never change after that: a lookup takes no lock, and none is held while a device is called.

mod build;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use axaddrspace::GuestPhysAddr;
use axvcpu::{AccessWidth, MmioRegisters, MmioWindow, PortWindow};

use crate::{AccessFault, Device};
pub use build::{AxVmDevicesBuilder, BuildError, BusKind, DeviceRange};

/// Why an access has no answer. The guest gets an access fault for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// There is no device at the address.
    NoDevice,
    /// There is a device, but it does not answer this access; or the access goes on past the end of the device.
    Fault,
}

impl From<AccessFault> for BusError {
    fn from(AccessFault: AccessFault) -> Self {
        Self::Fault
    }
}

/// The devices of a VM, by address.
pub struct AxVmDevices {
    mmio: Bus,
    port: Bus,
    sys_reg: Bus,
    /// Each device once, in the order in which they were put on the buses.
    devices: Box<[Arc<dyn Device>]>,
}

impl AxVmDevices {
    /// A builder without devices.
    #[must_use]
    pub fn builder() -> AxVmDevicesBuilder {
        AxVmDevicesBuilder::default()
    }

    /// Each device once, in the order in which they were put on the buses.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Device> {
        self.devices.iter().map(|device| &**device)
    }

    /// Resets every device.
    pub fn reset_all(&self) {
        for device in self.iter() {
            device.reset();
        }
    }

    /// The device that has all of an access of `width` at `addr` in memory; `None` if none has.
    #[must_use]
    pub fn mmio_window(
        &self,
        addr: GuestPhysAddr,
        width: AccessWidth,
    ) -> Option<MmioWindow<'_, dyn Device>> {
        let slot = self.mmio.slot_at(addr.as_u64())?;
        // In memory a device's offset 0 is its first address.
        let [first, last] = [slot.origin, slot.last].map(GuestPhysAddr::new);
        let window = MmioWindow::new(&*slot.device, first, last, width)?;
        window.offset(addr).map(|_| window)
    }

    /// The device that has all of an access of `width` at I/O port `port`; `None` if none has.
    #[must_use]
    pub fn port_window(&self, port: u16, width: AccessWidth) -> Option<PortWindow<'_, dyn Device>> {
        let slot = self.port.slot_at(port.into())?;
        let [first, last] = [slot.first, slot.last].map(|port| port as u16);
        let window = PortWindow::new(
            &*slot.device,
            [first, last],
            slot.first - slot.origin,
            width,
        )?;
        window.reach(port, width).map(|_| window)
    }

    /// Loads from device memory.
    ///
    /// # Errors
    /// [`BusError::NoDevice`] if none is at `addr`; [`BusError::Fault`] if the access goes on past its end, or it does not answer it.
    #[inline(always)]
    pub fn handle_mmio_read(
        &self,
        addr: GuestPhysAddr,
        width: AccessWidth,
    ) -> Result<u64, BusError> {
        self.mmio.read(addr.as_u64(), width.bytes() as u64, width)
    }

    /// Stores to device memory.
    ///
    /// # Errors
    /// As for [`handle_mmio_read`](Self::handle_mmio_read).
    #[inline(always)]
    pub fn handle_mmio_write(
        &self,
        addr: GuestPhysAddr,
        width: AccessWidth,
        data: u64,
    ) -> Result<(), BusError> {
        self.mmio
            .write(addr.as_u64(), width.bytes() as u64, width, data)
    }

    /// Reads I/O ports.
    ///
    /// # Errors
    /// As for [`handle_mmio_read`](Self::handle_mmio_read).
    #[inline(always)]
    pub fn handle_port_read(&self, port: u16, width: AccessWidth) -> Result<u64, BusError> {
        self.port.read(port.into(), width.bytes() as u64, width)
    }

    /// Writes I/O ports.
    ///
    /// # Errors
    /// As for [`handle_mmio_read`](Self::handle_mmio_read).
    #[inline(always)]
    pub fn handle_port_write(
        &self,
        port: u16,
        width: AccessWidth,
        data: u64,
    ) -> Result<(), BusError> {
        self.port
            .write(port.into(), width.bytes() as u64, width, data)
    }

    /// Reads a system register. The device sees a read of 64 bits.
    ///
    /// # Errors
    /// [`BusError::NoDevice`] if none has that register; [`BusError::Fault`] if it does not let it be read.
    pub fn handle_sys_reg_read(&self, addr: u32) -> Result<u64, BusError> {
        self.sys_reg.read(addr.into(), 1, AccessWidth::Qword)
    }

    /// Writes a system register. The device sees a write of 64 bits.
    ///
    /// # Errors
    /// [`BusError::NoDevice`] if none has that register; [`BusError::Fault`] if it does not let it be written, or not with that value.
    pub fn handle_sys_reg_write(&self, addr: u32, value: u64) -> Result<(), BusError> {
        self.sys_reg
            .write(addr.into(), 1, AccessWidth::Qword, value)
    }
}

impl MmioRegisters for dyn Device + '_ {
    #[inline(always)]
    fn load(&self, offset: u64, width: AccessWidth) -> Option<u64> {
        self.read(offset, width).ok()
    }

    #[inline(always)]
    fn store(&self, offset: u64, width: AccessWidth, data: u64) -> Option<()> {
        self.write(offset, width, data).ok()
    }
}

/// One bus: ranges of addresses that do not overlap, in ascending order.
struct Bus {
    slots: Box<[Slot]>,
    /// The slot that was found last. A guest tends to stay with one device for a while, and a wrong guess costs one comparison.
    last_hit: AtomicUsize,
}

/// A device and its range on a bus.
struct Slot {
    first: u64,
    last: u64,
    /// The address that the device knows as offset 0.
    origin: u64,
    device: Arc<dyn Device>,
}

impl Slot {
    fn contains(&self, addr: u64) -> bool {
        self.first <= addr && addr <= self.last
    }
}

impl Bus {
    fn new(slots: Box<[Slot]>) -> Self {
        Self {
            slots,
            last_hit: AtomicUsize::new(0),
        }
    }

    /// Reads `width`, which takes up `len` addresses from `addr` on.
    #[inline(always)]
    fn read(&self, addr: u64, len: u64, width: AccessWidth) -> Result<u64, BusError> {
        let (device, offset) = self.find(addr, len)?;
        Ok(device.read(offset, width)? & width.mask())
    }

    /// Writes `width`, which takes up `len` addresses from `addr` on.
    #[inline(always)]
    fn write(&self, addr: u64, len: u64, width: AccessWidth, data: u64) -> Result<(), BusError> {
        let (device, offset) = self.find(addr, len)?;
        Ok(device.write(offset, width, data & width.mask())?)
    }

    /// The device that has all of the `len` (at least 1) addresses from `addr` on, and what the first is to it.
    #[inline(always)]
    fn find(&self, addr: u64, len: u64) -> Result<(&dyn Device, u64), BusError> {
        let slot = self.slot_at(addr).ok_or(BusError::NoDevice)?;
        if len - 1 > slot.last - addr {
            return Err(BusError::Fault);
        }
        Ok((&*slot.device, addr - slot.origin))
    }

    #[inline(always)]
    fn slot_at(&self, addr: u64) -> Option<&Slot> {
        let guess = self.slots.get(self.last_hit.load(Ordering::Relaxed));
        if let Some(slot) = guess
            && slot.contains(addr)
        {
            return Some(slot);
        }
        self.search(addr)
    }

    #[inline(never)]
    fn search(&self, addr: u64) -> Option<&Slot> {
        let index = self.slots.partition_point(|slot| slot.last < addr);
        let slot = self.slots.get(index).filter(|slot| slot.contains(addr))?;
        self.last_hit.store(index, Ordering::Relaxed);
        Some(slot)
    }
}
