//! What is wrong is said with file, line, key and rule; what is right starts all the same.

use system_tests::{
    Arch::{self, Riscv64, X86_64},
    Bundle, Ended, Machine,
};

const BOTH: [Arch; 2] = [Riscv64, X86_64];

/// A VM of the hello guest.
fn hello(arch: Arch, id: usize, name: &str, pcpu: usize) -> String {
    format!(
        "[base]\nid = {id}\nname = \"{name}\"\nphys_cpu_ids = [{pcpu}]\n\n[kernel]\nkernel_path = \"{}\"\nmemory_regions = [[\"8MiB\"]]\n",
        hello_path(arch)
    )
}

fn hello_path(arch: Arch) -> String {
    format!("guests/{}/hello.bin", arch.name())
}

fn with_good_vm(bundle: Bundle, arch: Arch) -> Bundle {
    bundle
        .vm("z-good", &hello(arch, 9, "good", 3))
        .guest("hello.bin")
}

/// Boots a good VM beside `bundle`'s bad ones: the good one must run, and the machine must end as failed.
fn beside_a_good_vm(arch: Arch, bundle: Bundle) -> Ended {
    let ended = Machine::new().boot(&with_good_vm(bundle, arch)).end();
    ended.says(&["hello from AxHV guest"]);
    ended.says(&["VM \"good\" powered off"]);
    ended.failed();
    ended
}

/// A bad VM of the hello guest, with some of its text replaced.
fn hello_with(arch: Arch, replace: &[(&str, &str)]) -> String {
    let mut config = hello(arch, 1, "bad", 1);
    for (from, to) in replace {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, to);
    }
    config
}

/// The one VM of that config is refused with these words; a good VM beside it runs.
fn refused_on(arch: Arch, config: &str, words: &[&str]) {
    refused_with(arch, Bundle::new(arch).vm("bad", config), words);
}

/// The same, with more in the bundle.
fn refused_with(arch: Arch, bundle: Bundle, words: &[&str]) {
    beside_a_good_vm(arch, bundle).says(&[&["vms/bad.toml:"], words].concat());
}

/// On both architectures, a VM of the hello guest with some of its text replaced is refused with these words.
fn refused(replace: &[(&str, &str)], words: &[&str]) {
    for arch in BOTH {
        refused_on(arch, &hello_with(arch, replace), words);
    }
}

#[test]
fn unknown_key() {
    refused(
        &[("id = 1", "id = 1\ncpu_nmu = 2")],
        &[":3:", "cpu_nmu", "cpu_num"],
    );
}

#[test]
fn wrong_type() {
    refused(
        &[("id = 1", "id = \"one\"")],
        &[":2:", "base.id", "must be a whole number"],
    );
}

#[test]
fn not_toml() {
    for arch in BOTH {
        refused_on(arch, "[base\nid = 1\n", &[":1:", "not TOML"]);
    }
}

#[test]
fn missing_image() {
    refused(
        &[("hello.bin", "absent.bin")],
        &["kernel_path", "absent.bin"],
    );
}

#[test]
fn overlapping_memory() {
    refused(
        &[(
            "[[\"8MiB\"]]",
            "[[0x8000_0000, 0x80_0000], [0x8040_0000, 0x80_0000]]",
        )],
        &["memory_regions", "overlap"],
    );
}

#[test]
fn a_pcpu_that_does_not_exist() {
    refused(&[("[1]", "[7]")], &[":4:", "phys_cpu_ids", "7"]);
}

#[test]
fn more_memory_than_the_machine_has() {
    refused(&[("8MiB", "64GiB")], &["memory_regions", "64GiB"]);
}

/// The first of two runs, as if the second were not there.
fn second_is_refused(second: (usize, usize), words: &[&str]) {
    for arch in BOTH {
        let (id, pcpu) = second;
        let bundle = Bundle::new(arch)
            .vm("a", &hello(arch, 1, "first", 1))
            .vm("b", &hello(arch, id, "second", pcpu));
        let ended = beside_a_good_vm(arch, bundle);
        ended.says(words);
        ended.says(&["VM \"first\" powered off"]);
    }
}

