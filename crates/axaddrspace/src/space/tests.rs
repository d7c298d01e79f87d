//! The address space as its callers see it, and as the hardware does.

use alloc::vec::Vec;

use super::*;
use crate::LargestLeaf;
use crate::mock::{self, MockHal, Shortage, hardware_map, hardware_walk};

mod failure;
mod lazy;
mod model;

pub(super) const MODES: [NestedMode; 6] = [
    NestedMode::Sv39x4,
    NestedMode::Sv48x4,
    NestedMode::Ept(LargestLeaf::Size2M),
    NestedMode::Ept(LargestLeaf::Size1G),
    NestedMode::Npt(LargestLeaf::Size2M),
    NestedMode::Npt(LargestLeaf::Size1G),
];
pub(super) const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);
pub(super) const RWX: MappingFlags = RW.union(MappingFlags::EXECUTE);
const K4: u64 = 4 << 10;
const M2: u64 = 2 << 20;
const G1: u64 = 1 << 30;

impl MemoryUsage {
    /// Frames of both kinds.
    fn total_bytes(self) -> u64 {
        self.ram_bytes + self.table_bytes
    }
}

fn gpa(raw: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(raw)
}

fn hpa(raw: u64) -> HostPhysAddr {
    HostPhysAddr::new(raw)
}

/// The bytes of the root.
pub(super) fn root_bytes(mode: NestedMode) -> u64 {
    match mode {
        NestedMode::Sv39x4 | NestedMode::Sv48x4 => 16 << 10,
        NestedMode::Ept(_) | NestedMode::Npt(_) => 4 << 10,
    }
}

fn space(mode: NestedMode) -> AddrSpace<MockHal> {
    let space = AddrSpace::new(mode).unwrap();
    mock::watch(mode, space.nested_root());
    space
}

/// Drops `space` while the hardware still remembers all of it, and sees that everything comes back.
fn end(space: AddrSpace<MockHal>) {
    mock::unwatch();
    drop(space);
    assert_eq!(mock::outstanding(), 0);
}

/// Where `at` leads, and how large its leaf is, by our word and the hardware's.
fn leads(space: &AddrSpace<MockHal>, at: u64) -> Option<(u64, u64)> {
    let ours = space.translate(gpa(at));
    let theirs = hardware_walk(space.mode(), space.nested_root(), at);
    assert_eq!(
        ours.map(|found| found.hpa.as_u64()),
        theirs.map(|(hpa, _)| hpa)
    );
    ours.map(|found| {
        let rwx = found.flags.difference(MappingFlags::DEVICE).bits();
        assert_eq!(Some(u64::from(rwx)), theirs.map(|(_, rwx)| rwx));
        let is_leaf = |&size: &u64| {
            let first = space.translate(gpa(at - at % size));
            first.is_some_and(|first| first.contiguous == size)
        };
        let size = [G1, M2, K4].into_iter().find(is_leaf).unwrap();
        assert_eq!(found.contiguous, size - at % size);
        (found.hpa.as_u64(), size)
    })
}

#[test]
fn an_empty_space_is_one_zeroed_root() {
    for mode in MODES {
        let space = space(mode);
        assert_eq!(
            space.usage(),
            MemoryUsage {
                ram_bytes: 0,
                table_bytes: root_bytes(mode)
            }
        );
        assert!(space.nested_root().is_aligned(root_bytes(mode)));
        assert_eq!(leads(&space, 0), None);
        assert_eq!(leads(&space, (1 << mode.gpa_bits()) - 1), None);
        end(space);
    }
}

#[test]
fn the_modes_have_the_numbers_of_the_manual() {
    assert_eq!(MODES.map(NestedMode::gpa_bits), [41, 50, 48, 48, 48, 48]);
    assert_eq!(MODES.map(NestedMode::levels), [3, 4, 4, 4, 4, 4]);
    assert_eq!(MODES.map(NestedMode::hgatp_mode), [8, 9, 0, 0, 0, 0]);
    assert_eq!(
        MODES.map(NestedMode::name),
        ["Sv39x4", "Sv48x4", "EPT", "EPT", "NPT", "NPT"]
    );
}

