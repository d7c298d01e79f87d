use alloc::vec::Vec;

use proptest::prelude::*;

use super::{super::MemoryMap, *};
use crate::boot::testing::{number, range};

fn note(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, value.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for part in [name, value] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

#[test]
fn the_entry_is_in_a_note_of_xens() {
    let entry = 0x100_0040u32.to_le_bytes();
    let right = note(b"Xen\0", 18, &entry);
    let others = [
        note(b"GNU\0", 18, &entry),
        note(b"Xen\0", 17, &entry),
        note(b"Linux\0", 257, &[]),
    ]
    .concat();
    let found = |notes: &[u8]| super::entry(notes).map(GuestPhysAddr::as_u64);
    assert_eq!(found(&right), Some(0x100_0040));
    assert_eq!(found(&[&others[..], &right].concat()), Some(0x100_0040));
    let wide = note(b"Xen\0", 18, &[&entry[..], &[0; 4]].concat());
    assert_eq!(found(&wide), Some(0x100_0040));
    assert_eq!(found(&others), None);
    assert_eq!(found(&right[..right.len() - 1]), None);
    assert_eq!(found(&note(b"Xen\0", 18, &entry[..2])), None);
}

#[test]
fn the_start_information_is_what_the_vm_has() {
    let memory = MemoryMap::new(&[range(0, 16 << 20)]);
    let facts = BootFacts {
        cmdline: Some("a b"),
        ramdisk: Some(range(0x40_0000, 0x1234)),
        memory: &memory,
    };
    let page = start_info(&facts).into_bytes();
    let word = |at| number::<4>(&page, at);
    let wide = |at| number::<8>(&page, at);
    assert_eq!((word(0), word(4), word(8)), (0x336e_c578, 1, 0));
    assert_eq!((word(12), wide(24), wide(32)), (1, CMDLINE, ACPI));
    let module = (wide(16) - INFO) as usize;
    assert_eq!((wide(module), wide(module + 8)), (0x40_0000, 0x1234));
    let map = (wide(40) - INFO) as usize;
    assert_eq!(word(48) as usize, memory.entries().len());
    for (entry, at) in memory.entries().iter().zip((map..).step_by(24)) {
        let told = (wide(at), wide(at + 8), word(at + 16));
        assert_eq!(told, (entry.start, entry.size, entry.kind as u64));
    }
}

proptest! {
    #[test]
    fn any_notes_are_decided(notes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = super::entry(&notes);
    }

    #[test]
    fn any_lengths_are_decided(name in any::<u32>(), value in any::<u32>(), rest in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut notes = Vec::new();
        for word in [name, value, 18] {
            notes.extend(word.to_le_bytes());
        }
        notes.extend(rest);
        let _ = super::entry(&notes);
    }
}
