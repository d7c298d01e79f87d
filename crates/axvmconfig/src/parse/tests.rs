//! One config at a time: what is accepted and with which meaning, what is refused and how.

mod anything;
mod guide;
mod overlaps;
mod pc;
mod rules;

use axaddrspace::{GuestPhysAddr, MappingFlags};

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
fn what_is_missing_because_it_is_misspelt_is_told_once() {
    let text = "[base]\nid = 1\nphys_cpu_ids = [1]\n[kernal]\nkernel_path = \"Image\"\nmemory_regions = [\"1MiB\"]\n";
    assert_eq!(
        errors(text),
        ["vms/test.toml:4: kernal: unknown key, did you mean `kernel`?"]
    );
    let kernel = "[kernel]\nkernel_path = \"Image\"\nmemory_regions = [{ siz = \"1MiB\" }, {}]\n";
    let text = format!("[base]\nidd = 1\nphys_cpu_id = [1]\n{kernel}");
    assert_eq!(
        errors(&text),
        [
            "vms/test.toml:2: base.idd: unknown key, did you mean `id`?",
            "vms/test.toml:3: base.phys_cpu_id: unknown key, did you mean `phys_cpu_ids`?",
            "vms/test.toml:6: kernel.memory_regions[0].siz: unknown key, did you mean `size`?",
            "vms/test.toml:6: kernel.memory_regions[1].size: missing: how large the region is, like [\"256MiB\"]",
        ]
    );
    // A list whose names begin alike says nothing of the other.
    let text = "[base]\nids = 1\ncpu_num = 1\n[kernel]\nkernel_paths = \"Image\"\n";
    let keys = [
        "base.ids",
        "kernel.kernel_paths",
        "base.phys_cpu_ids",
        "kernel.memory_regions",
    ];
    let errors = errors(text);
    assert_eq!(errors.len(), keys.len(), "{errors:?}");
    for key in keys {
        assert!(
            errors
                .iter()
                .any(|error| error.contains(&format!(" {key}: "))),
            "{key}: {errors:?}"
        );
    }
}

#[test]
fn a_key_that_stands_twice_is_named() {
    for (text, expected) in [
        (
            "[base]\nid = 1\n\t id= 2\n",
            "3: not TOML: the key id stands twice, first in line 2",
        ),
        (
            "[base]\nid = 1\n[ base ] # again\nname = \"a\"\n",
            "3: not TOML: the key base stands twice, first in line 1",
        ),
        (
            "[devices]\n[[devices.passthrough]]\nid = \"a\"\n[[devices.passthrough]]\nid = \"b\"\nid = \"c\"",
            "6: not TOML: the key id stands twice, first in line 5",
        ),
        (
            "a = { id = 1, id = 2 }\n",
            "1: not TOML: the key id stands twice",
        ),
        (
            "[base]\nids = 1\n'id' = 1\n\"id\" = 2\n",
            "4: not TOML: the key \"\\\"id\\\"\" stands twice",
        ),
    ] {
        assert_eq!(
            errors(text),
            [format!("vms/test.toml:{expected}")],
            "{text}"
        );
    }
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

/// `[devices.passthrough]` is what one writes who has written `[devices]`.
#[test]
fn a_table_where_a_list_of_tables_belongs_is_told_with_its_brackets() {
    let errors = errors(&format!("{SMALL}[devices.passthrough]\nid = \"a\"\n"));
    let rule = "devices.passthrough: must be a list of tables, each begun by [[devices.passthrough]] and not \
                [devices.passthrough], found a table";
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].ends_with(rule), "{errors:?}");
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
