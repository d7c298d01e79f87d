use alloc::{vec, vec::Vec};
use std::string::{String, ToString};

use proptest::prelude::*;

use super::*;
use crate::boot::ram::PlaceError;
use crate::boot::{
    ElfError, GuestRange,
    testing::{Segment, TestRam, bz_image, elf, gzip, linux_image, range},
};

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 4 << 20;
const TEXT: u64 = 2 << 20;

struct Loaded {
    result: Result<GuestPhysAddr, ImageError>,
    ram: TestRam,
    /// Bytes from the entry on that nothing else may have, rounded up to pages.
    taken: u64,
}

fn load(file: &[u8], config: &KernelConfig) -> Loaded {
    let mut ram = TestRam::new(BASE, SIZE as usize);
    let regions = [range(BASE, SIZE)];
    let mut map = RamMap::new(&regions);
    let result = load_kernel(file, config, Isa::Riscv64, &mut map, &mut ram);
    let is_taken = |at: &u64| match result {
        Ok(entry) => map.check(entry.checked_add(*at).unwrap(), 1).is_err(),
        Err(_) => false,
    };
    let taken = (0..SIZE).step_by(0x1000).take_while(is_taken).count() as u64 * 0x1000;
    Loaded { result, ram, taken }
}

fn config(format: KernelFormat) -> KernelConfig {
    KernelConfig {
        path: String::new(),
        format,
        entry_point: None,
        load_addr: None,
        cmdline: None,
        dtb: None,
        ramdisk: None,
    }
}

fn auto() -> KernelConfig {
    config(KernelFormat::Auto)
}

#[test]
fn a_linux_image_goes_to_its_text_offset_packed_or_not() {
    let image = linux_image(100_000, TEXT, 200_000);
    for file in [image.clone(), gzip(&image)] {
        for format in [KernelFormat::Auto, KernelFormat::Linux] {
            let loaded = load(&file, &config(format));
            assert_eq!(loaded.result, Ok(GuestPhysAddr::new(BASE + TEXT)));
            assert_eq!(loaded.ram.read(BASE + TEXT, image.len()), image);
            assert_eq!(loaded.taken, 0x3_1000, "the 200,000 bytes that it asks for");
        }
    }
}

#[test]
fn a_flat_binary_goes_where_the_instruction_set_puts_it() {
    let binary = b"\x13\0\0\0 a flat binary".to_vec();
    for file in [binary.clone(), gzip(&binary)] {
        for format in [KernelFormat::Auto, KernelFormat::Flat] {
            let loaded = load(&file, &config(format));
            assert_eq!(loaded.result, Ok(GuestPhysAddr::new(BASE + TEXT)));
            assert_eq!(loaded.ram.read(BASE + TEXT, binary.len()), binary);
        }
    }
}

#[test]
fn an_elf_goes_to_its_segments_packed_or_not() {
    let segment = Segment {
        paddr: BASE + 16,
        vaddr: BASE + 16,
        filesz: 100_000,
        memsz: 100_001,
    };
    let file = elf(BASE + 20, &[segment]);
    let bytes: Vec<u8> = (0..100_000u64).map(|at| (at + 1) as u8).collect();
    for file in [file.clone(), gzip(&file)] {
        for format in [KernelFormat::Auto, KernelFormat::Elf] {
            let loaded = load(&file, &config(format));
            assert_eq!(loaded.result, Ok(GuestPhysAddr::new(BASE + 20)));
            assert_eq!(loaded.ram.read(BASE + 16, bytes.len()), bytes);
        }
    }
    let flat = load(&file, &config(KernelFormat::Flat));
    assert_eq!(flat.ram.read(BASE + TEXT, 4), b"\x7fELF", "flat means flat");
}

#[test]
fn an_elf_whose_bytes_are_not_all_there_is_refused() {
    let segment = Segment {
        paddr: BASE,
        vaddr: BASE,
        filesz: 100_000,
        memsz: 100_000,
    };
    let file = elf(BASE, &[segment]);
    let short = &file[..file.len() - 1];
    for file in [short.to_vec(), gzip(short)] {
        let result = load(&file, &auto()).result;
        assert_eq!(result, Err(ImageError::Elf(ElfError::BadSegment(0))));
    }
}

#[test]
fn the_config_may_choose_load_address_and_entry() {
    let mut config = auto();
    config.load_addr = Some(GuestPhysAddr::new(BASE + 0x1000));
    config.entry_point = Some(GuestPhysAddr::new(BASE + 0x1004));
    let loaded = load(b"binary", &config);
    assert_eq!(loaded.result, Ok(GuestPhysAddr::new(BASE + 0x1004)));
    assert_eq!(loaded.ram.read(BASE + 0x1000, 6), b"binary");
    let loaded = load(&linux_image(0x1000, TEXT, 0), &config);
    assert!(
        matches!(loaded.result, Err(ImageError::Header(_))),
        "an Image must be aligned"
    );
    let loaded = load(b"\x7fELF", &config);
    assert_eq!(loaded.result, Err(ImageError::Fixed), "ELF says itself");
}

