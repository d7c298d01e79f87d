//! Files that go into RAM as they are: the ramdisk, and a device tree that the user brings.

use axaddrspace::GuestPhysAddr;

use super::{
    ImageError, bytes_at,
    ram::{GuestRam, GuestRange, RamMap, Thing},
};

/// A page: what ramdisks and device trees are aligned to when their place is ours to choose.
const ALIGN: u64 = 4 << 10;

/// Writes `bytes` at `addr`, or else where there is room.
pub(crate) fn load_blob(
    thing: Thing,
    bytes: &[u8],
    addr: Option<GuestPhysAddr>,
    map: &mut RamMap<'_>,
    ram: &mut dyn GuestRam,
) -> Result<GuestRange, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    let size = bytes.len() as u64;
    let range = match addr {
        Some(start) => map.take(thing, start, size)?,
        None => map.take_high(thing, size, ALIGN)?,
    };
    ram.write(range.start(), bytes)?;
    Ok(range)
}

/// The device tree in `file`: what its header says it is long, if it is one (Devicetree
/// Specification 0.4, section 5.2).
pub(crate) fn device_tree(file: &[u8]) -> Result<&[u8], ImageError> {
    const MAGIC: u32 = 0xd00d_feed;
    const HEADER_LEN: usize = 40;
    let word = |at| bytes_at(file, at).map(u32::from_be_bytes);
    if word(0) != Some(MAGIC) {
        return Err(ImageError::DeviceTree("the magic number is missing"));
    }
    let len = word(4)
        .and_then(|len| usize::try_from(len).ok())
        .unwrap_or(0);
    if len < HEADER_LEN {
        return Err(ImageError::DeviceTree("its header is too short"));
    }
    file.get(..len)
        .ok_or(ImageError::DeviceTree("it is truncated"))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::boot::testing::{TestRam, range};

    const BASE: u64 = 0x8000_0000;

    #[test]
    fn a_blob_goes_where_it_is_told_or_high() {
        let regions = [range(BASE, 0x10000)];
        let (mut map, mut ram) = (RamMap::new(&regions), TestRam::new(BASE, 0x10000));
        let mut load = |addr: Option<u64>| {
            load_blob(
                Thing::Ramdisk,
                b"disk",
                addr.map(GuestPhysAddr::new),
                &mut map,
                &mut ram,
            )
        };
        assert_eq!(load(Some(BASE + 3)), Ok(range(BASE + 3, 4)));
        assert_eq!(load(None), Ok(range(BASE + 0xf000, 4)));
        assert!(matches!(
            load(Some(BASE + 0x10000)),
            Err(ImageError::Place(_))
        ));
        assert_eq!(ram.read(BASE + 3, 4), b"disk");
        assert_eq!(ram.read(BASE + 0xf000, 4), b"disk");
        assert_eq!(
            load_blob(Thing::Ramdisk, b"", None, &mut map, &mut ram),
            Err(ImageError::Empty)
        );
    }

    #[test]
    fn a_device_tree_is_as_long_as_it_says() {
        let mut file = [0u8; 64].to_vec();
        file[..4].copy_from_slice(&0xd00d_feedu32.to_be_bytes());
        file[7] = 48;
        assert_eq!(device_tree(&file).unwrap().len(), 48);
        assert!(device_tree(&file[..47]).is_err(), "truncated");
        assert!(device_tree(&file[..6]).is_err(), "no header");
        file[7] = 39;
        assert!(device_tree(&file).is_err(), "shorter than its header");
        file[0] = 0;
        assert!(device_tree(&file).is_err(), "no magic");
    }

    proptest! {
        #[test]
        fn arbitrary_trees_never_panic(file in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = device_tree(&file);
            let magic: Vec<u8> = 0xd00d_feedu32.to_be_bytes().into_iter().chain(file).collect();
            let _ = device_tree(&magic);
        }
    }
}
