//! What firmware and bootloader left in memory, read with every bound checked.

/// Physical memory that may be read.
pub(crate) trait Memory {
    /// The bytes at a physical address; `None` if they are not all within reach.
    fn bytes(&self, address: u64, len: usize) -> Option<&[u8]>;
}

/// The little-endian number of `N` bytes at an offset.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes
        .get(offset..)?
        .get(..N)
        .and_then(|bytes| bytes.try_into().ok())
}

pub(crate) fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    number(bytes, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    number(bytes, offset).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    number(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::vec::Vec;

    use super::Memory;

    /// Memory with something in some places.
    #[derive(Default)]
    pub(crate) struct Pieces(pub(crate) Vec<(u64, Vec<u8>)>);

    impl Memory for Pieces {
        fn bytes(&self, address: u64, len: usize) -> Option<&[u8]> {
            self.0.iter().find_map(|(start, piece)| {
                let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
                piece.get(offset..)?.get(..len)
            })
        }
    }
}
