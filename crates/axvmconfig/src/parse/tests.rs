//! One config at a time: what is accepted and with which meaning, what is refused and how.

mod overlaps;

use axaddrspace::{GuestPhysAddr, MappingFlags};
use proptest::prelude::*;

use crate::{
    Blob, ConfigError, DeviceModel, Isa, KernelFormat, MapKind, PcpuSet, Sharing, VmConfig, Window,
    keys,
};

const SMALL: &str = r#"[base]
id = 1
phys_cpu_ids = [1]
[kernel]
kernel_path = "Image"
memory_regions = [["64MiB"]]
"#;

fn parse(text: &str) -> Result<VmConfig, Vec<ConfigError>> {
    VmConfig::parse("vms/test.toml", text, Isa::Riscv64)
}

/// The errors of a config, as a user sees them.
fn errors(text: &str) -> Vec<String> {
    parse(text)
        .expect_err("must be refused")
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The errors of [`SMALL`] where `line` of a table is replaced, or added.
fn errors_with(table: &str, line: &str) -> Vec<String> {
    errors(&with(table, line))
}

/// [`SMALL`] with `line` in `table`, instead of the line that has its key.
fn with(table: &str, line: &str) -> String {
    let key = line.split('=').next().expect("a line has a key").trim();
    let same_key = |old: &str| old.split('=').next().is_some_and(|old| old.trim() == key);
    let mut text: Vec<&str> = SMALL.lines().filter(|old| !same_key(old)).collect();
    let header = format!("[{table}]");
    match text.iter().position(|old| *old == header) {
        Some(at) => text.insert(at + 1, line),
        None => text.extend([header.as_str(), line]),
    }
    text.join("\n")
}

#[track_caller]
fn assert_refused(table: &str, line: &str, expected: &str) {
    let errors = errors_with(table, line);
    assert!(
        errors.iter().any(|error| error.contains(expected)),
        "{line}: {errors:#?}"
    );
}

#[test]
fn a_small_config_has_defaults_for_the_rest() {
    let config = parse(SMALL).expect("valid");
    assert_eq!(config.id, 1);
    assert_eq!(config.name, "test");
    assert_eq!(config.vcpus.len(), 1);
    assert_eq!(config.vcpus[0].vcpu_id, 0);
    assert_eq!(config.vcpus[0].pcpus, PcpuSet::from_mask(0b10));
    assert_eq!(config.vcpus[0].sharing, Sharing::Dedicated);
    assert_eq!(config.kernel.path, "Image");
    assert_eq!(config.kernel.format, KernelFormat::Auto);
    assert_eq!(config.kernel.entry_point, None);
    assert_eq!(config.kernel.load_addr, None);
    assert_eq!(config.kernel.cmdline, None);
    assert_eq!(config.kernel.dtb, None);
    assert_eq!(config.kernel.ramdisk, None);
    let [region] = config.memory[..] else {
        panic!("{:?}", config.memory)
    };
    assert_eq!(region.gpa, GuestPhysAddr::new(0x8000_0000));
    assert_eq!(region.size, 64 << 20);
    assert_eq!(
        region.flags,
        MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE
    );
    assert_eq!(region.kind, MapKind::Alloc);
    let [uart] = &config.devices[..] else {
        panic!("{:?}", config.devices)
    };
    assert_eq!(
        (uart.id.as_str(), uart.model),
        ("uart0", DeviceModel::Ns16550)
    );
    assert_eq!((uart.addr, uart.irq), (GuestPhysAddr::new(0x1000_0000), 10));
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [base]
        id = 0x10
        name = "all"
        vm_type = 2
        cpu_num = 2
        phys_cpu_sets = [0b0110, 0b1000]
        [kernel]
        entry_point = 0x8020_0000
        image_location = "fs"
        kernel_path = "/guests/Image"
        kernel_format = "flat"
        kernel_load_addr = 0x8020_0000
        dtb_path = "./board.dtb"
        dtb_load_addr = 0x8800_0000
        ramdisk_path = "initrd"
        ramdisk_load_addr = 0x8900_0001
        memory_regions = [["256MiB"], ["4KiB"], "8KiB",
            { gpa = 0x4000_0000, size = 0x1000, flags = 3, map_type = "lazy" }]
        [devices]
        virtual = [
            { id = "uart0", model = "ns16550" },
            { id = "uart1", model = "ns16550", addr = 0x1000_1000, irq = 11 },
        ]
        emu_devices = []
        passthrough_devices = []
        passthrough_addresses = []
        passthrough_ports = []
        excluded_devices = []
        interrupt_mode = "emu"
    "#;
    let config = parse(text).expect("valid");
    assert_eq!((config.id, config.name.as_str()), (16, "all"));
    let placements: Vec<_> = config
        .vcpus
        .iter()
        .map(|v| (v.vcpu_id, v.pcpus, v.sharing))
        .collect();
    assert_eq!(
        placements,
        [
            (0, PcpuSet::from_mask(0b0110), Sharing::Shared),
            (1, PcpuSet::from_mask(0b1000), Sharing::Shared)
        ]
    );
    let kernel = &config.kernel;
    assert_eq!(kernel.path, "guests/Image");
    assert_eq!(kernel.format, KernelFormat::Flat);
    assert_eq!(kernel.entry_point, Some(GuestPhysAddr::new(0x8020_0000)));
    assert_eq!(kernel.load_addr, Some(GuestPhysAddr::new(0x8020_0000)));
    let blob = |path: &str, addr| Blob {
        path: path.into(),
        load_addr: Some(GuestPhysAddr::new(addr)),
    };
    assert_eq!(kernel.dtb, Some(blob("board.dtb", 0x8800_0000)));
    assert_eq!(kernel.ramdisk, Some(blob("initrd", 0x8900_0001)));
    assert_eq!(kernel.cmdline, None);
    let regions: Vec<_> = config
        .memory
        .iter()
        .map(|r| (r.gpa.as_u64(), r.size, r.flags.bits(), r.kind))
        .collect();
    assert_eq!(
        regions,
        [
            (0x8000_0000, 256 << 20, 7, MapKind::Alloc),
            (0x9000_0000, 0x1000, 7, MapKind::Alloc),
            (0x9000_1000, 0x2000, 7, MapKind::Alloc),
            (0x4000_0000, 0x1000, 3, MapKind::Lazy),
        ]
    );
    assert_eq!(config.memory_bytes(), (256 << 20) + 0x4000);
    assert_eq!(config.devices.len(), 2);
    assert_eq!(config.devices[1].addr, GuestPhysAddr::new(0x1000_1000));
    assert_eq!(config.devices[1].irq, 11);
}

#[test]
fn the_long_form_of_memory_is_axvisors() {
    let text = with(
        "kernel",
        "memory_regions = [[0x9000_0000, 0x4000_0000, 0x7, 0]]",
    );
    let config = parse(&text).expect("valid");
    assert_eq!(config.memory[0].gpa, GuestPhysAddr::new(0x9000_0000));
    assert_eq!(config.memory[0].size, 1 << 30);
    let tables = SMALL.replace("memory_regions = [[\"64MiB\"]]\n", "")
        + "[[kernel.memory_regions]]\ngpa = 0x8000_0000\nsize = \"1MiB\"\n\
           [[kernel.memory_regions]]\nsize = 0x1000\ngpa = 0\n";
    let config = parse(&tables).expect("valid");
    assert_eq!(config.memory.len(), 2);
    assert_eq!(config.source.line("kernel.memory_regions[1].gpa"), 11);
}

#[test]
fn lines_are_known_for_later_messages() {
    let config = parse(SMALL).expect("valid");
    assert_eq!(config.source.file(), "vms/test.toml");
    assert_eq!(config.source.line(keys::ID), 2);
    assert_eq!(config.source.line(keys::PHYS_CPU_IDS), 3);
    assert_eq!(config.source.line("base.phys_cpu_ids[0]"), 3);
    assert_eq!(config.source.line(keys::KERNEL_PATH), 5);
    // What is not said has the line of what is around it.
    assert_eq!(config.source.line(keys::NAME), 1);
    assert_eq!(config.source.line(keys::RAMDISK_PATH), 4);
    assert_eq!(config.source.line(keys::VIRTUAL), 1);
    let error = config.error(keys::KERNEL_PATH, "\"Image\" is not in the bundle");
    assert_eq!(
        error.to_string(),
        "vms/test.toml:5: kernel.kernel_path: \"Image\" is not in the bundle"
    );
}

#[test]
fn a_message_names_file_line_key_rule_and_value() {
    assert_eq!(
        errors(&SMALL.replace("id = 1\n", "id = \"one\"\n")),
        ["vms/test.toml:2: base.id: must be a whole number from 0 to 4294967295, found \"one\""]
    );
}

#[test]
fn all_errors_are_found_at_once_in_the_order_of_the_file() {
    let text = r#"[base]
id = -1
nam = "x"
cpu_num = 65
phys_cpu_ids = [64, 1]
[kernel]
kernel_path = ""
entry_pont = 0
memory_regions = [["1MB"], [1, 4096], ["0KiB"]]
[device]
[devices]
virtual = [{ id = "a b", model = "pl011" }, { irq = 0, adr = 1 }]
"#;
    let errors = errors(text);
    let expected = [
        ":2: base.id: must be a whole number from 0 to 4294967295, found -1",
        ":3: base.nam: unknown key, did you mean `name`?",
        ":4: base.cpu_num: must be a whole number from 1 to 64, found 65",
        ":5: base.phys_cpu_ids[0]: must be a whole number from 0 to 63, found 64",
        ":7: kernel.kernel_path: must be a path in the bundle",
        ":8: kernel.entry_pont: unknown key, did you mean `entry_point`?",
        ":9: kernel.memory_regions[0][0]: a size is a whole number with KiB",
        ":9: kernel.memory_regions[1][0]: must be a multiple of 4 KiB, found 1",
        ":9: kernel.memory_regions[2][0]: must be a multiple of 4 KiB, and not 0, found \"0KiB\"",
        ":10: device: unknown key, did you mean `devices`?",
        ":12: devices.virtual[0].id: must be 1 to 32 visible ASCII characters",
        ":12: devices.virtual[0].model: must be one of \"ns16550\", found \"pl011\"",
        ":12: devices.virtual[1].irq: must be a whole number from 1 to 95, found 0",
        ":12: devices.virtual[1].id: missing",
        ":12: devices.virtual[1].model: missing",
        ":12: devices.virtual[1].addr: missing",
        ":12: devices.virtual[1].adr: unknown key, did you mean `addr`?",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error} | {expected}");
    }
}

