//! A PC's memory, ports and boot.

use super::*;

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
