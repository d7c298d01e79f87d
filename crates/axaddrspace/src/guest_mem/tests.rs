//! The door to guest memory: what it lets through, and what not.

use alloc::vec;
use alloc::vec::Vec;

use axerrno::{AxError, AxErrorKind};
use proptest::prelude::{ProptestConfig, any, proptest};

use super::*;
use crate::mock::{self, MockHal, Shortage};
use crate::{Fill, Frame, FrameSize, NestedMode};

const K4: u64 = 4 << 10;
const M2: u64 = 2 << 20;
const R: MappingFlags = MappingFlags::READ;
const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

fn gpa(raw: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(raw)
}

/// From 0: a lazy page, a page that is only read, 4 MiB of pages and large leaves, 16 KiB of `host` memory, a page of device, a hole.
struct Machine {
    space: AddrSpace<MockHal>,
    host: Frame<MockHal>,
}

const RAM_END: u64 = 4 * M2 + 4 * K4;

fn machine() -> Machine {
    let mut space = AddrSpace::new(NestedMode::Sv39x4).unwrap();
    let host = Frame::alloc(FrameSize::Size16K).unwrap();
    space.map_alloc(gpa(0), K4, RW, Fill::Lazy).unwrap();
    space.map_alloc(gpa(K4), K4, R, Fill::Lazy).unwrap();
    space
        .map_alloc(gpa(2 * K4), 4 * M2 - 2 * K4, RW, Fill::Ahead)
        .unwrap();
    space
        .map_linear(gpa(4 * M2), host.start(), 4 * K4, RW)
        .unwrap();
    let device = RW.union(MappingFlags::DEVICE);
    space
        .map_linear(gpa(RAM_END), host.start(), K4, device)
        .unwrap();
    Machine { space, host }
}

#[test]
fn bytes_cross_leaves_and_regions() {
    let Machine { mut space, host } = machine();
    let bytes: Vec<u8> = (0..RAM_END - 2 * K4).map(|n| (n * 7 % 251) as u8).collect();
    space.memory().write(gpa(2 * K4), &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    space.memory().read(gpa(2 * K4), &mut back).unwrap();
    assert!(back == bytes);
    space
        .memory()
        .read(gpa(4 * M2 - 3), &mut back[..6])
        .unwrap();
    let at = (4 * M2 - 3 - 2 * K4) as usize;
    assert_eq!(back[..6], bytes[at..at + 6]);
    // The last of it is in the host memory that was mapped there.
    let at_host = host.virt().as_usize() + 4 * K4 as usize - 1;
    // SAFETY: `host` is a frame of 16 KiB.
    let last = unsafe { ptr::with_exposed_provenance::<u8>(at_host).read() };
    assert_eq!(Some(&last), bytes.last());
    space.memory().zero(gpa(M2 - 1), M2 + 2).unwrap();
    space.memory().read(gpa(2 * K4), &mut back).unwrap();
    let from = (M2 - 1 - 2 * K4) as usize;
    let to = from + M2 as usize + 2;
    assert!(back[..from] == bytes[..from] && back[to..] == bytes[to..]);
    assert!(back[from..to].iter().all(|&byte| byte == 0));
    drop(space);
    drop(host);
    assert_eq!(mock::outstanding(), 0);
}

#[test]
fn what_is_not_ram_is_out_of_reach() {
    let Machine { mut space, .. } = machine();
    let ranges = [
        (RAM_END, 1),
        (RAM_END - 1, 2),
        (RAM_END + K4, 1),
        (RAM_END + K4 - 1, 2),
        (2 * K4, RAM_END),
        (1 << 41, 8),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 7, 8),
        (0, u64::MAX),
        (K4, u64::MAX),
    ];
    for (at, len) in ranges {
        let error = GuestMemoryError::NotRam { gpa: gpa(at), len };
        assert_eq!(space.loader().zero(gpa(at), len), Err(error), "{at:#x}");
        if let Ok(len @ ..=0x100_0000) = usize::try_from(len) {
            let mut bytes = vec![0x5a; len];
            assert_eq!(space.memory().read(gpa(at), &mut bytes), Err(error));
            assert!(
                bytes.iter().all(|&byte| byte == 0x5a),
                "nothing is read in part"
            );
            assert_eq!(space.loader().write(gpa(at), &bytes), Err(error));
        }
    }
    // Nothing was written in part.
    assert_eq!(space.memory().read_u16(gpa(RAM_END - 2)), Ok(0));
    assert_eq!(
        AxError::from(GuestMemoryError::NotRam {
            gpa: gpa(0),
            len: 1
        }),
        AxErrorKind::BadAddress.into()
    );
    assert_eq!(
        std::format!(
            "{}",
            GuestMemoryError::NotRam {
                gpa: gpa(0x1000),
                len: 16
            }
        ),
        "0x10 bytes of guest memory at 0x1000 are not all RAM"
    );
}