#[test]
fn what_is_required_is_missed() {
    assert_eq!(
        errors("")
            .iter()
            .map(|error| error.split(": ").nth(1).unwrap_or(""))
            .collect::<Vec<_>>(),
        [
            "base.id",
            "base.phys_cpu_ids",
            "kernel.kernel_path",
            "kernel.memory_regions"
        ]
    );
}

#[test]
fn syntax_errors_have_their_lines() {
    let errors = errors("[base]\nid = \n[kernel\nkernel_path = \"x\"\n");
    assert!(
        errors[0].starts_with("vms/test.toml:2: not TOML: "),
        "{errors:#?}"
    );
    assert!(
        errors[1].starts_with("vms/test.toml:3: not TOML: "),
        "{errors:#?}"
    );
    assert_refused(
        "base",
        "phys_cpu_ids = [1]\nphys_cpu_ids = [2]",
        "the key phys_cpu_ids stands twice",
    );
}

#[test]
fn bytes_that_are_no_text_have_their_line() {
    let parse = |bytes: &[u8]| VmConfig::parse_bytes("test.toml", bytes, Isa::Riscv64);
    assert_eq!(
        parse(SMALL.as_bytes()),
        VmConfig::parse("test.toml", SMALL, Isa::Riscv64)
    );
    let errors = parse(b"[base]\nid = 1\nname = \"\xff\"\n").expect_err("not UTF-8");
    assert_eq!(
        errors[0].to_string(),
        "test.toml:3: not TOML: a config is UTF-8 text"
    );
}