#[test]
fn linear_leaves_are_as_large_as_both_addresses_and_the_length_allow() {
    for mode in MODES {
        let mut space = space(mode);
        // A page, then 2 MiB leaves up to 1 GiB, then a 1 GiB leaf, then 2 MiB, then a page.
        let start = G1 - M2 - K4;
        space
            .map_linear(gpa(start), hpa(5 * G1 - M2 - K4), G1 + 2 * (M2 + K4), RWX)
            .unwrap();
        for (at, size) in [
            (0, K4),
            (K4, M2),
            (M2 + K4, mode.largest_leaf().bytes()),
            (G1 + M2 + K4, M2),
            (G1 + 2 * M2 + K4, K4),
        ] {
            assert_eq!(
                leads(&space, start + at),
                Some((5 * G1 - M2 - K4 + at, size))
            );
            assert_eq!(
                leads(&space, start + at + 0x123).unwrap().0,
                5 * G1 - M2 - K4 + at + 0x123
            );
        }
        assert_eq!(leads(&space, start - 1), None);
        assert_eq!(leads(&space, start + G1 + 2 * (M2 + K4)), None);
        // The host address is aligned to 2 MiB only.
        space
            .map_linear(gpa(8 * G1), hpa(7 * G1 + M2), G1, RWX)
            .unwrap();
        assert_eq!(leads(&space, 8 * G1), Some((7 * G1 + M2, M2)));
        // To a page only.
        space
            .map_linear(gpa(16 * G1), hpa(7 * G1 + K4), M2, RWX)
            .unwrap();
        assert_eq!(leads(&space, 16 * G1), Some((7 * G1 + K4, K4)));
        assert_eq!(space.usage().ram_bytes, 0);
        end(space);
    }
}

#[test]
fn the_whole_width_of_guest_physical_addresses_is_there() {
    for mode in MODES {
        let mut space = space(mode);
        let limit = 1u64 << mode.gpa_bits();
        space.map_linear(gpa(limit - G1), hpa(G1), G1, RW).unwrap();
        assert_eq!(
            leads(&space, limit - 1),
            Some((2 * G1 - 1, mode.largest_leaf().bytes()))
        );
        // The root's two extra bits: the same index but for them.
        assert_eq!(leads(&space, limit / 4 - 1), None);
        assert_eq!(space.translate(gpa(limit)), None);
        assert_eq!(space.translate(gpa(u64::MAX)), None);
        assert_eq!(
            space.handle_page_fault(gpa(limit), RW),
            FaultOutcome::NotMapped
        );
        end(space);
    }
}

#[test]
fn ahead_takes_the_largest_frames() {
    let mut space = space(NestedMode::Sv39x4);
    space
        .map_alloc(gpa(G1 - K4), G1 + K4 + M2 + K4, RWX, Fill::Ahead)
        .unwrap();
    let sizes: Vec<_> = [G1 - K4, G1, 2 * G1 - 1, 2 * G1, 2 * G1 + M2]
        .map(|at| leads(&space, at).unwrap().1)
        .into();
    assert_eq!(sizes, [K4, G1, G1, M2, K4]);
    assert_eq!(space.usage().ram_bytes, G1 + M2 + 2 * K4);
    assert_eq!(space.usage().total_bytes(), mock::outstanding());
    let mut last = [0xff; 16];
    space.memory().read(gpa(2 * G1 - 16), &mut last).unwrap();
    assert_eq!(last, [0; 16]);
    end(space);
}

#[test]
fn ahead_makes_do_with_smaller_frames() {
    for (largest, size) in [(FrameSize::Size2M, M2), (FrameSize::Size16K, K4)] {
        let mut space = space(NestedMode::Sv48x4);
        mock::restart(Shortage::Above(largest));
        space.map_alloc(gpa(0), 2 * M2, RWX, Fill::Ahead).unwrap();
        assert_eq!(leads(&space, 0).unwrap().1, size);
        assert_eq!(space.usage().ram_bytes, 2 * M2);
        end(space);
    }
}