#[test]
fn nothing_is_always_possible() {
    let Machine { mut space, .. } = machine();
    for at in [0, RAM_END, 1 << 41, u64::MAX] {
        assert_eq!(space.memory().read(gpa(at), &mut []), Ok(()));
        assert_eq!(space.memory().write(gpa(at), &[]), Ok(()));
        assert_eq!(space.memory().zero(gpa(at), 0), Ok(()));
    }
    assert_eq!(
        space.usage().ram_bytes,
        4 * M2 - 2 * K4,
        "nothing was filled for it"
    );
}

#[test]
fn only_the_loader_fills_what_the_guest_may_only_read() {
    let Machine { mut space, .. } = machine();
    let denied = GuestMemoryError::Denied {
        gpa: gpa(K4 - 1),
        len: 2,
    };
    assert_eq!(space.memory().write(gpa(K4 - 1), &[1, 2]), Err(denied));
    assert_eq!(space.memory().zero(gpa(K4 - 1), 2), Err(denied));
    assert_eq!(space.memory().read_u16(gpa(K4 - 1)), Ok(0));
    space.loader().write(gpa(K4 - 1), &[1, 2]).unwrap();
    assert_eq!(space.memory().read_u16(gpa(K4 - 1)), Ok(0x0201));
    assert_eq!(AxError::from(denied), AxErrorKind::PermissionDenied.into());
}

#[test]
fn numbers_are_little_endian_wherever_they_lie() {
    let Machine { mut space, .. } = machine();
    for at in [2 * K4, 2 * K4 + 1, M2 - 1, M2 - 3, 4 * M2 - 5, 4 * M2] {
        let mut memory = space.memory();
        memory.write_u64(gpa(at), 0x1122_3344_5566_7788).unwrap();
        assert_eq!(memory.read_u64(gpa(at)), Ok(0x1122_3344_5566_7788));
        assert_eq!(memory.read_u32(gpa(at)), Ok(0x5566_7788));
        assert_eq!(memory.read_u16(gpa(at + 6)), Ok(0x1122));
        memory.write_u32(gpa(at + 4), 0xaabb_ccdd).unwrap();
        memory.write_u16(gpa(at), 0xeeff).unwrap();
        let mut bytes = [0; 8];
        memory.read(gpa(at), &mut bytes).unwrap();
        assert_eq!(bytes, [0xff, 0xee, 0x66, 0x55, 0xdd, 0xcc, 0xbb, 0xaa]);
    }
}

#[test]
fn lazy_pages_come_zeroed_or_the_error_says_that_they_do_not() {
    let Machine { mut space, .. } = machine();
    let before = space.usage().ram_bytes;
    assert_eq!(space.memory().read_u64(gpa(K4 - 4)), Ok(0));
    assert_eq!(space.usage().ram_bytes, before + 2 * K4);
    space.map_alloc(gpa(1 << 30), K4, RW, Fill::Lazy).unwrap();
    mock::restart(Shortage::From(0));
    let error = GuestMemoryError::OutOfMemory {
        gpa: gpa((1 << 30) + 8),
        len: 4,
    };
    assert_eq!(space.memory().write_u32(gpa((1 << 30) + 8), 1), Err(error));
    assert_eq!(AxError::from(error), AxErrorKind::NoMemory.into());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn no_range_reaches_past_the_end(at in any::<u64>(), len in any::<u64>(), near in any::<bool>()) {
        // Half of the ranges lie around the end of the guest's RAM.
        let (at, len) = if near { (RAM_END - 64 + at % 128, len % 128) } else { (at, len) };
        let mut space = AddrSpace::<MockHal>::new(NestedMode::Sv48x4).unwrap();
        space.map_alloc(gpa(RAM_END - K4), K4, RW, Fill::Lazy).unwrap();
        let inside = len == 0 && at.checked_add(len).is_some()
            || at >= RAM_END - K4 && at.checked_add(len).is_some_and(|end| end <= RAM_END);
        assert_eq!(space.memory().zero(gpa(at), len).is_ok(), inside);
    }
}