#[test]
fn base_rules() {
    assert_refused("base", "id = 4294967296", "from 0 to 4294967295");
    assert_refused("base", "id = 1.5", "found 1.5");
    assert_refused(
        "base",
        "id = 99999999999999999999999",
        "found 99999999999999999999999",
    );
    assert_refused("base", "name = \"\"", "1 to 32");
    assert_refused("base", "name = \"a\\nb\"", "found \"a\\nb\"");
    assert_refused("base", &format!("name = \"{}\"", "x".repeat(33)), "1 to 32");
    assert_refused("base", "name = 3", "must be text in quotes, found 3");
    assert_refused("base", "vm_type = 0", "not supported yet");
    assert_refused("base", "vm_type = 3", "from 0 to 2");
    assert_refused("base", "cpu_num = 0", "from 1 to 64");
    assert_refused(
        "base",
        "cpu_num = 2",
        "as many as base.phys_cpu_ids (line 4) lists, 1, found 2",
    );
    assert_refused("base", "phys_cpu_ids = []", "an element for each vCPU");
    assert_refused(
        "base",
        "phys_cpu_ids = 1",
        "must be a list in brackets, found 1",
    );
    assert_refused("base", "phys_cpu_ids = [[1]]", "found a list of 1");
    assert_refused("base", "phys_cpu_sets = [1]", "not both");
    let sets = SMALL.replace("phys_cpu_ids = [1]", "phys_cpu_sets = [0]");
    assert!(errors(&sets)[0].contains("base.phys_cpu_sets[0]: must be a whole number from 1"));
    let many = format!("phys_cpu_ids = [{}]", "1,".repeat(65));
    assert_refused("base", &many, "at most 64 elements");
    // A name that no file name gives.
    let nameless = VmConfig::parse("a b.toml", SMALL, Isa::Riscv64).expect_err("no name");
    assert_eq!(nameless[0].key, keys::NAME);
}

