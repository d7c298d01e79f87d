//! Physical memory, where firmware and bootloaders leave their tables.

/// Memory that lives for `'a` and holds tables.
pub trait Memory<'a>: Copy {
    /// The `len` bytes at `address`; `None` if there cannot be any.
    fn bytes(self, address: u64, len: usize) -> Option<&'a [u8]>;

    /// The little-endian number of 16 bits at `address`.
    fn u16(self, address: u64) -> Option<u16> {
        number(self.bytes(address, 2)?, 0).map(u16::from_le_bytes)
    }

    /// The little-endian number of 32 bits at `address`.
    fn u32(self, address: u64) -> Option<u32> {
        number(self.bytes(address, 4)?, 0).map(u32::from_le_bytes)
    }

    /// The little-endian number of 64 bits at `address`.
    fn u64(self, address: u64) -> Option<u64> {
        number(self.bytes(address, 8)?, 0).map(u64::from_le_bytes)
    }
}

/// The `N` bytes of a number that stands `at` some place in a table.
pub fn number<const N: usize>(table: &[u8], at: usize) -> Option<[u8; N]> {
    table.get(at..)?.first_chunk().copied()
}

/// Bytes from an address on, for tests.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'a> {
    pub(crate) start: u64,
    pub(crate) bytes: &'a [u8],
}

#[cfg(test)]
impl<'a> Memory<'a> for Image<'a> {
    fn bytes(self, address: u64, len: usize) -> Option<&'a [u8]> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..at.checked_add(len)?)
    }
}
