use alloc::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::boot::testing::{Draft, TestRam, bz_image, gzip, linux_image, pc_elf, range};

const SIZE: usize = 20 << 20;

fn config(format: KernelFormat) -> KernelConfig {
    KernelConfig {
        path: "image".into(),
        format,
        entry_point: None,
        load_addr: None,
        cmdline: None,
        dtb: None,
        ramdisk: None,
    }
}

fn load_as(
    file: &[u8],
    config: &KernelConfig,
    size: usize,
) -> (Result<PcKernel, ImageError>, TestRam) {
    let regions = [range(0, size as u64)];
    let mut ram = TestRam::new(0, size);
    let mut map = RamMap::new(&regions);
    (PcKernel::load(file, config, &mut map, &mut ram), ram)
}

fn load(file: &[u8]) -> (u64, Protocol, TestRam) {
    let (kernel, ram) = load_as(file, &config(KernelFormat::Auto), SIZE);
    let kernel = kernel.unwrap();
    (kernel.entry.as_u64(), kernel.protocol, ram)
}

/// A Multiboot header of a file that has its own addresses.
const MULTIBOOT: [u32; 3] = [0x1bad_b002, 3, 0xe452_4ffb];

fn multiboot_code() -> Vec<u8> {
    let header: Vec<u8> = MULTIBOOT
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    [&[0x90; 4][..], &header, &[0xf4; 100]].concat()
}

