//! What each value must be.

use super::*;

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
        ("[[]]", "missing: how large"),
        ("[{}]", ".size: missing: how large"),
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
            "memory region 0 (0x10000000 to 0x10000fff) overlaps device \"uart0\" (0x10000000 to 0x100000ff, there by default)",
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
        ("virtual = {}", "must be a list of tables"),
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
