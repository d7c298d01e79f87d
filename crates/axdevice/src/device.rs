//! What the bus knows of a device.

use axvcpu::AccessWidth;

/// The device does not answer this access: the guest gets the access fault that its hardware would raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFault;

/// A model of a device's registers.
///
/// Any vCPU may call at any time: a device keeps its state behind a lock of its own. What arrives is the guest's: any offset within the
/// ranges that the device was put at on the [bus](crate::AxVmDevices), at any alignment, of any width that ends within the range.
pub trait Device: Send + Sync {
    /// Its name in messages, such as `uart0`.
    fn name(&self) -> &str;

    /// Reads `width` at `offset` bytes (for system registers: numbers) from the start of the range. Bits above `width` do not count.
    ///
    /// # Errors
    /// [`AccessFault`]: there is no register, or none that answers such an access. Nothing has changed, for the access may come once more.
    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault>;

    /// Writes the low bits of `data`, zero above `width`, at `offset` from the start of the range.
    ///
    /// # Errors
    /// As for [`read`](Self::read); also for a system register that does not take the value.
    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault>;

    /// Puts every register to its value at power-on, and every interrupt line that the device drives to low.
    fn reset(&self);
}