fn pvh_note(entry: u32) -> Vec<u8> {
    let words = [4u32, 4, 18, u32::from_le_bytes(*b"Xen\0"), entry];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_bzimage_is_loaded_without_its_setup_code() {
    for packed in [false, true] {
        let file = bz_image().0;
        let sent = if packed { gzip(&file) } else { file.clone() };
        let (entry, protocol, ram) = load(&sent);
        assert_eq!(entry, (16 << 20) + 0x200);
        assert!(matches!(protocol, Protocol::Linux(_)));
        assert_eq!(ram.read(16 << 20, 16 << 10), file[1024..]);
        assert_eq!(ram.read((16 << 20) - 16, 16), [0; 16]);
    }
}

#[test]
fn an_elf_file_goes_nowhere_but_where_it_says() {
    for format in [KernelFormat::Auto, KernelFormat::Elf] {
        let mut config = config(format);
        config.load_addr = Some(GuestPhysAddr::new(4 << 20));
        let (result, _) = load_as(b"\x7fELF", &config, SIZE);
        assert_eq!(result.unwrap_err(), ImageError::Fixed);
    }
}

#[test]
fn a_kernel_that_needs_more_ram_than_there_is_is_refused() {
    let greedy = bz_image().u32(0x260, 64 << 20).0;
    let (kernel, ram) = load_as(&greedy, &config(KernelFormat::Auto), SIZE);
    let why = kernel.unwrap_err();
    assert_eq!(
        why,
        ImageError::TooLarge {
            size: 64 << 20,
            room: 18 << 20,
            start: GuestPhysAddr::new(2 << 20)
        }
    );
    assert!(ram.is_untouched());
    let mut short = bz_image().0;
    short.pop();
    let (kernel, _) = load_as(&short, &config(KernelFormat::Auto), SIZE);
    assert_eq!(kernel.unwrap_err(), ImageError::Truncated);
}

#[test]
fn an_elf_file_is_entered_as_its_notes_and_headers_say() {
    for bits in [32, 64] {
        let note = pvh_note(0x20_0010);
        for file in [
            pc_elf(bits, &note, &multiboot_code()),
            gzip(&pc_elf(bits, &note, &[1; 64])),
        ] {
            let (entry, protocol, _) = load(&file);
            assert!(matches!(protocol, Protocol::Pvh), "{bits}");
            assert_eq!(entry, 0x20_0010);
        }
        let (entry, protocol, ram) = load(&pc_elf(bits, &[], &multiboot_code()));
        assert!(matches!(protocol, Protocol::Multiboot), "{bits}");
        assert_eq!(entry, 0x20_0002);
        assert_eq!(ram.read(2 << 20, 100), multiboot_code()[..100]);
    }
    let (entry, protocol, _) = load(&pc_elf(64, &[], &[1; 64]));
    assert!(matches!(protocol, Protocol::Linux(_)));
    assert_eq!(entry, 0x20_0002);
    let (_, protocol, _) = load(&pc_elf(32, &[], &[1; 64]));
    assert!(matches!(protocol, Protocol::Multiboot));
    let foreign = Draft(pc_elf(64, &[], &[1; 64])).u16(18, 243).0;
    let (kernel, _) = load_as(&foreign, &config(KernelFormat::Auto), SIZE);
    assert!(matches!(kernel, Err(ImageError::Elf(_))));
}

#[test]
fn a_flat_binary_is_entered_at_its_first_byte() {
    let code = multiboot_code();
    for file in [&code[..], b"flat"] {
        let (entry, protocol, ram) = load(file);
        assert_eq!(entry, 0x20_0000);
        assert!(matches!(protocol, Protocol::Multiboot));
        assert_eq!(ram.read(entry, file.len()), file);
    }
    let elsewhere = KernelConfig {
        load_addr: Some(GuestPhysAddr::new(0x10_0000)),
        entry_point: Some(GuestPhysAddr::new(0x10_0010)),
        ..config(KernelFormat::Flat)
    };
    let (kernel, ram) = load_as(&bz_image().0, &elsewhere, SIZE);
    assert_eq!(kernel.unwrap().entry.as_u64(), 0x10_0010);
    assert_eq!(ram.read(0x10_0000, 1024), bz_image().0[..1024]);
}

#[test]
fn a_multiboot_header_places_a_flat_binary() {
    let words = [
        0x1bad_b002,
        0x1_0000,
        0xe451_4ffe,
        0x30_0010,
        0x30_0000,
        0x30_0080,
        0x30_1000,
        0x30_0020,
    ];
    let header: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect();
    let file = [&[1; 32][..], &header, &[2; 200]].concat();
    for file in [file.clone(), gzip(&file)] {
        let (entry, protocol, ram) = load(&file);
        assert!(matches!(protocol, Protocol::Multiboot));
        assert_eq!(entry, 0x30_0020);
        assert_eq!(ram.read(0x30_0000, 16), [1; 16]);
        assert_eq!(ram.read(0x30_0010, 32), header);
        assert_eq!(ram.read(0x30_007f, 2), [2, 0], "the rest is not loaded");
    }
}

#[test]
fn a_file_must_be_what_the_config_says() {
    for (format, file) in [
        (KernelFormat::Linux, pc_elf(64, &[], &[1; 64])),
        (KernelFormat::Elf, bz_image().0),
        (KernelFormat::Linux, vec![0; 4096]),
    ] {
        let (kernel, ram) = load_as(&file, &config(format), SIZE);
        assert!(matches!(kernel, Err(ImageError::NotOfFormat(_))));
        assert!(ram.is_untouched());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_kernels_never_panic(
        which in 0usize..4,
        changes in prop::collection::vec((0usize..0x300, any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        packed in any::<bool>(),
    ) {
        let mut file = match which {
            0 => bz_image().0,
            1 => pc_elf(64, &pvh_note(0x20_0000), &multiboot_code()),
            2 => pc_elf(32, &pvh_note(0x20_0000), &multiboot_code()),
            _ => multiboot_code(),
        };
        for (at, byte) in changes {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        file.truncate(cut.index(file.len()) + 1);
        let file = if packed { gzip(&file) } else { file };
        let _ = load_as(&file, &config(KernelFormat::Auto), 4 << 20);
    }
}

#[test]
fn a_kernel_for_riscv_is_no_flat_binary_unless_the_config_says_so() {
    let image = linux_image(100_000, 2 << 20, 200_000);
    for file in [image.clone(), gzip(&image)] {
        for format in [KernelFormat::Auto, KernelFormat::Linux] {
            let (result, _) = load_as(&file, &config(format), SIZE);
            assert_eq!(
                result.unwrap_err().to_string(),
                "the file is a riscv64 Linux Image, and this machine is x86_64"
            );
        }
        let (result, _) = load_as(&file, &config(KernelFormat::Flat), SIZE);
        assert!(result.is_ok());
    }
}
