use alloc::{string::ToString, sync::Arc, vec, vec::Vec};

use fdt::Fdt;

use super::*;
use crate::{
    ImageSource,
    boot::testing::{Segment, TestRam, elf, gzip, linux_image, range},
    testing::{Files, TestConsole, machine, vm_config},
};
use axaddrspace::GuestPhysAddr;

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 4 << 20;
const TEXT: u64 = 2 << 20;

fn loaded(
    files: Vec<(&'static str, Vec<u8>)>,
    text: &str,
) -> (Result<BootState<()>, ConfigError>, TestRam) {
    let text = std::format!("memory_regions = [[\"4MiB\"]]\n{text}");
    let config = AxVMConfig {
        vm: vm_config(2, &text),
        machine: Arc::new(machine("rv64imafdch_zicsr_sstc")),
        images: Arc::new(Files(files)) as Arc<dyn ImageSource>,
        console: Arc::new(TestConsole::new()),
        host: Arc::new(axdevice::NoHostDevices),
    };
    let mut ram = TestRam::new(BASE, SIZE as usize);
    (
        load(&config, CpuFeatures::all(), &[range(BASE, SIZE)], &mut ram),
        ram,
    )
}

fn error(files: Vec<(&'static str, Vec<u8>)>, text: &str) -> std::string::String {
    loaded(files, text).0.unwrap_err().to_string()
}

#[test]
fn linux_finds_itself_its_ramdisk_and_its_device_tree() {
    let image = linux_image(10_000, TEXT, 0x10_0000);
    let disk = gzip(b"a ramdisk stays packed");
    let files = vec![("image", image.clone()), ("disk", disk.clone())];
    let (boot, ram) = loaded(
        files,
        "ramdisk_path = \"disk\"\ncmdline = \"console=ttyS0\"",
    );
    let boot = boot.unwrap();
    assert_eq!(boot.entries.bsp_entry.as_u64(), BASE + TEXT);
    assert_eq!(boot.entries.ap_entry, boot.entries.bsp_entry);
    assert_eq!(ram.read(BASE + TEXT, image.len()), image);

    let tree = ram.read(boot.arg, (BASE + SIZE - boot.arg) as usize);
    let fdt = Fdt::new(&tree).unwrap();
    assert_eq!(fdt.chosen().bootargs(), Some("console=ttyS0"));
    assert_eq!(fdt.cpus().count(), 2);
    assert_eq!(
        fdt.memory().regions().next().unwrap().size,
        Some(SIZE as usize)
    );
    let chosen = fdt.find_node("/chosen").unwrap();
    let address = |name| {
        let value = chosen.property(name).unwrap().value;
        u64::from_be_bytes(value.try_into().unwrap())
    };
    let (start, end) = (address("linux,initrd-start"), address("linux,initrd-end"));
    assert_eq!(ram.read(start, (end - start) as usize), disk);
    assert!(
        start >= BASE + TEXT + 0x10_0000,
        "above the kernel's own memory"
    );
    let isa = fdt
        .find_node("/cpus/cpu@0")
        .unwrap()
        .property("riscv,isa")
        .unwrap();
    assert_eq!(
        isa.as_str(),
        Some("rv64imafdc_zicsr_sstc"),
        "no hypervisor in there"
    );
    assert!(
        fdt.find_compatible(&["ns16550a"]).is_some(),
        "a VM has a console by default"
    );
}

#[test]
fn a_device_tree_of_the_users_is_handed_over_as_it_is() {
    let mut tree = vec![0u8; 100];
    tree[..8].copy_from_slice(&[0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 64]);
    let files = || {
        vec![
            ("image", b"flat".to_vec()),
            ("disk", vec![9; 100]),
            ("tree", tree.clone()),
        ]
    };
    let (boot, ram) = loaded(files(), "dtb_path = \"tree\"");
    let high = boot.unwrap().arg;
    assert_eq!(ram.read(high, 64), tree[..64]);

    // Where it would have gone, something that has its address may be.
    let text =
        std::format!("dtb_path = \"tree\"\nramdisk_path = \"disk\"\nramdisk_load_addr = {high}");
    let (boot, ram) = loaded(files(), &text);
    let at = boot.unwrap().arg;
    assert_ne!(at, high);
    assert_eq!(ram.read(at, 64), tree[..64]);
    assert_eq!(ram.read(high, 100), [9; 100]);
}

#[test]
fn errors_name_file_key_and_rule() {
    let image = || ("image", linux_image(10_000, TEXT, 0));
    let missing = error(vec![], "");
    let expected = "vms/linux.toml:6: kernel.kernel_path: \"image\": the bundle has no such file";
    assert_eq!(missing, expected);

    let large = ("image", vec![1; (SIZE - TEXT) as usize + 1]);
    let text = error(vec![large], "");
    let expected = "kernel.kernel_path: \"image\": image of 2.1 MiB does not fit in RAM of 2 MiB \
                    from 0x80200000 on (memory_regions)";
    assert!(text.ends_with(expected), "{text}");

    let mut corrupt = gzip(&linux_image(10_000, TEXT, 0));
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let text = error(vec![("image", corrupt)], "");
    assert!(
        text.contains("kernel.kernel_path: \"image\": ") && text.contains("gzip"),
        "{text}"
    );

    let outside = elf(
        0,
        &[Segment {
            paddr: 0,
            vaddr: 0,
            filesz: 4,
            memsz: 4,
        }],
    );
    let text = error(vec![("image", outside)], "");
    let expected = "ELF segment 0: 0x0 to 0x3 is not within the VM's RAM (memory_regions)";
    assert!(text.ends_with(expected), "{text}");

    let text = error(vec![image()], "ramdisk_path = \"disk\"");
    assert!(
        text.ends_with("kernel.ramdisk_path: \"disk\": the bundle has no such file"),
        "{text}"
    );
    let text = error(
        vec![image(), ("disk", vec![0; SIZE as usize])],
        "ramdisk_path = \"disk\"",
    );
    assert!(text.ends_with("4 MiB does not fit beside the rest in RAM of 4 MiB (memory_regions)"));
    let at_kernel = std::format!(
        "ramdisk_path = \"disk\"\nramdisk_load_addr = {}",
        BASE + TEXT
    );
    let text = error(vec![image(), ("disk", vec![0; 4])], &at_kernel);
    assert!(
        text.contains("overlaps the kernel at 0x80200000 to 0x8020270f"),
        "{text}"
    );
    let text = error(vec![image(), ("tree", vec![0; 64])], "dtb_path = \"tree\"");
    assert!(
        text.ends_with("not a device tree: the magic number is missing"),
        "{text}"
    );
}

#[test]
fn an_entry_point_outside_ram_is_refused() {
    let flat = || vec![("image", b"flat".to_vec())];
    // The config's own rules let it pass or name it before; RAM is what counts here.
    let config = AxVMConfig {
        vm: {
            let mut vm = vm_config(1, "memory_regions = [[\"4MiB\"]]");
            vm.kernel.entry_point = Some(GuestPhysAddr::new(BASE + SIZE));
            vm
        },
        machine: Arc::new(machine("rv64imac")),
        images: Arc::new(Files(flat())),
        console: Arc::new(TestConsole::new()),
        host: Arc::new(axdevice::NoHostDevices),
    };
    let mut ram = TestRam::new(BASE, SIZE as usize);
    let why = load(&config, CpuFeatures::all(), &[range(BASE, SIZE)], &mut ram).unwrap_err();
    assert_eq!(why.key, "kernel.entry_point");
    assert!(
        why.message
            .contains("0x80400000 is not within the VM's RAM"),
        "{why}"
    );
}

#[test]
fn no_room_for_the_device_tree_is_told() {
    let flat = ("image", vec![1; (SIZE - TEXT) as usize]);
    let text = error(vec![flat], "kernel_format = \"flat\"\nramdisk_path = \"d\"");
    assert!(text.contains("ramdisk_path"), "{text}");
    let all = ("image", vec![1; SIZE as usize]);
    let text = error(
        vec![all],
        "kernel_format = \"flat\"\nkernel_load_addr = 0x8000_0000",
    );
    assert!(
        text.contains("kernel.memory_regions: the device tree: "),
        "{text}"
    );
}
