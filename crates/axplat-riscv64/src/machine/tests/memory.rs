//! RAM, and what of it is not free.

use super::*;

#[test]
fn ram_is_whole_pages_in_any_number_of_nodes() {
    let mut tree = virt(0..1);
    tree.ram = vec![
        (0x1_0000_0000, 512 * MIB),
        (0x8000_0800, 128 * MIB),
        // Continues the first.
        (0x1_2000_0000, MIB),
        (0xf000_0000, 0x800),
    ];
    assert_eq!(
        tree.read().unwrap().ram.as_slice(),
        [
            (0x8000_1000, 128 * MIB as usize - 0x1000),
            (0x1_0000_0000, 513 * MIB as usize)
        ]
    );
    tree.ram = vec![(0x8000_0000, 0x800)];
    assert_eq!(tree.read().err(), Some(Unusable::NoRam));
    tree.ram = vec![];
    assert_eq!(tree.read().err(), Some(Unusable::NoRam));
    tree.ram = (0..=MAX_RANGES as u64)
        .map(|i| (i * 2 * MIB, MIB))
        .collect();
    assert_eq!(tree.read().err(), Some(Unusable::TooManyRanges("RAM")));
}

#[test]
fn reserved_memory_is_every_page_touched_from_every_source() {
    let mut tree = virt(0..1);
    tree.initrd = None;
    tree.reserved = vec![
        (0x8000_0800, 0x1000),
        (0x9000_0000, 0),
        (0xb000_0000, u64::MAX),
    ];
    tree.listed = vec![(0xa000_0fff, 2)];
    let machine = tree.read().unwrap();
    let pages = (0x123 + tree.size()).next_multiple_of(4096);
    let top = usize::MAX & !0xfff;
    assert_eq!(
        machine.reserved.as_slice(),
        [
            (0x8000_0000, 0x2000),
            (0x87e0_0000, pages),
            (0xa000_0000, 0x2000),
            (0xb000_0000, top - 0xb000_0000)
        ]
    );
}

#[test]
fn more_reserved_memory_than_fits_is_refused() {
    let mut tree = virt(0..1);
    // The tree and the initrd are two more.
    tree.reserved = (0..MAX_RANGES as u64 - 2)
        .map(|i| (0x9000_0000 + i * 0x2000, 0x1000))
        .collect();
    assert_eq!(tree.read().unwrap().reserved.as_slice().len(), MAX_RANGES);
    tree.listed = vec![(0xb000_0000, 1)];
    let refused = tree.read().err();
    assert_eq!(refused, Some(Unusable::TooManyRanges("reserved memory")));
    // Any number fits in one that is there.
    tree.listed = (0..100).map(|i| (0x9000_0000 + i * 16, 16)).collect();
    assert_eq!(tree.read().unwrap().reserved.as_slice().len(), MAX_RANGES);
}