#[test]
fn two_vms_dedicated_to_one_pcpu() {
    second_is_refused(
        (2, 1),
        &["vms/b.toml:4:", "phys_cpu_ids", "vms/a.toml:4", "first"],
    );
}

#[test]
fn the_same_id_twice() {
    second_is_refused((1, 2), &["vms/b.toml:2:", "id", "vms/a.toml:2"]);
}

/// A VM that could not start, whatever it claimed, costs nobody else the same.
#[test]
fn what_a_vm_without_an_image_claims() {
    for arch in BOTH {
        let absent = hello_with(arch, &[("hello.bin", "absent.bin")]);
        let heir = hello(arch, 1, "heir", 1);
        let bundle = Bundle::new(arch).vm("bad", &absent).vm("heir", &heir);
        let ended = beside_a_good_vm(arch, bundle);
        ended.says(&["vms/bad.toml:", "absent.bin"]);
        ended.says(&["VM \"heir\" powered off"]);
        // What the configs say against each other comes first, and is not the last word.
        let place = |words: &str| ended.output.find(words).expect("it is said");
        assert!(place("vms/heir.toml:") < place("absent.bin"));
        // Once for the id and once for the pCPU.
        assert_eq!(ended.output.matches("vms/heir.toml:").count(), 2);
    }
}

/// A VM whose kernel is the file `image`, with 4 MiB of RAM.
fn small_vm_with(arch: Arch, image: &[u8]) -> Bundle {
    let replace = [("8MiB", "4MiB"), (&*hello_path(arch), "image")];
    Bundle::new(arch)
        .vm("bad", &hello_with(arch, &replace))
        .file("image", image)
}

#[test]
fn an_image_larger_than_ram() {
    for arch in BOTH {
        let bundle = small_vm_with(arch, &vec![0x13; 6 << 20]);
        refused_with(arch, bundle, &["kernel_path", "6 MiB", "does not fit"]);
    }
}

#[test]
fn corrupt_gzip() {
    let mut image = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    image.extend([0xa5; 5000]);
    for arch in BOTH {
        let bundle = small_vm_with(arch, &image);
        refused_with(arch, bundle, &["kernel_path", "gzip"]);
    }
}

#[test]
fn an_elf_for_another_architecture() {
    for (arch, other) in [(Riscv64, X86_64), (X86_64, Riscv64)] {
        let bundle = small_vm_with(arch, &other.guest("hello.elf"));
        let words = format!("for {}, and this machine is {}", other.name(), arch.name());
        refused_with(arch, bundle, &["kernel_path", "ELF", &words]);
    }
}

/// Whoever sets one of ARCH and VM_CONFIGS, and not the other, is told so.
#[test]
fn a_linux_for_another_architecture() {
    for (arch, kernel, words) in [
        (
            Riscv64,
            X86_64.guest("bzImage"),
            "an x86_64 Linux bzImage, and this machine is riscv64",
        ),
        (
            X86_64,
            Riscv64.guest("Image"),
            "a riscv64 Linux Image, and this machine is x86_64",
        ),
    ] {
        refused_with(arch, small_vm_with(arch, &kernel), &["kernel_path", words]);
    }
}

#[test]
fn an_elf_that_loads_outside_ram() {
    let config = hello_with(
        Riscv64,
        &[
            ("hello.bin", "hello.elf"),
            ("[[\"8MiB\"]]", "[[0x4000_0000, 0x80_0000]]"),
        ],
    );
    let bundle = Bundle::new(Riscv64).vm("bad", &config).guest("hello.elf");
    refused_with(Riscv64, bundle, &["kernel_path", "not within"]);
}

