use alloc::vec;

use proptest::prelude::*;

use super::{super::MemoryMap, *};
use crate::boot::testing::{Draft, bz_image, number, range};

fn header(file: Draft) -> Result<SetupHeader, ImageError> {
    SetupHeader::parse(&file.0).map(|header| header.expect("it is a bzImage"))
}

fn refusal(file: Draft) -> &'static str {
    match header(file) {
        Err(ImageError::Header(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_booted_is_refused_in_words() {
    let file = bz_image;
    assert!(header(file()).is_ok());
    assert_eq!(SetupHeader::parse(&file().u32(MAGIC, 0).0), Ok(None));
    assert!(refusal(file().u16(VERSION, 0x20b)).contains("too old"));
    assert!(refusal(file().u16(BOOT_FLAG, 0)).contains("boot flag"));
    assert!(refusal(file().put(LOADFLAGS, &[0])).contains("zImage"));
    assert!(refusal(file().u16(XLOADFLAGS, 0)).contains("64-bit"));
    assert!(refusal(file().u32(KERNEL_ALIGNMENT, 0)).contains("alignment"));
    let mut short = file();
    short.0.truncate(0x28f);
    assert_eq!(header(short), Err(ImageError::Truncated));
}

#[test]
fn the_kernel_goes_where_it_prefers_or_where_there_is_room() {
    let place = |file: Draft, wanted: Option<u64>, ram: u64| {
        let regions = [range(0, ram)];
        let place = header(file)
            .unwrap()
            .place(wanted.map(GuestPhysAddr::new), &RamMap::new(&regions));
        place.map(GuestPhysAddr::as_u64)
    };
    let is_refused = |place: Result<u64, ImageError>, why: &str| {
        let Err(ImageError::Header(found)) = place else {
            panic!("{place:?}")
        };
        assert!(found.contains(why), "{found}");
    };
    // It prefers 16 MiB, and takes 1 MiB.
    let file = bz_image;
    assert_eq!(place(file(), None, 64 << 20), Ok(16 << 20));
    assert_eq!(place(file(), None, 17 << 20), Ok(16 << 20));
    assert_eq!(place(file(), None, (17 << 20) - 1), Ok(2 << 20));
    assert_eq!(place(file(), Some(4 << 20), 64 << 20), Ok(4 << 20));
    is_refused(place(file(), Some(5 << 20), 64 << 20), "alignment");
    is_refused(place(file(), Some(4 << 30), 64 << 20), "4 GiB");
    is_refused(place(file(), Some(!0xf_ffff), 64 << 20), "multiple");
    let fixed = || file().put(RELOCATABLE, &[0]);
    assert_eq!(place(fixed(), None, 8 << 20), Ok(16 << 20));
    is_refused(place(fixed(), Some(4 << 20), 64 << 20), "anywhere but");
}

#[test]
fn the_boot_parameters_are_the_header_and_what_the_vm_has() {
    let memory = MemoryMap::new(&[range(0, 16 << 20), range(4 << 30, 1 << 30)]);
    let facts = BootFacts {
        cmdline: Some("console=ttyS0"),
        ramdisk: Some(range(0x1_2345_6000, 0x1_0000_0001)),
        memory: &memory,
    };
    let file = bz_image();
    let page = header(bz_image()).unwrap().parameters(&facts).into_bytes();
    // The header ends where its jump leads.
    assert_eq!(page[HEADER..TYPE_OF_LOADER], file.0[HEADER..TYPE_OF_LOADER]);
    assert_eq!(page[PREF_ADDRESS..0x268], file.0[PREF_ADDRESS..0x268]);
    assert_eq!(page[0x268..0x2d0], [0; 0x68]);
    assert_eq!(page[..ACPI_RSDP_ADDR], [0; ACPI_RSDP_ADDR]);
    assert_eq!(page[TYPE_OF_LOADER], 0xff);
    let word = |at| number::<4>(&page, at);
    assert_eq!(word(CMD_LINE_PTR), CMDLINE);
    assert_eq!(
        (word(RAMDISK_IMAGE), word(EXT_RAMDISK_IMAGE)),
        (0x2345_6000, 1)
    );
    assert_eq!((word(RAMDISK_SIZE), word(EXT_RAMDISK_SIZE)), (1, 1));
    assert_eq!(number::<8>(&page, ACPI_RSDP_ADDR), ACPI);
    assert_eq!(usize::from(page[E820_ENTRIES]), memory.entries().len());
    for (entry, at) in memory.entries().iter().zip((E820_TABLE..).step_by(20)) {
        let told = (
            number::<8>(&page, at),
            number::<8>(&page, at + 8),
            word(at + 16),
        );
        assert_eq!(told, (entry.start, entry.size, entry.kind as u64));
    }
}

#[test]
fn the_page_tables_map_4_gib_to_themselves() {
    let root = 0x9_2000;
    let tables = page_tables(root);
    assert_eq!(tables.len() as u64, PAGE_TABLES_SIZE);
    let walk = |addr: u64| {
        let entry = |table: u64, index: u64| {
            let at = (table - root + 8 * (index % 512)) as usize;
            number::<8>(&tables, at)
        };
        let upper = entry(root, addr >> 39);
        assert_eq!(upper & 0xfff, 3);
        let middle = entry(upper & !0xfff, addr >> 30);
        assert_eq!(middle & 0xfff, 3);
        let lower = entry(middle & !0xfff, addr >> 21);
        assert_eq!(lower & 0xfff, 0x83);
        (lower & !0xfff) + addr % (2 << 20)
    };
    for addr in [0, 0x20_0000, 0x1234_5678, 0xffff_ffff] {
        assert_eq!(walk(addr), addr);
    }
    assert_eq!(number::<8>(&tables, 8), 0);
    assert_eq!(number::<8>(&tables, 0x1000 + 4 * 8), 0);
}

proptest! {
    #[test]
    fn any_header_is_decided(
        changes in prop::collection::vec((HEADER..HEADER_END, any::<u8>()), 0..20),
        ram in 1u64..1 << 40, wanted in any::<Option<u64>>(),
    ) {
        let mut file = bz_image();
        for (at, byte) in changes {
            file.0[at] = byte;
        }
        if let Ok(Some(header)) = SetupHeader::parse(&file.0) {
            let _ = header.least_len();
            let regions = [range(0, ram)];
            if let Ok(start) = header.place(wanted.map(GuestPhysAddr::new), &RamMap::new(&regions)) {
                prop_assert!(start.as_u64() + header.memory_size() <= MAPPED);
                let _ = header.entry(start);
            }
            let memory = MemoryMap::new(&regions);
            let facts = BootFacts { cmdline: Some("x"), ramdisk: None, memory: &memory };
            prop_assert_eq!(header.parameters(&facts).into_bytes().len(), 4096);
        }
    }

    #[test]
    fn any_front_is_decided(front in prop::collection::vec(any::<u8>(), 0..0x300)) {
        let _ = SetupHeader::parse(&front);
        let mut file = vec![0; 0x300];
        file[..front.len()].copy_from_slice(&front);
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        let _ = SetupHeader::parse(&file);
    }
}