#[test]
fn what_does_not_fit_is_told_with_both_sizes_before_anything_is_written() {
    let room = SIZE - TEXT;
    let start = GuestPhysAddr::new(BASE + TEXT);
    let large = vec![0x55; room as usize + 1];
    let bss = linux_image(0x1000, TEXT, room + 1);
    for file in [large.clone(), gzip(&large), bss.clone(), gzip(&bss)] {
        let loaded = load(&file, &auto());
        assert_eq!(
            loaded.result,
            Err(ImageError::TooLarge {
                size: room + 1,
                room,
                start
            })
        );
        assert!(loaded.ram.is_untouched());
    }
    let text = ImageError::TooLarge {
        size: 30 << 20,
        room: 16 << 20,
        start,
    }
    .to_string();
    let expected =
        "image of 30 MiB does not fit in RAM of 16 MiB from 0x80200000 on (memory_regions)";
    assert_eq!(text, expected);
    assert!(
        load(&vec![1; room as usize], &auto()).result.is_ok(),
        "the last byte may be used"
    );
}

#[test]
fn a_gzip_file_that_lies_about_its_length_stays_within_ram() {
    let large = vec![0x55; (SIZE - TEXT) as usize + 50_000];
    let mut file = gzip(&large);
    let at = file.len() - 4;
    file[at..].copy_from_slice(&100u32.to_le_bytes());
    assert!(matches!(
        load(&file, &auto()).result,
        Err(ImageError::TooLarge { .. })
    ));
    // A length that only padding hides is no lie.
    let mut file = gzip(b"small");
    file.extend([0; 512]);
    assert!(load(&file, &auto()).result.is_ok());
}

#[test]
fn a_damaged_gzip_file_is_told() {
    let image = linux_image(100_000, TEXT, 0);
    let mut file = gzip(&image);
    let middle = file.len() / 2;
    for len in [5, 20, middle, file.len() - 1] {
        let result = load(&file[..len], &auto()).result;
        assert!(
            matches!(
                result,
                Err(ImageError::Gzip(_) | ImageError::TooLarge { .. })
            ),
            "{len}: {result:?}"
        );
    }
    file[middle] ^= 0xff;
    assert!(matches!(
        load(&file, &auto()).result,
        Err(ImageError::Gzip(_))
    ));
}

#[test]
fn the_format_that_the_config_names_must_be_there() {
    let image = linux_image(0x1000, TEXT, 0);
    let refused = |file: &[u8], format| match load(file, &config(format)).result {
        Err(ImageError::NotOfFormat(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&image, KernelFormat::Elf), "an ELF file");
    assert_eq!(refused(b"flat", KernelFormat::Elf), "an ELF file");
    assert_eq!(
        refused(b"flat", KernelFormat::Linux),
        "a RISC-V Linux Image"
    );
}

#[test]
fn headers_that_cannot_be_are_told() {
    assert_eq!(load(b"", &auto()).result, Err(ImageError::Empty));
    assert_eq!(load(&gzip(b""), &auto()).result, Err(ImageError::Empty));
    let mut big_endian = linux_image(0x1000, TEXT, 0);
    big_endian[24] = 1;
    for file in [big_endian, linux_image(0x1000, TEXT + 1, 0)] {
        assert!(matches!(
            load(&file, &auto()).result,
            Err(ImageError::Header(_))
        ));
    }
    for text_offset in [SIZE, 1 << 40, !(IMAGE_ALIGN - 1)] {
        let result = load(&linux_image(0x1000, text_offset, 0), &auto()).result;
        assert!(
            matches!(
                result,
                Err(ImageError::TooLarge { room: 0, .. } | ImageError::Place(_))
            ),
            "{result:?}"
        );
    }
}

#[test]
fn a_vm_without_ram_takes_no_kernel() {
    let regions: [GuestRange; 0] = [];
    let mut ram = TestRam::new(BASE, 0);
    let mut map = RamMap::new(&regions);
    let result = load_kernel(b"flat", &auto(), Isa::Riscv64, &mut map, &mut ram);
    assert!(matches!(
        result,
        Err(ImageError::Place(PlaceError::NoRoom { .. }))
    ));
}

fn formats() -> impl Strategy<Value = KernelFormat> {
    prop_oneof![
        Just(KernelFormat::Auto),
        Just(KernelFormat::Elf),
        Just(KernelFormat::Linux),
        Just(KernelFormat::Flat),
    ]
}

fn fronts() -> impl Strategy<Value = Vec<u8>> {
    let image = linux_image(0x80, TEXT, 0x1000);
    let elf = elf(
        BASE,
        &[Segment {
            paddr: BASE,
            vaddr: BASE,
            filesz: 8,
            memsz: 16,
        }],
    );
    prop_oneof![
        Just(Vec::new()),
        Just(image),
        Just(elf),
        Just(vec![0x1f, 0x8b, 8, 0])
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_nor_leave_ram(
        front in fronts(),
        changes in prop::collection::vec((0..0x80usize, any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..300),
        packed in any::<bool>(),
        format in formats(),
        load_addr in prop::option::of(any::<u64>()),
    ) {
        let mut file = front;
        file.extend(tail);
        for (at, value) in changes {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        let file = if packed { gzip(&file) } else { file };
        let mut config = config(format);
        config.load_addr = load_addr.map(GuestPhysAddr::new);
        let loaded = load(&file, &config);
        prop_assert!(!matches!(loaded.result, Err(ImageError::Ram(_))), "wrote outside RAM");
    }
}

#[test]
fn a_kernel_for_a_pc_is_no_flat_binary_unless_the_config_says_so() {
    let image = bz_image().0;
    for file in [image.clone(), gzip(&image)] {
        for format in [KernelFormat::Auto, KernelFormat::Linux] {
            assert_eq!(
                load(&file, &config(format)).result.unwrap_err().to_string(),
                "the file is an x86_64 Linux bzImage, and this machine is riscv64"
            );
        }
        assert!(load(&file, &config(KernelFormat::Flat)).result.is_ok());
    }
}