/// What a bzImage says of itself is held against the file and the VM before the kernel runs.
#[test]
fn a_bz_image_that_cannot_boot() {
    const VERSION: usize = 0x206;
    let whole = X86_64.guest("bzImage");
    let mut old = whole.clone();
    old[VERSION..VERSION + 2].copy_from_slice(&0x020b_u16.to_le_bytes());
    let truncated = &whole[..whole.len() / 2];
    for (image, ram, words) in [
        (&old[..], "256MiB", &["too old", "2.12"][..]),
        (truncated, "256MiB", &["truncated"]),
        (&whole, "24MiB", &["MiB", "does not fit"]),
    ] {
        let config = hello_with(X86_64, &[("8MiB", ram), ("hello.bin", "bzImage")]);
        let bundle = Bundle::new(X86_64)
            .vm("bad", &config)
            .file("guests/x86_64/bzImage", image);
        let words = [&["kernel_path"], words].concat();
        refused_with(X86_64, bundle, &words);
    }
}

/// A PC's firmware and boot data need the first MiB.
#[test]
fn an_x86_vm_without_low_ram() {
    let config = hello_with(X86_64, &[("[[\"8MiB\"]]", "[[0x4000_0000, 0x80_0000]]")]);
    refused_on(X86_64, &config, &["memory_regions", "first MiB"]);
}

/// Nothing can start without a bundle that is whole: one clear line, and the machine ends as failed.
#[test]
fn a_bundle_that_is_none() {
    for arch in BOTH {
        let whole = with_good_vm(Bundle::new(arch), arch).bytes();
        let truncated = &whole[..whole.len() / 2];
        for (bytes, words) in [(truncated, "truncated"), (&b"not an archive"[..], "bundle")] {
            let ended = Machine::new().boot_bytes(arch, bytes).end();
            ended.says(&["[axhv] error:", "bundle", words]);
            ended.failed();
        }
    }
}

#[test]
fn a_bundle_without_configs() {
    for arch in BOTH {
        let bundle = Bundle::new(arch).file("readme", b"nothing here");
        let ended = Machine::new().boot(&bundle).end();
        ended.says(&["[axhv] error:", "vms/*.toml"]);
        ended.failed();
    }
}

#[test]
fn a_machine_that_cannot_run_guests() {
    let on = |arch, machine: Machine, words: &[&str]| {
        let bundle = with_good_vm(Bundle::new(arch), arch);
        let ended = machine.boot(&bundle).end();
        ended.says(words);
        ended.failed();
    };
    let cpu = |cpu| Machine::new().cpu(cpu);
    on(Riscv64, cpu("rv64,h=false"), &["axhv:", "no H extension"]);
    let aia = Machine::new().kind("virt,aia=aplic-imsic");
    on(Riscv64, aia, &["axhv:", "AIA", "no PLIC"]);
    let remedy = "QEMU: -cpu EPYC,+svm,+npt";
    for (name, why) in [
        ("EPYC,-svm", "the CPU has neither SVM nor VMX"),
        ("EPYC,+svm,-npt", "the CPU's SVM has no nested paging"),
    ] {
        on(X86_64, cpu(name), &["[axhv] error: ", why, remedy]);
    }
}

#[test]
fn boot_options_that_say_nothing() {
    let options = "apicv=foo longest_turn_us=abc bogus=1 apicv=tpr";
    let machine = Machine::new().arguments(["-append", options]);
    let ended = machine
        .boot(&with_good_vm(Bundle::new(X86_64), X86_64))
        .end();
    let error = "[axhv] error: boot option ";
    ended.says(&[
        error,
        "\"apicv=foo\": must be one of on, registers, tpr, off; ignored",
    ]);
    ended.says(&[
        error,
        "\"longest_turn_us=abc\": must be a number of microseconds above 0; ignored",
    ]);
    assert_eq!(
        ended.output.matches("boot option").count(),
        2,
        "{}",
        ended.output
    );
    ended.all_well();
}

#[test]
fn no_vm_at_all() {
    for arch in BOTH {
        let bundle = Bundle::new(arch).vm("bad", "");
        let ended = Machine::new().boot(&bundle).end();
        ended.says(&["[axhv] no VM runs: powering off"]);
        ended.failed();
    }
}
