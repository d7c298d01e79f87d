use alloc::{string::ToString, sync::Arc, vec, vec::Vec};
use std::string::String;

use super::*;
use crate::{
    boot::testing::{TestRam, bz_image, number, pc_config, pc_elf, range},
    testing::{Files, TestConsole},
};

const SIZE: u64 = 20 << 20;

fn loaded(
    files: Vec<(&'static str, Vec<u8>)>,
    text: &str,
    size: u64,
) -> (Result<PcStart, ConfigError>, TestRam) {
    let text = std::format!("memory_regions = [[{size}]]\n{text}");
    let config = pc_config(2, &text, Files(files), Arc::new(TestConsole::new()));
    let mut ram = TestRam::new(0, size as usize);
    (load(&config, &[range(0, size)], &mut ram), ram)
}

fn error(files: Vec<(&'static str, Vec<u8>)>, text: &str, size: u64) -> String {
    loaded(files, text, size).0.unwrap_err().to_string()
}

#[test]
fn linux_finds_itself_its_ramdisk_and_its_parameters() {
    let disk = b"a ramdisk".to_vec();
    let files = vec![("image", bz_image().0), ("disk", disk.clone())];
    let text = "ramdisk_path = \"disk\"\ncmdline = \"console=ttyS0\"";
    let (start, ram) = loaded(files, text, SIZE);
    let start = start.unwrap();
    assert_eq!(start.entry.as_u64(), (16 << 20) + 0x200);
    assert_eq!(start.mode, StartMode::Long { cr3: PAGE_TABLES });
    let page = ram.read(start.info, 4096);
    let cmdline = number::<4>(&page, 0x228);
    assert_eq!(ram.read(cmdline, 14), b"console=ttyS0\0");
    let (at, len) = (number::<4>(&page, 0x218), number::<4>(&page, 0x21c));
    assert_eq!(ram.read(at, len as usize), disk);
    assert_eq!(at, SIZE - 4096, "as high as it fits");
    assert_eq!(ram.read(number::<8>(&page, 0x70), 8), b"RSD PTR ");
    assert_eq!(ram.read(PAGE_TABLES, 8), [3, 0x30, 9, 0, 0, 0, 0, 0]);
}

#[test]
fn other_kernels_find_their_information() {
    let mut code = vec![0x90; 4];
    for word in [0x1bad_b002u32, 3, 0xe452_4ffb] {
        code.extend(word.to_le_bytes());
    }
    let (start, ram) = loaded(vec![("image", code)], "cmdline = \"beats=3\"", SIZE);
    let start = start.unwrap();
    assert_eq!(start.mode, StartMode::Protected { magic: 0x2bad_b002 });
    assert_eq!(start.entry.as_u64(), 0x20_0000);
    let page = ram.read(start.info, 4096);
    assert_eq!(ram.read(number::<4>(&page, 16), 8), b"beats=3\0");
    assert_eq!(ram.read(PAGE_TABLES, 8), [0; 8]);

    let words = [4u32, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x20_0000];
    let note: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (start, ram) = loaded(vec![("image", pc_elf(64, &note, &[1; 64]))], "", SIZE);
    let start = start.unwrap();
    assert_eq!(start.mode, StartMode::Protected { magic: 0 });
    assert_eq!(ram.read(start.info, 4), [0x78, 0xc5, 0x6e, 0x33]);
}

#[test]
fn what_is_wrong_is_said_with_file_and_key() {
    let old = bz_image().u16(0x206, 0x20b).0;
    let message = error(vec![("image", old)], "", SIZE);
    assert!(message.starts_with("vms/linux.toml:"), "{message}");
    assert!(
        message.contains("kernel.kernel_path: \"image\": "),
        "{message}"
    );
    assert!(message.contains("too old"), "{message}");

    let greedy = bz_image().u32(0x260, 100 << 20).0;
    let message = error(vec![("image", greedy)], "", SIZE);
    let what = "image of 100 MiB does not fit in RAM of 18 MiB from 0x200000 on (memory_regions)";
    assert!(message.contains(what), "{message}");

    let message = error(vec![], "", SIZE);
    assert!(message.contains("no such file"), "{message}");

    let text = "cmdline = \"0123456789\"";
    let short = bz_image().u32(0x238, 9).0;
    let message = error(vec![("image", short)], text, SIZE);
    assert!(
        message.contains("kernel.cmdline: the kernel takes at most 9 bytes"),
        "{message}"
    );

    let low = bz_image().u32(0x22c, 0xff_ffff).0;
    let files = vec![("image", low), ("disk", b"disk".to_vec())];
    let message = error(files, "ramdisk_path = \"disk\"", SIZE);
    assert!(
        message.contains("must end at 0x1000000 or below"),
        "{message}"
    );

    let files = vec![("image", b"flat".to_vec())];
    let message = error(files, "kernel_load_addr = 0x9_0800", SIZE);
    assert!(message.contains("overlaps the boot data"), "{message}");
}
