use super::*;

#[test]
fn the_table_is_in_order() {
    assert!(TABLE.windows(2).all(|two| two[0].0 < two[1].0));
}

#[test]
fn msrs_are_what_they_are() {
    let address = |register| Some(MsrKind::Address(register));
    for (number, expected) in [
        (0x1b, Some(MsrKind::Device)),
        (0x6e0, Some(MsrKind::Device)),
        (0x800, Some(MsrKind::Device)),
        (0x8ff, Some(MsrKind::Device)),
        (0xc000_0080, Some(MsrKind::Efer)),
        (0xc000_0082, address(Register::Lstar)),
        (0x277, Some(MsrKind::Pat)),
        (0x1d9, Some(MsrKind::Constant(0, OnWrite::Ignore))),
        (0x179, Some(MsrKind::Constant(0, OnWrite::Fault))),
        // Speculation control, VM_CR, VM_HSAVE_PA, VMX capabilities, x2APIC's end, microcode update.
        (0x48, None),
        (0x49, None),
        (0xc001_0114, None),
        (0xc001_0117, None),
        (0x480, None),
        (0x900, None),
        (0x79, None),
        (0xda0, None),
        (0x251, None),
        (0x210, None),
        (0, None),
        (u32::MAX, None),
    ] {
        assert_eq!(kind(number), expected, "{number:#x}");
    }
}

#[test]
fn memory_type_ranges_have_places_of_their_own() {
    let numbers = (0x200..0x210)
        .chain(FIXED_RANGES)
        .chain([0x2ff, 0x1a0, 0xc001_0015]);
    let mut places: alloc::vec::Vec<_> = numbers
        .map(|number| match kind(number) {
            Some(MsrKind::Stored { place, .. }) => place,
            other => panic!("{number:#x}: {other:?}"),
        })
        .collect();
    places.sort_unstable();
    assert!(places.iter().copied().eq(0..PLACES));
    let mut storage = MsrStorage::new();
    storage.write(3, 77);
    assert_eq!(storage.read(3), 77);
    storage.write(PLACES, 1);
    assert_eq!(storage.read(PLACES), 0);
}

#[test]
fn page_attributes_are_memory_types() {
    assert!(is_valid_pat(PAT_RESET));
    assert!(is_valid_pat(0x0105_0706_0407_0001));
    for wrong in [2, 3, 8, 0xff] {
        assert!(!is_valid_pat(PAT_RESET & !0xff00 | wrong << 8), "{wrong}");
    }
}

#[test]
fn canonical_addresses_repeat_their_sign() {
    for (address, bits, fine) in [
        (0, 48, true),
        (0x7fff_ffff_ffff, 48, true),
        (0x8000_0000_0000, 48, false),
        (0xffff_8000_0000_0000, 48, true),
        (0x8000_0000_0000, 57, true),
        (0x0100_0000_0000_0000, 57, false),
        (u64::MAX, 57, true),
    ] {
        assert_eq!(is_canonical(address, bits), fine, "{address:#x}");
    }
}