#[test]
fn kernel_rules() {
    for path in [
        "",
        "/",
        "a//b",
        "../a",
        "a/..",
        "a/",
        ".",
        "a\\u0000b",
        "TRAILER!!!",
    ] {
        assert_refused(
            "kernel",
            &format!("kernel_path = \"{path}\""),
            "must be a path in the bundle",
        );
    }
    assert_refused(
        "kernel",
        &format!("kernel_path = \"{}\"", "x".repeat(256)),
        "at most 255 bytes",
    );
    assert_refused(
        "kernel",
        "kernel_format = \"bzImage\"",
        "must be one of \"auto\", \"linux\"",
    );
    assert_refused(
        "kernel",
        "image_location = \"disk\"",
        "must be one of \"fs\", \"memory\"",
    );
    assert_refused("kernel", "cmdline = \"a\\tb\"", "no control characters");
    assert_refused(
        "kernel",
        "cmdline = \"quiet\"\ndtb_path = \"d\"",
        "does not reach the guest beside kernel.dtb_path",
    );
    assert_refused(
        "kernel",
        "ramdisk_path = \"r\"\ndtb_path = \"d\"",
        "needs kernel.ramdisk_load_addr beside kernel.dtb_path",
    );
    assert_refused(
        "kernel",
        &format!("cmdline = \"{}\"", "x".repeat(1024)),
        "at most 1023 bytes",
    );
    assert_refused(
        "kernel",
        "dtb_load_addr = 0x8000_0000",
        "no meaning without kernel.dtb_path",
    );
    assert_refused(
        "kernel",
        "ramdisk_load_addr = 1",
        "no meaning without kernel.ramdisk_path",
    );
    assert_refused(
        "kernel",
        "bios_path = \"b\"",
        "not supported yet: a VM has no BIOS",
    );
    assert_refused("kernel", "disk_path = \"d\"", "not supported yet");
    assert_refused("kernel", "entry_point = \"0x80\"", "must be an address");
    assert_refused(
        "kernel",
        "entry_point = 0x7fff_ffff",
        "must be in the VM's memory",
    );
    assert_refused(
        "kernel",
        "kernel_load_addr = 0x8400_0000",
        "found 0x84000000",
    );
    let same = with(
        "kernel",
        "kernel_load_addr = 0x8020_0000\nramdisk_path = \"r\"\nramdisk_load_addr = 0x8020_0000",
    );
    assert!(
        errors(&same)[0]
            .contains("ramdisk_load_addr: 0x80200000 is kernel.kernel_load_addr too (line 5)")
    );
    let odd = with("kernel", "dtb_path = \"d\"\ndtb_load_addr = 0x8020_0004");
    assert!(errors(&odd)[0].contains("must be a multiple of 8"));
}

