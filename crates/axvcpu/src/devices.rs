//! How a vCPU reaches its VM's devices without leaving its loop.

use axaddrspace::GuestPhysAddr;

use crate::AccessWidth;

/// A VM's devices, as its vCPUs reach them in the midst of an exit.
///
/// Host interrupts are off during a call. What is not answered here leaves the loop as an exit, and the VM decides.
pub trait DeviceAccess {
    /// Loads from device memory; `None`: not answered.
    fn mmio_read(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<u64>;

    /// Stores to device memory; `None`: not answered, and nothing has happened.
    fn mmio_write(&self, addr: GuestPhysAddr, width: AccessWidth, data: u64) -> Option<()>;
}

/// No devices: every access leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

impl DeviceAccess for NoDevices {
    fn mmio_read(&self, _: GuestPhysAddr, _: AccessWidth) -> Option<u64> {
        None
    }

    fn mmio_write(&self, _: GuestPhysAddr, _: AccessWidth, _: u64) -> Option<()> {
        None
    }
}
