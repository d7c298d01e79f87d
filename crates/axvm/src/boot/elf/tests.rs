use alloc::{vec, vec::Vec};
use std::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::boot::testing::{Segment, elf, range};

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 0x10_0000;

/// What the plan for `file` writes, if it comes in pieces of `step` bytes.
fn load_in_pieces(file: &[u8], step: usize) -> Result<(GuestPhysAddr, Vec<u8>), ElfError> {
    let regions = [range(BASE, SIZE)];
    let plan = ElfPlan::new(file, Isa::Riscv64, &mut RamMap::new(&regions))?;
    let mut ram = vec![0; SIZE as usize];
    for (index, piece) in file.chunks(step).enumerate() {
        for (addr, part) in plan.pieces((index * step) as u64, piece) {
            let at = (addr.as_u64() - BASE) as usize;
            ram[at..at + part.len()].copy_from_slice(part);
        }
    }
    plan.check_len(file.len() as u64)?;
    Ok((plan.entry, ram))
}

fn error(file: &[u8]) -> ElfError {
    load_in_pieces(file, file.len().max(1)).unwrap_err()
}

fn segment(paddr: u64, filesz: u64, memsz: u64) -> Segment {
    Segment {
        paddr,
        vaddr: paddr,
        filesz,
        memsz,
    }
}

#[test]
fn segments_go_to_their_physical_addresses() {
    let high = 0xffff_ffff_8000_0000;
    let file = elf(
        high + 0x1004,
        &[
            Segment {
                paddr: BASE + 0x1000,
                vaddr: high + 0x1000,
                filesz: 16,
                memsz: 64,
            },
            Segment {
                paddr: BASE + 0x3000,
                vaddr: high + 0x3000,
                filesz: 0,
                memsz: 0x1000,
            },
            Segment {
                paddr: 0,
                vaddr: 0,
                filesz: 0,
                memsz: 0,
            },
        ],
    );
    for step in [1, 7, 64, file.len()] {
        let (entry, ram) = load_in_pieces(&file, step).unwrap();
        assert_eq!(entry.as_u64(), BASE + 0x1004);
        assert_eq!(
            ram[0x1000..0x1012],
            (1..=16).chain([0, 0]).collect::<Vec<u8>>()
        );
        assert_eq!(
            ram.iter().filter(|&&byte| byte != 0).count(),
            16,
            "pieces of {step}"
        );
    }
}

#[test]
fn a_segment_outside_ram_is_named() {
    let inside = segment(BASE, 4, 4);
    for (start, memsz) in [
        (BASE - 1, 2),
        (BASE + SIZE - 1, 2),
        (BASE + SIZE, 1),
        (0, 8),
        (BASE + 8, SIZE),
    ] {
        let why = error(&elf(BASE, &[inside, segment(start, 0, memsz)]));
        let expected = ElfError::Place(1, PlaceError::OutsideRam(range(start, memsz)));
        assert_eq!(why, expected);
        assert!(why.to_string().starts_with("ELF segment 1: "), "{why}");
    }
    assert_eq!(
        error(&elf(BASE, &[segment(u64::MAX - 1, 0, 3)])),
        ElfError::Place(0, PlaceError::Wraps(GuestPhysAddr::new(u64::MAX - 1), 3))
    );
}

#[test]
fn segments_that_overlap_are_refused() {
    let why = error(&elf(BASE, &[segment(BASE, 8, 8), segment(BASE + 7, 8, 8)]));
    assert!(
        matches!(why, ElfError::Place(1, PlaceError::Overlaps(..))),
        "{why}"
    );
}

#[test]
fn sizes_that_lie_are_refused() {
    assert_eq!(
        error(&elf(BASE, &[segment(BASE, 8, 4)])),
        ElfError::BadSegment(0)
    );
    let mut far = elf(BASE, &[segment(BASE, 8, 8)]);
    far[64 + 8..64 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        error(&far),
        ElfError::BadSegment(0),
        "its place in the file wraps"
    );
    let mut short = elf(BASE, &[segment(BASE, 100, 100)]);
    short.truncate(short.len() - 1);
    assert_eq!(error(&short), ElfError::BadSegment(0));
}

#[test]
fn headers_that_do_not_fit_us_are_refused() {
    let good = elf(BASE, &[segment(BASE, 4, 4)]);
    let with = |at: usize, value: u8| {
        let mut file = good.clone();
        file[at] = value;
        error(&file)
    };
    let foreign = |found| ElfError::WrongMachine {
        found,
        machine: Isa::Riscv64,
    };
    assert_eq!(with(18, 62), foreign(62));
    assert_eq!(
        with(18, 62).to_string(),
        "ELF file is for x86_64, and this machine is riscv64"
    );
    assert_eq!(
        with(18, 183).to_string(),
        "ELF file is not for riscv64 (its e_machine is 183)"
    );
    assert_eq!(with(4, 9), ElfError::Malformed);
    assert_eq!(error(&elf(BASE, &[])), ElfError::Segments(0));
    let many: Vec<_> = (0..65).map(|at| segment(BASE + at * 16, 4, 4)).collect();
    assert_eq!(error(&elf(BASE, &many)), ElfError::Segments(65));
    assert_eq!(
        error(&elf(BASE + 4, &[segment(BASE, 4, 4)])),
        ElfError::EntryOutside(BASE + 4)
    );
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    let file = elf(
        BASE,
        &[segment(BASE, 20, 20), segment(BASE + 0x100, 20, 20)],
    );
    for len in 0..file.len() {
        error(&file[..len]);
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic_nor_leave_ram(
        changes in prop::collection::vec((0..200usize, any::<u8>()), 0..20),
        step in 1..300usize,
    ) {
        let mut file = elf(BASE, &[segment(BASE, 20, 20), segment(BASE + 0x100, 20, 20)]);
        for (at, value) in changes {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        // Writing outside RAM would panic.
        let _ = load_in_pieces(&file, step);
    }
}