#[test]
fn memory_rules() {
    for (regions, expected) in [
        ("[]", "a VM needs memory"),
        ("[[]]", "missing: the size"),
        ("[{}]", "missing: the size"),
        ("\"256MiB\"", "must be a list in brackets"),
        ("[\"256 MiB\"]", "a size is"),
        ("[\"256M\"]", "a size is"),
        ("[true]", "must be a size"),
        (
            "[[0x8000_0000, 4095]]",
            "multiple of 4 KiB, and not 0, found 4095",
        ),
        (
            "[[0x8000_0001, 4096]]",
            "multiple of 4 KiB, found 0x80000001",
        ),
        ("[[0x8000_0000, 4096, 8]]", "from 0 to 7"),
        ("[[0x8000_0000, 4096, 6]]", "must be readable"),
        ("[[0x8000_0000, 4096, 7, 1]]", "not supported yet"),
        ("[[0x8000_0000, 4096, 7, 2]]", "not supported yet"),
        ("[[0x8000_0000, 4096, 7, 3]]", "from 0 to 2"),
        (
            "[[0x8000_0000, 4096, 7, \"identical\"]]",
            "not supported yet",
        ),
        (
            "[[0x8000_0000, 4096, 7, \"lasy\"]]",
            "must be one of \"alloc\", \"lazy\"",
        ),
        ("[[0x8000_0000, 4096, 7, 0, 0]]", "at most 4 elements"),
        ("[[0xffff_ffff_ffff_f000, 8192]]", "must end below 2^64"),
        (
            "[[0, 0xffff_ffff_ffff_f000], [0xffff_ffff_ffff_f000, 4096]]",
            "must end below 2^64",
        ),
        (
            "[[0x8000_0000, \"8KiB\"], [0x8000_1000, \"4KiB\"]]",
            "memory region 1 (0x80001000 to 0x80001fff) overlaps memory region 0 (0x80000000 to 0x80001fff, line 5)",
        ),
        (
            "[\"1GiB\", [0x8000_1000, \"4KiB\"]]",
            "overlaps memory region 0",
        ),
        (
            "[[0x1000_0000, \"4KiB\"]]",
            "memory region 0 (0x10000000 to 0x10000fff) overlaps device \"uart0\" (0x10000000 to 0x100000ff)",
        ),
        (
            "[[0x0c5f_f000, \"4KiB\"]]",
            "overlaps the interrupt controller",
        ),
        ("[{ gpa = 0x8000_0000, sice = 1 }]", "did you mean `size`?"),
    ] {
        assert_refused("kernel", &format!("memory_regions = {regions}"), expected);
    }
    let many = format!("memory_regions = [{}]", "\"4KiB\",".repeat(33));
    assert_refused("kernel", &many, "at most 32 elements");
}

#[test]
fn device_rules() {
    for (devices, expected) in [
        ("virtual = {}", "must be a list in brackets, found a table"),
        ("virtual = [1]", "must be a table, found 1"),
        (
            r#"virtual = [{ id = "u", model = "ns16550", addr = 0x0c00_0000 }]"#,
            "overlaps the interrupt controller",
        ),
        (
            r#"virtual = [{ id = "u", model = "ns16550", addr = 0xffff_ffff_ffff_ff80 }]"#,
            "must end below 2^64",
        ),
        (
            r#"virtual = [{ id = "u", model = "ns16550" }, { id = "u", model = "ns16550", addr = 0x2000_0000, irq = 11 }]"#,
            "\"u\" is the name of devices.virtual[0] (line 8) already",
        ),
        (
            r#"virtual = [{ id = "u", model = "ns16550" }, { id = "v", model = "ns16550", addr = 0x2000_0000, irq = 10 }]"#,
            "10 is the interrupt of devices.virtual[0] (line 8) already",
        ),
        (
            r#"virtual = [{ id = "u", model = "ns16550" }, { id = "v", model = "ns16550", addr = 0x1000_0080, irq = 11 }]"#,
            "overlaps device \"u\"",
        ),
        (
            r#"emu_devices = [["plic", 0x0c00_0000, 0x60_0000, 0, 0x30, [2]]]"#,
            "not supported yet: write emulated devices as",
        ),
        (
            r#"passthrough_devices = [["d", 0, 0, 0, 0]]"#,
            "not supported yet",
        ),
        ("passthrough_addresses = 3", "not supported yet"),
        (r#"excluded_devices = [["x"]]"#, "not supported yet"),
        ("interrupt_mode = \"passthrough\"", "not supported yet"),
        ("interrupt_mode = \"no_irq\"", "not supported yet"),
        ("interrupt_mode = 1", "must be one of \"emu\""),
    ] {
        assert_refused("devices", devices, expected);
    }
    let none = parse(&with("devices", "virtual = []")).expect("no devices are fine");
    assert!(none.devices.is_empty());
}

#[test]
fn shipped_configs_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/vms");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("configs/vms is there") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.to_string_lossy();
        let of = |isa: &Isa| name.ends_with(&format!("-{}.toml", isa.name()));
        let isa = Isa::ALL.into_iter().find(of).expect("the name says it");
        VmConfig::parse(&name, &text, isa).expect("valid");
        count += 1;
    }
    assert!(count >= 8);
}

