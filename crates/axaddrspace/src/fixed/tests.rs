//! What stays where it is, and for how long.

use super::*;
use crate::mock::{self, MockHal, Shortage};
use crate::{AddrSpace, AddrSpaceError, Fill, FrameSize, MappingFlags, NestedMode};

const K4: u64 = 4 << 10;
const M2: u64 = 2 << 20;
const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

fn gpa(raw: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(raw)
}

/// From 0: 4 MiB ahead, a lazy page, a page that is only read.
fn space() -> AddrSpace<MockHal> {
    mock::restart(Shortage::None);
    let mut space = AddrSpace::new(NestedMode::Sv39x4).unwrap();
    space.map_alloc(gpa(0), 2 * M2, RW, Fill::Ahead).unwrap();
    space.map_alloc(gpa(2 * M2), K4, RW, Fill::Lazy).unwrap();
    space
        .map_alloc(gpa(2 * M2 + K4), K4, MappingFlags::READ, Fill::Ahead)
        .unwrap();
    space
}

#[test]
fn bytes_are_those_behind_the_door() {
    let mut space = space();
    let fixed = space.fixed_ram();
    assert!(fixed.write(gpa(5), &[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let mut back = [0; 3];
    space.memory().read(gpa(7), &mut back).unwrap();
    assert_eq!(back, [3, 4, 5]);
    space.memory().write(gpa(2 * M2 - 1), &[7]).unwrap();
    assert!(fixed.read(gpa(2 * M2 - 1), &mut back[..1]));
    assert_eq!(back[0], 7);
    let page = fixed.page(gpa(6)).unwrap();
    assert_eq!(page.read(6), Some([2, 3]));
    assert_eq!(page.word(8).map(|word| word.read()), Some(0x0908_0706_0504));
}

#[test]
fn bytes_cross_frames() {
    mock::restart(Shortage::Above(FrameSize::Size16K));
    let mut space = AddrSpace::<MockHal>::new(NestedMode::Sv39x4).unwrap();
    space.map_alloc(gpa(0), 9 * K4, RW, Fill::Ahead).unwrap();
    let fixed = space.fixed_ram();
    let bytes: Vec<u8> = (0..9 * K4 as usize).map(|n| (n % 251) as u8).collect();
    assert!(fixed.write(gpa(0), &bytes));
    let mut back = alloc::vec![0; bytes.len() - 2];
    assert!(fixed.read(gpa(1), &mut back));
    assert!(back == bytes[1..bytes.len() - 1]);
    assert!(!fixed.read(gpa(3), &mut back) && !fixed.write(gpa(3), &back));
    let mut door = alloc::vec![0; bytes.len()];
    space.memory().read(gpa(0), &mut door).unwrap();
    assert!(door == bytes);
}

#[test]
fn what_is_not_fixed_is_not_there() {
    let mut space = space();
    // Filled, but it may be unmapped again.
    space.memory().write(gpa(2 * M2), &[1]).unwrap();
    let fixed = space.fixed_ram();
    let mut byte = [0; 2];
    for at in [2 * M2, 2 * M2 + K4, 2 * M2 - 1, u64::MAX, u64::MAX - 1] {
        assert!(!fixed.read(gpa(at), &mut byte), "{at:#x}");
        assert!(!fixed.write(gpa(at), &byte), "{at:#x}");
    }
    assert!(fixed.page(gpa(2 * M2)).is_none() && fixed.page(gpa(u64::MAX)).is_none());
    let page = fixed.page(gpa(M2 + 1)).unwrap();
    assert!(page.read::<4>(4093).is_none() && page.read::<5000>(0).is_none());
    assert!(page.read::<1>(usize::MAX).is_none() && page.read::<4>(4092).is_some());
    for offset in [4, 4096, usize::MAX - 7] {
        assert!(page.word(offset).is_none());
    }
}

#[test]
fn what_is_held_is_not_unmapped() {
    let mut space = space();
    let page = space.fixed_ram().page(gpa(0)).unwrap();
    let (start, len) = (gpa(M2), 2 * M2);
    let held = AddrSpaceError::Held { start, len };
    assert_eq!(space.unmap(start, len), Err(held));
    // The lazy page is nobody's.
    space.unmap(gpa(2 * M2), K4).unwrap();
    drop(page);
    space.unmap(start, len).unwrap();
}

#[test]
fn what_is_held_does_not_go_back() {
    let mut space = space();
    let page = space.fixed_ram().page(gpa(0)).unwrap();
    space.memory().write(gpa(0), &[42]).unwrap();
    drop(space);
    assert_eq!(page.read(0), Some([42]));
    assert!(mock::outstanding() >= 2 * FrameSize::Size2M.bytes());
    drop(page);
    mock::restart(Shortage::None);
}

#[test]
fn what_is_not_held_goes_back() {
    let space = space();
    drop(space.fixed_ram());
    drop(space);
    assert_eq!(mock::outstanding(), 0);
}
