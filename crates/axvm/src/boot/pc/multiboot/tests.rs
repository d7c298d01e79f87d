use alloc::{vec, vec::Vec};

use axaddrspace::GuestPhysAddr;
use proptest::prelude::*;

use super::{
    super::{MemoryMap, map::MemoryKind},
    *,
};
use crate::boot::testing::{Draft, number, range};

/// A file with a header at `at`.
fn file(at: usize, flags: u32, addresses: [u32; 5]) -> Vec<u8> {
    let sum = HEADER_MAGIC.wrapping_add(flags).wrapping_neg();
    let draft = Draft(vec![0xaa; 12000])
        .u32(at, HEADER_MAGIC)
        .u32(at + 4, flags)
        .u32(at + 8, sum);
    let words = addresses.into_iter().enumerate();
    words
        .fold(draft, |draft, (n, word)| draft.u32(at + 12 + 4 * n, word))
        .0
}

#[test]
fn the_header_is_near_the_start_and_sums_to_zero() {
    let plain = Some(Header { addresses: None });
    for at in [0, 4, 8188] {
        assert_eq!(Header::find(&file(at, 3, [0; 5])), plain);
    }
    for at in [2, 8192] {
        assert_eq!(Header::find(&file(at, 3, [0; 5])), None);
    }
    let wrong = Draft(file(0, 3, [0; 5])).u32(8, 0).0;
    assert_eq!(Header::find(&wrong), None);
    assert_eq!(Header::find(&file(0, 3, [0; 5])[..11]), None);
}

#[test]
fn the_header_says_where_a_flat_binary_goes() {
    let addresses = [0x20_0100, 0x20_0000, 0x20_1000, 0x20_3000, 0x20_0040];
    let header = Header::find(&file(0x180, FLAG_ADDRESSES, addresses)).unwrap();
    assert_eq!(
        header.addresses,
        Some(Addresses {
            offset: 0x80,
            load: 0x20_0000,
            load_end: 0x20_1000,
            bss_end: 0x20_3000,
            entry: 0x20_0040,
        })
    );
    // Its place is before the start of the file, or before that of what is loaded.
    for addresses in [
        [0x20_0200, 0x20_0000, 0, 0, 0],
        [0x1f_ffff, 0x20_0000, 0, 0, 0],
    ] {
        assert_eq!(Header::find(&file(0x180, FLAG_ADDRESSES, addresses)), None);
    }
}

#[test]
fn the_information_is_what_the_vm_has() {
    let memory = MemoryMap::new(&[range(0, 16 << 20)]);
    let facts = BootFacts {
        cmdline: Some("a b"),
        ramdisk: Some(range(0x40_0000, 0x1234)),
        memory: &memory,
    };
    let page = information(&facts).into_bytes();
    let word = |at| number::<4>(&page, at);
    assert_eq!(word(0), 0b10_0100_1101);
    assert_eq!((word(4), word(8)), (639, 15 << 10));
    assert_eq!(word(16), CMDLINE);
    assert_eq!(word(20), 1);
    let module = (word(24) - INFO) as usize;
    assert_eq!((word(module), word(module + 4)), (0x40_0000, 0x40_1234));
    let (len, at) = (word(44) as usize, (word(48) - INFO) as usize);
    let entries: Vec<_> = page[at..at + len]
        .chunks(24)
        .map(|entry| {
            assert_eq!(number::<4>(entry, 0), 20);
            (
                number::<8>(entry, 4),
                number::<8>(entry, 12),
                number::<4>(entry, 20),
            )
        })
        .collect();
    let map = memory.entries().iter();
    let map: Vec<_> = map
        .map(|entry| (entry.start, entry.size, entry.kind as u64))
        .collect();
    assert_eq!(entries, map);
    assert!(
        memory
            .entries()
            .iter()
            .any(|entry| entry.kind == MemoryKind::Usable)
    );
    let name = (word(64) - INFO) as usize;
    assert_eq!(&page[name..name + 5], b"AxHV\0");

    let bare = BootFacts {
        cmdline: None,
        ramdisk: None,
        memory: &memory,
    };
    let page = information(&bare).into_bytes();
    assert_eq!(number::<4>(&page, 0), 0b10_0100_0001);
}

proptest! {
    #[test]
    fn any_addresses_are_decided(at in 0usize..100, addresses in any::<[u32; 5]>(), claimed in any::<u64>()) {
        let regions = [range(0, 8 << 20)];
        let map = RamMap::new(&regions);
        if let Some(Header { addresses: Some(addresses) }) = Header::find(&file(4 * at, FLAG_ADDRESSES, addresses)) {
            let _ = addresses.plan(claimed, &map);
        }
    }

    #[test]
    fn any_front_is_decided(front in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..8) {
        let mut file = vec![0; 64];
        file[..front.len()].copy_from_slice(&front);
        file[4 * at..4 * at + 4].copy_from_slice(&HEADER_MAGIC.to_le_bytes());
        let _ = Header::find(&file);
    }
}

#[test]
fn memory_beyond_the_page_is_left_out() {
    let regions: Vec<_> = (0..200).map(|n| range(n << 30, 1 << 20)).collect();
    let memory = MemoryMap::new(&regions);
    let facts = BootFacts {
        cmdline: None,
        ramdisk: None,
        memory: &memory,
    };
    let page = information(&facts).into_bytes();
    assert_eq!(page.len(), 4096);
    assert!(GuestPhysAddr::new(INFO).is_aligned(4096));
}
