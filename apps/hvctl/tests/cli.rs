//! The program itself, on files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use axvmconfig::{Isa, bundle::Bundle};

const GOOD: &str = "[base]\nid = 1\nphys_cpu_ids = [1]\n[kernel]\nkernel_path = \"img/k\"\n\
                    ramdisk_path = \"/img/r\"\nmemory_regions = [\"1MiB\"]\n";

/// An empty folder for one test.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("img")).expect("can be made");
    folder
}

fn hvctl(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hvctl"));
    command
        .current_dir(folder)
        .args(args)
        .output()
        .expect("runs")
}

/// Says that configs are for RISC-V, where that must be said.
fn for_riscv<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut args = args.to_vec();
    if args[0] != "list" {
        args.extend(["--isa", Isa::Riscv64.name()]);
    }
    args
}

#[track_caller]
fn succeed(folder: &Path, args: &[&str]) -> String {
    let output = hvctl(folder, &for_riscv(args));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text") + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn fail(folder: &Path, args: &[&str]) -> String {
    let output = hvctl(folder, &for_riscv(args));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(folder.join(name), bytes).expect("can be written");
}

#[test]
fn check_is_silent_about_good_configs() {
    let folder = folder("check_good");
    write(&folder, "a.toml", GOOD);
    assert_eq!(
        succeed(&folder, &["check", "--pcpus", "2", "a.toml"]),
        "no errors; configs checked: 1\n"
    );
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/vms");
    let main_job = [
        "check",
        "--pcpus=4",
        &format!("{configs}/linux-riscv64.toml"),
        &format!("{configs}/heartbeat-riscv64.toml"),
    ];
    succeed(&folder, &main_job);
}

