//! How a vCPU reaches its VM's devices without leaving its loop.

use axaddrspace::GuestPhysAddr;

use crate::{AccessWidth, HypercallError};

/// What a host interrupt does to a vCPU's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHostInterrupt {
    /// It ends it: another task may have been made ready.
    Leave,
    /// It is let in and served, and the guest goes on: nobody else waits for the pCPU.
    Stay,
}

/// A VM's devices, as its vCPUs reach them in the midst of an exit.
///
/// Host interrupts are off during a call. What is not answered here leaves the loop as an exit, and the VM decides.
pub trait DeviceAccess {
    /// Loads from device memory; `None`: not answered.
    fn mmio_read(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<u64>;

    /// Stores to device memory; `None`: not answered, and nothing has happened.
    fn mmio_write(&self, addr: GuestPhysAddr, width: AccessWidth, data: u64) -> Option<()>;

    /// Reads an I/O port; `None`: not answered.
    fn port_read(&self, _port: u16, _width: AccessWidth) -> Option<u64> {
        None
    }

    /// Writes an I/O port; `None`: not answered, and nothing has happened.
    fn port_write(&self, _port: u16, _width: AccessWidth, _data: u64) -> Option<()> {
        None
    }

    /// Reads a system register; `None`: not answered.
    fn sys_reg_read(&self, _addr: u32) -> Option<u64> {
        None
    }

    /// Writes a system register; `None`: not answered, and nothing has happened.
    fn sys_reg_write(&self, _addr: u32, _value: u64) -> Option<()> {
        None
    }

    /// Answers a hypercall; `None`: not answered.
    fn hypercall(&self, _nr: u64, _args: [u64; 6]) -> Option<Result<u64, HypercallError>> {
        None
    }

    /// Writes a byte to the debug console; `None`: not answered, and nothing has happened.
    fn console_write_byte(&self, _byte: u8) -> Option<()> {
        None
    }

    /// What a host interrupt does to the vCPU's loop, where the vCPU can serve it itself.
    fn at_host_interrupt(&self) -> AtHostInterrupt {
        AtHostInterrupt::Leave
    }

    /// Whether the vCPU is to leave its loop although the access was answered: the VM goes down.
    fn wants_exit(&self) -> bool {
        false
    }
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
