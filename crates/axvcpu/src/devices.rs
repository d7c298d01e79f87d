//! How a vCPU reaches its VM's devices without leaving its loop.

use core::ops::Range;

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

/// A device's registers, in memory or at ports.
pub trait MmioRegisters {
    /// Loads from `offset` bytes past the first; `None`: not answered. Bits above `width` do not count.
    fn load(&self, offset: u64, width: AccessWidth) -> Option<u64>;

    /// Stores likewise, `data` being zero above `width`; `None`: not answered, and nothing has happened.
    fn store(&self, offset: u64, width: AccessWidth, data: u64) -> Option<()>;
}

/// Where accesses of one width meet one device. Found once, it says with one comparison whether another access meets the same.
#[derive(Debug)]
pub struct MmioWindow<'a, R: ?Sized> {
    registers: &'a R,
    starts: Starts,
}

/// The addresses at which an access of one width may begin.
#[derive(Clone, Copy, Debug)]
struct Starts {
    first: u64,
    /// The last, from the first on: there it ends where the registers do.
    highest: u64,
}

impl Starts {
    /// Of accesses of `width` to the addresses from `first` up to `last`; `None` if there is no room for one.
    fn new(first: u64, last: u64, width: AccessWidth) -> Option<Self> {
        let highest = last
            .checked_sub(first)?
            .checked_sub(width.bytes() as u64 - 1)?;
        Some(Self { first, highest })
    }

    /// How far `addr` is from the first; `None`: it is not one of them.
    #[inline(always)]
    const fn offset(self, addr: u64) -> Option<u64> {
        // Below the first, this wraps to more than any.
        let offset = addr.wrapping_sub(self.first);
        if offset <= self.highest {
            Some(offset)
        } else {
            None
        }
    }
}

impl<'a, R: ?Sized> MmioWindow<'a, R> {
    /// Accesses of `width` to `registers` at the addresses from `first` up to `last`; `None` if there is no room for one.
    #[must_use]
    pub fn new(
        registers: &'a R,
        first: GuestPhysAddr,
        last: GuestPhysAddr,
        width: AccessWidth,
    ) -> Option<Self> {
        let starts = Starts::new(first.as_u64(), last.as_u64(), width)?;
        Some(Self { registers, starts })
    }

    /// The registers.
    #[inline(always)]
    #[must_use]
    pub const fn registers(&self) -> &'a R {
        self.registers
    }

    /// What `addr` is to the registers; `None`: an access there is not all theirs.
    #[inline(always)]
    #[must_use]
    pub const fn offset(&self, addr: GuestPhysAddr) -> Option<u64> {
        self.starts.offset(addr.as_u64())
    }

    /// Whether every access that [`offset`](Self::offset) answers begins in `range`.
    #[must_use]
    pub fn starts_in(&self, range: &Range<GuestPhysAddr>) -> bool {
        let Starts { first, highest } = self.starts;
        range.start.as_u64() <= first && first + highest < range.end.as_u64()
    }
}

/// As [`MmioWindow`], of I/O ports. It knows its width.
#[derive(Debug)]
pub struct PortWindow<'a, R: ?Sized> {
    registers: &'a R,
    starts: Starts,
    width: AccessWidth,
    /// What the device calls the first port.
    first_offset: u64,
}

impl<'a, R: ?Sized> PortWindow<'a, R> {
    /// Accesses of `width` to `registers` at the ports from `first` up to `last`, the first of which is `first_offset` to the device; `None` if there is no
    /// room for one.
    #[must_use]
    pub fn new(
        registers: &'a R,
        [first, last]: [u16; 2],
        first_offset: u64,
        width: AccessWidth,
    ) -> Option<Self> {
        Some(Self {
            registers,
            starts: Starts::new(first.into(), last.into(), width)?,
            width,
            first_offset,
        })
    }

    /// The registers, and what `port` is to them; `None`: an access of `width` there is not all theirs, or of another width.
    #[inline(always)]
    #[must_use]
    pub fn reach(&self, port: u16, width: AccessWidth) -> Option<(&'a R, u64)> {
        let offset = self.starts.offset(port.into())?;
        (width == self.width).then_some((self.registers, self.first_offset + offset))
    }
}

/// A VM's devices, as its vCPUs reach them in the midst of an exit.
///
/// Host interrupts are off during a call. What is not answered here leaves the loop as an exit, and the VM decides.
pub trait DeviceAccess {
    /// A device's registers in memory.
    type Registers: MmioRegisters + ?Sized
    where
        Self: Sized;

    /// The device that an access of `width` at `addr` meets, for the vCPU to ask as often as it likes while it is in its loop; `None`: there is none.
    fn mmio_window(
        &self,
        _addr: GuestPhysAddr,
        _width: AccessWidth,
    ) -> Option<MmioWindow<'_, Self::Registers>>
    where
        Self: Sized,
    {
        None
    }

    /// The device that an access of `width` at `port` meets, as [`mmio_window`](Self::mmio_window).
    fn port_window(
        &self,
        _port: u16,
        _width: AccessWidth,
    ) -> Option<PortWindow<'_, Self::Registers>>
    where
        Self: Sized,
    {
        None
    }

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

    /// Answers a hypercall, and asks for the arguments if it knows the number; `None`: not answered.
    fn hypercall(
        &self,
        _nr: u64,
        _args: &dyn Fn() -> [u64; 6],
    ) -> Option<Result<u64, HypercallError>> {
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

    /// Whether the vCPU is to leave its loop although the access was answered: the VM goes down. A RISC-V vCPU looks at its mailbox alone: there a device
    /// that takes the VM down must send a letter, too.
    fn wants_exit(&self) -> bool {
        false
    }
}

/// No devices: every access leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

impl MmioRegisters for NoDevices {
    fn load(&self, _: u64, _: AccessWidth) -> Option<u64> {
        None
    }

    fn store(&self, _: u64, _: AccessWidth, _: u64) -> Option<()> {
        None
    }
}

impl DeviceAccess for NoDevices {
    type Registers = Self;

    fn mmio_read(&self, _: GuestPhysAddr, _: AccessWidth) -> Option<u64> {
        None
    }

    fn mmio_write(&self, _: GuestPhysAddr, _: AccessWidth, _: u64) -> Option<()> {
        None
    }
}