/// A hexadecimal number as the guide writes it, in groups of four digits.
fn grouped(number: u64) -> String {
    let digits = format!("{number:x}");
    let mut text = String::from("0x");
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(4) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_guide_is_true() {
    let guide = include_str!("../../../../docs/vm-config.md");
    let mut examples = guide
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    for isa in [Isa::X86_64, Isa::Riscv64] {
        let example = examples.next().expect("the guide has an example of each");
        assert!(example.contains(isa.name()));
        VmConfig::parse("example.toml", example, isa).expect("and it is valid");

        let map = isa.guest_map();
        let (ram, uart) = (map.ram_base.as_u64(), map.uart.base.as_u64());
        let flat = ram + map.flat_kernel_offset;
        let controller = map.interrupt_controller.base.as_u64();
        for said in [
            format!("`{}`", grouped(ram)),
            format!("`{}`", grouped(uart)),
            format!("`{}`", grouped(flat)),
            format!("`{}`", grouped(controller)),
            format!("interrupt {}", map.uart_irq),
            format!("{} to {} on", map.irqs.start(), map.irqs.end()),
            format!("2^{}", map.min_phys_bits),
        ] {
            assert!(
                guide.contains(&said),
                "{}: the guide does not say {said}",
                isa.name()
            );
        }
    }

    // A key like no other makes the reader list what it knows.
    for table in ["base", "kernel", "devices"] {
        let errors = errors(&with(table, "qqqqqqqq = 1"));
        let known = errors[0].split("known here are: ").nth(1).expect("a list");
        for key in known.split(", ") {
            assert!(
                guide.contains(&format!("`{key}`")),
                "the guide does not name {key}"
            );
        }
    }
}

/// A config with one of everything, to be damaged.
const RICH: &str = r#"
[base]
id = 7
name = "rich"
cpu_num = 2
phys_cpu_ids = [2, 3]
[kernel]
kernel_path = "guests/Image"
entry_point = 0x8020_0000
ramdisk_path = "initrd"
ramdisk_load_addr = 0x8800_0000
cmdline = "console=ttyS0"
memory_regions = [[0x8000_0000, "256MiB", 7, 0], { gpa = 0x4000_0000, size = 4096, map_type = "lazy" }]
[devices]
virtual = [{ id = "uart0", model = "ns16550", addr = 0x1000_0000, irq = 10 }]
interrupt_mode = "emulated"
"#;

/// Whatever comes in: a config, or errors that each point to a line.
fn assert_decided(text: &str) {
    if let Err(errors) = parse(text) {
        assert!(!errors.is_empty());
        let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
        for error in errors {
            let line = error.line.map_or(1, |line| line as usize);
            assert!((1..=lines).contains(&line), "{error}");
            assert!(!error.message.is_empty());
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_decided(text in "\\PC*") {
        assert_decided(&text);
    }

    #[test]
    fn any_toml_like_text_is_decided(words in prop::collection::vec(
        prop::sample::select(vec![
            "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", " ", "\"", "'", "#", "-", "0x",
            "base", "kernel", "devices", "id", "memory_regions", "virtual", "gpa", "1", "\"64MiB\"",
            "phys_cpu_ids", "1979-05-27", "1e9", "nan", "true", "é", "\0", "\r",
        ]),
        0..60,
    )) {
        assert_decided(&words.concat());
    }

    #[test]
    fn a_damaged_config_is_decided(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..6),
    ) {
        let mut bytes = RICH.as_bytes().to_vec();
        for (place, byte, kind) in cuts {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => { bytes.remove(at); }
                _ => bytes.truncate(at),
            }
        }
        assert_decided(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_renamed_key_is_refused_at_its_line(line in 0usize..16, letter in 0usize..64) {
        let mut lines: Vec<String> = RICH.lines().map(Into::into).collect();
        let line = line % lines.len();
        let Some(equals) = lines[line].find(" =") else { return Ok(()) };
        lines[line].insert(letter % (equals + 1), 'x');
        let errors = parse(&lines.join("\n")).expect_err("no such key");
        let of_line = errors.iter().find(|error| error.line == u32::try_from(line + 1).ok());
        prop_assert!(of_line.is_some_and(|error| error.message.contains("unknown key")));
    }

    #[test]
    fn memory_overlaps_are_found(
        regions in prop::collection::vec((0u64..40, 1u64..6), 1..8),
    ) {
        let list: Vec<_> = regions
            .iter()
            .map(|(page, pages)| format!("[{}, {}]", page * 4096, pages * 4096))
            .collect();
        let text = with("kernel", &format!("memory_regions = [{}]", list.join(", ")));
        let mut owners = [0u32; 64];
        for (page, pages) in &regions {
            for page in *page..page + pages {
                owners[page as usize] += 1;
            }
        }
        let expected = owners.iter().any(|&count| count > 1);
        prop_assert_eq!(parse(&text).is_err(), expected);
    }
}

/// The rest of a config for a PC, with these `[kernel]` and `[devices]`.
fn parse_pc(kernel: &str, devices: &str) -> Result<VmConfig, Vec<ConfigError>> {
    let text = format!(
        "[base]\nid = 1\nphys_cpu_ids = [1]\n[kernel]\nkernel_path = \"image\"\n{kernel}\n[devices]\n{devices}\n"
    );
    VmConfig::parse("vms/pc.toml", &text, Isa::X86_64)
}

fn pc_error(kernel: &str, devices: &str) -> String {
    let errors = parse_pc(kernel, devices).expect_err("wrong");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn a_pc_has_its_serial_port_at_ports() {
    let config = parse_pc("memory_regions = [[\"64MiB\"]]", "").expect("valid");
    let [uart] = &config.devices[..] else {
        panic!("{:?}", config.devices)
    };
    assert_eq!((uart.window(), uart.irq), (Window::new(0x3f8, 8), 4));
    let second = |place: &str| {
        let list = format!(
            "virtual = [{{ id = \"a\", model = \"ns16550\" }}, {{ id = \"b\", model = \"ns16550\", {place} }}]"
        );
        parse_pc("memory_regions = [[\"64MiB\"]]", &list)
            .map(|config| config.devices[1].window())
            .map_err(|errors| errors[0].message.clone())
    };
    // RAM at the same number is none of a port's business.
    assert_eq!(second("addr = 0x2f8, irq = 3"), Ok(Window::new(0x2f8, 8)));
    for (place, why) in [
        ("addr = 0x3ff, irq = 3", "overlaps device \"a\""),
        (
            "addr = 0x40, irq = 3",
            "overlaps a device that every VM has",
        ),
        ("addr = 0xfffc, irq = 3", "must end at port 0xffff or below"),
        ("addr = 0x10000, irq = 3", "must be"),
        ("addr = 0x2f8, irq = 8", "must be"),
    ] {
        let message = second(place).expect_err("wrong");
        assert!(message.contains(why), "{place}: {message}");
    }
}

#[test]
fn the_memory_of_a_pc_goes_around_its_devices() {
    const GIB: u64 = 1 << 30;
    let memory = |regions: &str| {
        let config = parse_pc(&format!("memory_regions = {regions}"), "").expect("valid");
        let windows = config.memory.iter();
        let windows = windows.map(|region| (region.gpa.as_u64() / GIB, region.size / GIB));
        windows.collect::<Vec<_>>()
    };
    assert_eq!(memory("[[\"3GiB\"]]"), [(0, 3)]);
    assert_eq!(memory("[[\"8GiB\"]]"), [(0, 3), (4, 5)]);
    assert_eq!(memory("[[\"3GiB\"], [\"2GiB\"]]"), [(0, 3), (4, 2)]);
    assert_eq!(memory("[[\"4GiB\"], [\"2GiB\"]]"), [(0, 3), (5, 2), (4, 1)]);
    let error = pc_error("memory_regions = [[\"1MiB\"], [0xfee0_0000, \"4KiB\"]]", "");
    assert!(error.contains("which a PC keeps for devices"), "{error}");
}

#[test]
fn a_pc_has_no_device_tree() {
    let error = pc_error("memory_regions = [[\"8MiB\"]]\ndtb_path = \"tree\"", "");
    assert!(error.contains("ACPI"), "{error}");
}

#[test]
fn a_misspelt_table_is_told_before_what_it_makes_missing() {
    let text = "[base]\nid = 1\nphys_cpu_ids = [1]\n[kernal]\nkernel_path = \"Image\"\nmemory_regions = [\"1MiB\"]\n";
    assert_eq!(
        errors(text),
        [
            "vms/test.toml:4: kernal: unknown key, did you mean `kernel`?",
            "vms/test.toml: kernel.kernel_path: missing: the kernel image's path in the bundle, like \"guests/Image\"",
            "vms/test.toml: kernel.memory_regions: missing: the VM's memory, like [[\"256MiB\"]]",
        ]
    );
}

#[test]
fn a_key_that_stands_twice_is_named() {
    assert_eq!(
        errors("[base]\nid = 1\nid = 2\n"),
        ["vms/test.toml:3: not TOML: the key id stands twice"]
    );
}

/// The console's lines of that name are the hypervisor's own.
#[test]
fn no_vm_has_the_hypervisors_name() {
    for name in ["axhv", "AxHV"] {
        let rule = "\"axhv\" is the hypervisor's own name at the console";
        assert_refused("base", &format!("name = \"{name}\""), rule);
        let file = format!("vms/{name}.toml");
        let errors = VmConfig::parse(&file, SMALL, Isa::Riscv64).expect_err("reserved");
        assert!(errors[0].to_string().contains(rule), "{errors:?}");
    }
    let errors = VmConfig::parse("vms/sp ace.toml", SMALL, Isa::Riscv64).expect_err("no name");
    assert_eq!(
        errors[0].to_string(),
        "vms/sp ace.toml:1: base.name: missing, and would be that of the file, but \"sp ace\" is no name \
         (1 to 32 visible ASCII characters, no blanks): say `name = \"…\"`"
    );
}

/// What a PC boots with is written there.
#[test]
fn a_pc_has_ram_in_its_first_mib() {
    for (regions, at) in [
        ("[[0x8000_0000, \"8MiB\"]]", "0x90000 to 0x97fff"),
        (
            "[[0x1000, 0x9_6000], [0x10_0000, \"8MiB\"]]",
            "0x90000 to 0x97fff",
        ),
        (
            "[[0, 0xf_0000], [0x10_0000, \"8MiB\"]]",
            "0xe0000 to 0xfffff",
        ),
    ] {
        let kernel = format!("memory_regions = {regions}");
        let errors = parse_pc(&kernel, "").expect_err("no RAM there");
        let rule = format!("a PC needs RAM in its first MiB, in one region at {at}");
        assert!(errors[0].to_string().contains(&rule), "{errors:?}");
    }
    let parts = "memory_regions = [[0, 0xa_0000], [0xe_0000, \"8MiB\"]]";
    assert!(parse_pc(parts, "").is_ok());
}

/// A model that is wrong hides nothing else of the device.
#[test]
fn a_device_of_no_model_has_a_name_and_an_interrupt() {
    let device = r#"{ id = "u", model = "ns1655", addr = 0x2000_0000, irq = 10 }"#;
    let line = format!("virtual = [{{ id = \"u\", model = \"ns16550\" }}, {device}]");
    let errors = errors_with("devices", &line);
    for rule in [
        "devices.virtual[1].model: must be one of \"ns16550\"",
        "devices.virtual[1].id: \"u\" is the name of devices.virtual[0] (line 8) already",
        "devices.virtual[1].irq: 10 is the interrupt of devices.virtual[0] (line 8) already",
    ] {
        assert!(
            errors.iter().any(|error| error.contains(rule)),
            "{rule}: {errors:?}"
        );
    }
    assert_eq!(errors.len(), 3, "{errors:?}");
}
