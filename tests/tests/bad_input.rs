//! What is wrong is said with file, line, key and rule; what is right starts all the same.

use system_tests::{Arch::Riscv64, Bundle, Ended, Machine};

const GOOD: &str = "[base]\nid = 9\nname = \"good\"\nphys_cpu_ids = [3]\n\n[kernel]\nkernel_path = \"guests/riscv64/hello.bin\"\nmemory_regions = [[\"8MiB\"]]\n";

/// Boots a good VM beside `bundle`'s bad ones: the good one must run, and the machine must end as failed.
fn beside_a_good_vm(bundle: Bundle) -> Ended {
    let bundle = bundle.vm("z-good", GOOD).guest("hello.bin");
    let ended = Machine::new().boot(&bundle).end();
    assert!(
        ended.output.contains("hello from AxHV guest"),
        "{}",
        ended.output
    );
    assert!(
        ended.output.contains("VM \"good\" powered off"),
        "{}",
        ended.output
    );
    ended.failed();
    ended
}

/// A VM of the hello guest, with lines replaced.
fn hello_with(replace: &[(&str, &str)]) -> String {
    let mut config =
        "[base]\nid = 1\nname = \"bad\"\nphys_cpu_ids = [1]\n\n[kernel]\nkernel_path = \"guests/riscv64/hello.bin\"\nmemory_regions = [[\"8MiB\"]]\n"
            .to_owned();
    for (from, to) in replace {
        assert!(config.contains(from));
        config = config.replace(from, to);
    }
    config
}

fn refused(config: &str, words: &[&str]) {
    let ended = beside_a_good_vm(Bundle::new(Riscv64).vm("bad", config));
    ended.says(&[&["vms/bad.toml:"], words].concat());
}

#[test]
fn unknown_key() {
    refused(
        &hello_with(&[("id = 1", "id = 1\ncpu_nmu = 2")]),
        &[":3:", "cpu_nmu", "cpu_num"],
    );
}

#[test]
fn wrong_type() {
    refused(&hello_with(&[("id = 1", "id = \"one\"")]), &[":2:", "id"]);
}

#[test]
fn not_toml() {
    refused("[base\nid = 1\n", &[":1:"]);
}

#[test]
fn missing_image() {
    refused(
        &hello_with(&[("hello.bin", "absent.bin")]),
        &["kernel_path", "guests/riscv64/absent.bin"],
    );
}

#[test]
fn overlapping_memory() {
    refused(
        &hello_with(&[(
            "[[\"8MiB\"]]",
            "[[0x8000_0000, 0x80_0000], [0x8040_0000, 0x80_0000]]",
        )]),
        &["memory_regions", "overlap"],
    );
}

#[test]
fn a_pcpu_that_does_not_exist() {
    refused(
        &hello_with(&[("[1]", "[7]")]),
        &[":4:", "phys_cpu_ids", "7"],
    );
}

#[test]
fn two_vms_dedicated_to_one_pcpu() {
    let first = hello_with(&[("\"bad\"", "\"first\"")]);
    let second = hello_with(&[("id = 1", "id = 2"), ("\"bad\"", "\"second\"")]);
    let ended = beside_a_good_vm(Bundle::new(Riscv64).vm("a", &first).vm("b", &second));
    ended.says(&["vms/b.toml:4:", "phys_cpu_ids", "vms/a.toml:4", "first"]);
    ended.says(&["VM \"first\" powered off"]);
}

#[test]
fn the_same_id_twice() {
    let first = hello_with(&[("\"bad\"", "\"first\"")]);
    let second = hello_with(&[("\"bad\"", "\"second\""), ("[1]", "[2]")]);
    let ended = beside_a_good_vm(Bundle::new(Riscv64).vm("a", &first).vm("b", &second));
    ended.says(&["vms/b.toml:2:", "id", "vms/a.toml:2"]);
    ended.says(&["VM \"first\" powered off"]);
}

#[test]
fn an_image_larger_than_ram() {
    let config = hello_with(&[("8MiB", "4MiB"), ("guests/riscv64/hello.bin", "huge.bin")]);
    let ended = beside_a_good_vm(
        Bundle::new(Riscv64)
            .vm("bad", &config)
            .file("huge.bin", &vec![0x13; 6 << 20]),
    );
    ended.says(&["vms/bad.toml:", "kernel_path", "6 MiB", "does not fit"]);
}

#[test]
fn corrupt_gzip() {
    let mut image = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    image.extend([0xa5; 5000]);
    let config = hello_with(&[("guests/riscv64/hello.bin", "corrupt.gz")]);
    let ended = beside_a_good_vm(
        Bundle::new(Riscv64)
            .vm("bad", &config)
            .file("corrupt.gz", &image),
    );
    ended.says(&["vms/bad.toml:", "kernel_path", "gzip"]);
}

#[test]
fn an_elf_that_loads_outside_ram() {
    let config = hello_with(&[
        ("guests/riscv64/hello.bin", "hello.elf"),
        (
            "memory_regions = [[\"8MiB\"]]",
            "memory_regions = [[0x4000_0000, 0x80_0000]]",
        ),
    ]);
    let elf = Riscv64.guest("hello.elf");
    let ended = beside_a_good_vm(
        Bundle::new(Riscv64)
            .vm("bad", &config)
            .file("hello.elf", &elf),
    );
    ended.says(&["vms/bad.toml:", "kernel_path", "not within"]);
}

#[test]
fn more_memory_than_the_machine_has() {
    refused(
        &hello_with(&[("8MiB", "64GiB")]),
        &["memory_regions", "64GiB"],
    );
}

/// Nothing can start without a bundle that is whole: one clear line, and the machine ends as failed.
#[test]
fn a_bundle_that_is_none() {
    let whole = Bundle::new(Riscv64)
        .vm("z-good", GOOD)
        .guest("hello.bin")
        .bytes();
    let truncated = &whole[..whole.len() / 2];
    for (bytes, words) in [(truncated, "truncated"), (&b"not an archive"[..], "bundle")] {
        let ended = Machine::new().boot_bytes(Riscv64, bytes).end();
        ended.says(&["[axhv] error:", "bundle", words]);
        ended.failed();
    }
}

#[test]
fn a_bundle_without_configs() {
    let ended = Machine::new()
        .boot(&Bundle::new(Riscv64).file("readme", b"nothing here"))
        .end();
    ended.says(&["[axhv] error:", "vms/*.toml"]);
    ended.failed();
}

#[test]
fn a_machine_that_cannot_run_guests() {
    let bundle = Bundle::new(Riscv64).vm("z-good", GOOD).guest("hello.bin");
    let no_h = Machine::new().cpu("rv64,h=false").boot(&bundle).end();
    no_h.says(&["axhv:", "no H extension"]);
    no_h.failed();
    let aia = Machine::new()
        .kind("virt,aia=aplic-imsic")
        .boot(&bundle)
        .end();
    aia.says(&["axhv:", "AIA", "no PLIC"]);
    aia.failed();
}
