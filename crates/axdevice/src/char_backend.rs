//! The far end of a serial device.

/// Where a serial device's bytes go to and come from.
///
/// Calls are made with the device's lock held: they do not wait, and do not call the device.
pub trait CharBackend: Send + Sync {
    /// Takes as many of `bytes`, from the first on, as there is room for, and says how many; 0 when full. Once there is room again, the owner
    /// of the backend calls the device's `poll`.
    fn write(&self, bytes: &[u8]) -> usize;

    /// Takes a byte; `None` if there is no room. As [`write`](Self::write), for those that write byte by byte.
    fn put(&self, byte: u8) -> Option<()> {
        (self.write(&[byte]) == 1).then_some(())
    }

    /// Moves the oldest bytes of input to the front of `buf` and says how many; 0 when there is none. When input arrives, the owner of
    /// the backend calls the device's `poll`.
    fn read(&self, buf: &mut [u8]) -> usize;
}