#[test]
fn unmapping_splits_what_reaches_out() {
    for mode in MODES {
        let mut space = space(mode);
        space
            .map_linear(gpa(4 * G1), hpa(6 * G1), 2 * G1, RWX)
            .unwrap();
        let empty_root = root_bytes(mode);
        let hole = 5 * G1 + M2 + 3 * K4;
        space.unmap(gpa(hole), K4).unwrap();
        assert_eq!(leads(&space, hole), None);
        assert_eq!(leads(&space, hole - 1), Some((2 * G1 + hole - 1, K4)));
        assert_eq!(leads(&space, hole + K4), Some((2 * G1 + hole + K4, K4)));
        assert_eq!(leads(&space, 5 * G1), Some((7 * G1, M2)));
        assert_eq!(leads(&space, 5 * G1 + 2 * M2), Some((7 * G1 + 2 * M2, M2)));
        assert_eq!(
            leads(&space, 5 * G1 - 1),
            Some((7 * G1 - 1, mode.largest_leaf().bytes()))
        );
        assert_eq!(
            space.handle_page_fault(gpa(hole), RW),
            FaultOutcome::NotMapped
        );
        // The hole can be used, nothing around it.
        assert!(space.map_linear(gpa(hole), hpa(0), 2 * K4, RWX).is_err());
        space.map_linear(gpa(hole), hpa(0), K4, RWX).unwrap();
        assert_eq!(leads(&space, hole), Some((0, K4)));
        // Tables that map nothing go.
        space.unmap(gpa(0), 8 * G1).unwrap();
        assert_eq!(space.usage().table_bytes, empty_root);
        assert_eq!(mock::outstanding(), empty_root);
        end(space);
    }
}

#[test]
fn a_frame_stays_until_its_last_piece_goes() {
    let mut space = space(NestedMode::Sv39x4);
    space.map_alloc(gpa(0), 2 * M2, RW, Fill::Ahead).unwrap();
    let before = leads(&space, 0).unwrap().0;
    space.unmap(gpa(K4), M2 - 2 * K4).unwrap();
    assert_eq!(space.usage().ram_bytes, 2 * M2);
    assert_eq!(leads(&space, 0), Some((before, K4)));
    assert_eq!(leads(&space, M2 - 1), Some((before + M2 - 1, K4)));
    // Frames of its own in the hole do not confuse the account.
    space.map_alloc(gpa(K4), K4, RW, Fill::Ahead).unwrap();
    assert_eq!(space.usage().ram_bytes, 2 * M2 + K4);
    space.unmap(gpa(0), K4).unwrap();
    assert_eq!(space.usage().ram_bytes, 2 * M2 + K4);
    space.unmap(gpa(M2 - K4), K4).unwrap();
    assert_eq!(space.usage().ram_bytes, M2 + K4);
    space.unmap(gpa(0), M2).unwrap();
    assert_eq!(space.usage().ram_bytes, M2);
    assert_eq!(space.usage().total_bytes(), mock::outstanding());
    end(space);
}

#[test]
fn pieces_of_a_gigabyte_frame_on_two_levels() {
    let mut space = space(NestedMode::Sv39x4);
    space.map_alloc(gpa(G1), G1, RW, Fill::Ahead).unwrap();
    space.unmap(gpa(G1 + K4), M2).unwrap();
    assert_eq!(space.usage().ram_bytes, G1);
    // New RAM in the hole; then all of the old goes but a page.
    space.map_alloc(gpa(G1 + K4), M2, RW, Fill::Ahead).unwrap();
    assert_eq!(space.usage().ram_bytes, G1 + M2);
    space.unmap(gpa(G1), K4).unwrap();
    space.unmap(gpa(G1 + 2 * M2), G1 - 2 * M2).unwrap();
    space.unmap(gpa(G1 + M2 + 2 * K4), M2 - 2 * K4).unwrap();
    assert_eq!(space.usage().ram_bytes, G1 + M2);
    space.unmap(gpa(G1 + M2 + K4), K4).unwrap();
    assert_eq!(space.usage().ram_bytes, M2);
    assert_eq!(space.usage().total_bytes(), mock::outstanding());
    end(space);
}

#[test]
fn a_stand_in_is_mapped_and_no_ram() {
    for mode in MODES {
        let mut space = space(mode);
        let at = gpa(0x1_0000);
        let frame = space.map_stand_in(at).unwrap();
        assert_eq!(leads(&space, 0x1_0000), Some((frame.as_u64(), K4)));
        assert_eq!(
            space.translate(at).unwrap().flags,
            RW | MappingFlags::DEVICE
        );
        assert!(space.memory().read(at, &mut [0]).is_err());
        assert!(space.loader().write(at, &[0]).is_err());
        assert!(space.fixed_ram().page(at).is_none());
        assert!(matches!(
            space.map_stand_in(at),
            Err(AddrSpaceError::Overlap { .. })
        ));
        assert_eq!(space.usage().ram_bytes, K4, "it is on the account");
        end(space);
    }
}