/// What a config means depends on the architecture, so nobody guesses it.
#[test]
fn the_architecture_must_be_said() {
    let folder = folder("isa");
    let config =
        format!("{GOOD}[devices]\nvirtual = [{{ id = \"a\", model = \"ns16550\", irq = 20 }}]\n");
    write(&folder, "a.toml", config);
    for (args, words) in [
        (
            &["check", "a.toml"][..],
            ["required", "--isa <riscv64|x86_64>"],
        ),
        (
            &["pack", "-o", "x.cpio", "a.toml"],
            ["required", "--isa <riscv64|x86_64>"],
        ),
        (
            &["check", "--isa", "x86", "a.toml"],
            ["must be one of", "riscv64, x86_64"],
        ),
        (
            &["check", "--isa", "x86_64", "a.toml"],
            ["a.toml:9: error: devices.virtual[0].irq", "3 to 7"],
        ),
    ] {
        let output = hvctl(&folder, args);
        assert!(!output.status.success(), "{args:?}");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    succeed(&folder, &["check", "a.toml"]);
}

/// The examples of a document: what stands in its blocks of TOML.
fn examples(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(document);
    let text = fs::read_to_string(path).expect("can be read");
    let mut examples = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while lines.any(|line| line == "```toml") {
        let example: Vec<_> = lines.by_ref().take_while(|&line| line != "```").collect();
        examples.push(example.join("\n"));
    }
    examples
}

#[test]
fn the_examples_of_the_documents_are_good() {
    let folder = folder("examples");
    for (document, count) in [("docs/vm-config.md", 7), ("README.md", 1)] {
        let examples = examples(document);
        assert_eq!(examples.len(), count, "{document}");
        for example in examples {
            let config = if example.contains("[base]") {
                example.clone()
            } else if example.contains("memory_regions") {
                GOOD.replace("memory_regions = [\"1MiB\"]", &example)
            } else {
                format!("{GOOD}[devices]\n{example}")
            };
            write(&folder, "a.toml", config);
            // One that names no architecture is good on each.
            let named = Isa::ALL
                .into_iter()
                .find(|isa| example.contains(isa.name()));
            for isa in Isa::ALL {
                if named.is_none_or(|named| named == isa) {
                    let output = hvctl(&folder, &["check", "--isa", isa.name(), "a.toml"]);
                    assert!(output.status.success(), "{example}\n{output:?}");
                }
            }
        }
    }
}

/// A pCPU that no image serves is an error here already.
#[test]
fn check_knows_how_many_pcpus_an_image_serves() {
    let folder = folder("check_pcpus");
    write(&folder, "a.toml", GOOD.replace("[1]", "[8]"));
    let errors = fail(&folder, &["check", "a.toml"]);
    assert!(
        errors.contains("this machine has pCPUs 0, 1, 2, 3, 4, 5, 6, 7, and not 8"),
        "{errors}"
    );
    succeed(&folder, &["check", "--pcpus", "16", "a.toml"]);
    for isa in Isa::ALL {
        let platform = format!(
            "{}/../../configs/platforms/{}.toml",
            env!("CARGO_MANIFEST_DIR"),
            isa.name()
        );
        let platform = fs::read_to_string(platform).expect("can be read");
        assert!(platform.contains("\nmax-cpu-num = 8 "), "{platform}");
    }
}

#[test]
fn check_tells_every_error_with_its_line() {
    let folder = folder("check_bad");
    write(&folder, "a.toml", GOOD);
    write(
        &folder,
        "b.toml",
        GOOD.replace("id = 1", "id = 1\nnam = \"b\""),
    );
    write(&folder, "c.toml", GOOD.replace("id = 1", "id = 3"));
    write(&folder, "d.toml", b"\xff");
    let errors = fail(
        &folder,
        &["check", "d.toml", "c.toml", "b.toml", "a.toml", "gone.toml"],
    );
    assert!(errors.starts_with("gone.toml: error: "), "{errors}");
    let errors = fail(&folder, &["check", "d.toml", "c.toml", "b.toml", "a.toml"]);
    assert_eq!(
        errors,
        "b.toml:3: error: base.nam: unknown key, did you mean `name`?\n    3 | nam = \"b\"\n\
         d.toml:1: error: not TOML: a config is UTF-8 text\n    1 | \u{fffd}\n\
         c.toml:3: error: base.phys_cpu_ids[0]: pCPU 1 is dedicated to vCPU 0 of VM \"a\" (a.toml:3)\n    \
         3 | phys_cpu_ids = [1]\n"
    );
    let errors = fail(
        &folder,
        &["check", "--pcpus", "1", "--ram", "512KiB", "a.toml"],
    );
    assert!(
        errors.contains("this machine has pCPU 0, and not 1"),
        "{errors}"
    );
    assert!(
        errors.contains("1MiB are more than the 512KiB left"),
        "{errors}"
    );
}

#[test]
fn pack_puts_configs_and_images_where_the_hypervisor_looks() {
    let folder = folder("pack");
    write(&folder, "a.toml", GOOD);
    write(
        &folder,
        "b.toml",
        GOOD.replace("id = 1", "id = 2").replace("[1]", "[2]"),
    );
    write(&folder, "img/k", "kernel");
    write(&folder, "img/r", "ramdisk");
    succeed(&folder, &["pack", "-o", "1.cpio", "./b.toml", "a.toml"]);
    succeed(
        &folder,
        &["pack", "-o", "2.cpio", "--images", ".", "a.toml", "b.toml"],
    );
    let archive = fs::read(folder.join("1.cpio")).expect("written");
    assert!(
        archive == fs::read(folder.join("2.cpio")).expect("written"),
        "not reproducible"
    );

    let bundle = Bundle::new(&archive).expect("valid");
    let configs: Vec<_> = bundle.configs().map(|config| config.path).collect();
    assert_eq!(configs, ["vms/a.toml", "vms/b.toml"]);
    assert_eq!(bundle.file("vms/a.toml"), Some(GOOD.as_bytes()));
    assert_eq!(bundle.file("img/k"), Some(&b"kernel"[..]));
    assert_eq!(bundle.file("img/r"), Some(&b"ramdisk"[..]));
    assert_eq!(bundle.files().count(), 4);
    assert_eq!(
        succeed(&folder, &["list", "1.cpio"]),
        format!(
            "{:>10}  img/k\n{:>10}  img/r\n{len:>10}  vms/a.toml\n{len:>10}  vms/b.toml\n",
            6,
            7,
            len = GOOD.len()
        )
    );
}

#[test]
fn pack_refuses_what_would_not_boot() {
    let folder = folder("pack_bad");
    write(&folder, "a.toml", GOOD);
    write(&folder, "img/k", vec![0; (1 << 20) + 1]);
    let errors = fail(&folder, &["pack", "-o", "x.cpio", "a.toml"]);
    assert!(errors.contains("a.toml:5: error: kernel.kernel_path: \"img/k\" has 1048577 bytes"));
    assert!(errors.contains("a.toml:6: error: kernel.ramdisk_path: no file \"img/r\" in .\n"));
    assert!(!folder.join("x.cpio").exists());

    write(&folder, "img/k", "kernel");
    let warning = succeed(
        &folder,
        &["pack", "-o", "x.cpio", "--allow-missing", "a.toml"],
    );
    assert!(
        warning.contains("a.toml:6: warning: kernel.ramdisk_path: "),
        "{warning}"
    );
    let archive = fs::read(folder.join("x.cpio")).expect("written");
    let bundle = Bundle::new(&archive).expect("valid");
    assert_eq!(bundle.file("img/k"), Some(&b"kernel"[..]));
    assert_eq!(bundle.file("img/r"), None);

    write(&folder, "b.toml", "[base");
    fail(&folder, &["pack", "-o", "y.cpio", "b.toml"]);
    succeed(&folder, &["pack", "-o", "y.cpio", "--no-check", "b.toml"]);
    let archive = fs::read(folder.join("y.cpio")).expect("written");
    assert_eq!(
        Bundle::new(&archive).expect("valid").file("vms/b.toml"),
        Some(&b"[base"[..])
    );

    write(&folder, "c.conf", GOOD);
    let errors = fail(
        &folder,
        &["pack", "-o", "z.cpio", "--allow-missing", "c.conf"],
    );
    assert!(errors.contains("must end in .toml"), "{errors}");
}

#[test]
fn pack_does_not_mix_up_images() {
    let folder = folder("pack_two");
    for (sub, id) in [("x", 1), ("y", 2)] {
        fs::create_dir_all(folder.join(sub).join("img")).expect("can be made");
        let config = GOOD
            .replace("id = 1", &format!("id = {id}"))
            .replace("[1]", &format!("[{id}]"));
        write(&folder, &format!("{sub}/{sub}.toml"), config);
        write(&folder, &format!("{sub}/img/k"), sub);
        write(&folder, &format!("{sub}/img/r"), sub);
    }
    let errors = fail(&folder, &["pack", "-o", "z.cpio", "x/x.toml", "y/y.toml"]);
    assert!(
        errors.contains("\"img/k\" is y/img/k here, but x/img/k for another VM"),
        "{errors}"
    );
    let errors = fail(&folder, &["list", "x/x.toml"]);
    assert!(
        errors.contains("x/x.toml: error: cpio archive, entry at byte 0x0: "),
        "{errors}"
    );
}

#[test]
fn check_says_of_names_what_pack_would() {
    let folder = folder("check_names");
    for sub in ["a", "b"] {
        fs::create_dir_all(folder.join(sub)).expect("can be made");
    }
    let other = GOOD.replace("id = 1", "id = 2\nname = \"b\"");
    write(&folder, "a/vm.toml", GOOD);
    write(&folder, "b/vm.toml", other.replace("[1]", "[2]"));
    write(&folder, "vm.conf", GOOD);
    write(&folder, "img/k", "kernel");
    write(&folder, "img/r", "ramdisk");
    for command in [
        &["check"][..],
        &["pack", "-o", "x.cpio", "--images", "."],
        &["pack", "-o", "x.cpio", "--images", ".", "--no-check"],
    ] {
        let errors = fail(&folder, &[command, &["a/vm.toml", "b/vm.toml"]].concat());
        assert_eq!(
            errors,
            "b/vm.toml: error: has the same name in the bundle (vms/vm.toml) as a/vm.toml: rename one\n"
        );
        let errors = fail(&folder, &[command, &["vm.conf"]].concat());
        assert_eq!(
            errors,
            "vm.conf: error: a config's name must end in .toml\n"
        );
        let errors = fail(&folder, &[command, &["a/vm.toml", "a/vm.toml"]].concat());
        assert_eq!(errors, "a/vm.toml: error: is given twice\n");
    }
}

#[test]
fn pack_says_what_it_did() {
    let folder = folder("pack_says");
    write(&folder, "a.toml", GOOD);
    write(&folder, "img/k", "kernel");
    write(&folder, "img/r", "");
    let errors = fail(&folder, &["pack", "-o", "x.cpio", "a.toml"]);
    assert!(
        errors.contains("kernel.ramdisk_path: \"img/r\" is empty"),
        "{errors}"
    );
    fs::remove_file(folder.join("img/r")).expect("it is there");
    fs::create_dir(folder.join("img/r")).expect("can be made");
    let errors = fail(&folder, &["pack", "-o", "x.cpio", "a.toml"]);
    assert!(
        errors.contains("\"img/r\" in . is a folder, no file"),
        "{errors}"
    );
    fs::remove_dir(folder.join("img/r")).expect("it is there");
    write(&folder, "img/r", "ramdisk");
    assert_eq!(
        succeed(&folder, &["pack", "-o", "x.cpio", "a.toml"]),
        "packed x.cpio: VM configs: 1, images: 2, 13 KiB\n"
    );
}

#[test]
fn options_say_what_they_take() {
    let folder = folder("options");
    write(&folder, "a.toml", GOOD);
    for (option, words) in [
        (
            "--ram=5",
            "must be a whole number with KiB, MiB, GiB or TiB, like 256MiB",
        ),
        ("--pcpus=0", "0 is not in 1..=64"),
        ("--pcpus=100", "100 is not in 1..=64"),
    ] {
        let output = hvctl(&folder, &for_riscv(&["check", option, "a.toml"]));
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success() && said.contains(words), "{said}");
    }
}
