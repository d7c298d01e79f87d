//! The Makefile and its scripts: what they say to what cannot be, and how a run ends.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use system_tests::{
    Arch::{Riscv64, X86_64},
    Bundle, Emulator, Machine, repository,
};

/// What `make` says, which does nothing.
fn make(arguments: &[&str]) -> Output {
    let mut command = Command::new("make");
    // A make that runs this test has told its own variables.
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"] {
        command.env_remove(variable);
    }
    let command = command.arg("-n").args(arguments);
    let output = command.current_dir(repository(".")).output();
    output.expect("there is a make")
}

#[test]
fn make_names_the_variable_that_is_wrong() {
    for (argument, rule) in [
        ("A=apps/hvctl", "the only application is apps/hv"),
        ("ARCH=arm", "use ARCH=riscv64 or ARCH=x86_64"),
        ("ARCH=riscv64 x86_64", "use ARCH=riscv64 or ARCH=x86_64"),
        ("EMU=qemu bochs", "use EMU=qemu"),
        ("EMU=vbox", "use EMU=qemu"),
        ("ACCEL=hvf", "use ACCEL=tcg"),
        ("PEER=xen", "use PEER=kvm"),
        ("LOG=wran", "use LOG=off, error, warn, info, debug or trace"),
        ("LOG=", "use LOG=off"),
        ("ACCEPT=0", "use ACCEPT=1, or leave it out"),
        ("SHORT=no", "use SHORT=1, or leave it out"),
        ("SMP=0", "use SMP=1 to SMP=8"),
        ("SMP=two", "use SMP=1 to SMP=8"),
        ("SMP=1 2", "use SMP=1 to SMP=8"),
        ("MEM=abc", "use a number with M or G"),
        ("MEM=1", "use a number with M or G"),
        ("MEM=1G;id", "use a number with M or G"),
        ("MEM='1G", "use a number with M or G"),
        ("MEM=64M", "use MEM=128M or more"),
        ("VM_CONFIGS=", "name one VM config or more"),
    ] {
        let output = make(&[argument, "help"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{argument}: {said}");
        let (variable, _) = argument.split_once('=').expect("an assignment");
        assert!(
            said.contains(variable) && said.contains(rule),
            "{argument}: {said}"
        );
    }
}

#[test]
fn make_takes_what_the_readme_says() {
    for arguments in [
        &["SMP=1", "MEM=128M"][..],
        &["SMP=8", "MEM=6G"],
        &["ARCH=x86_64", "EMU=bochs", "LOG=trace"],
        &["SHORT=1", "ACCEPT=1", "PEER=kvm", "ROW=cpuid"],
        &["SHORT=", "ACCEPT=", "PEER=", "ROW="],
    ] {
        let output = make(&[arguments, &["help"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

/// What the machine lacks is told before it boots.
#[test]
fn the_bundle_is_checked_for_the_machine_that_it_is_for() {
    let output = make(&["bundle", "SMP=2"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("hvctl -- pack --isa riscv64 --pcpus 2 "),
        "{said}"
    );
}

#[test]
fn a_target_that_is_none_leads_to_help() {
    let mut command = Command::new("make");
    let command = command.env_remove("MAKEFLAGS").arg("foo");
    let output = command.current_dir(repository(".")).output();
    let output = output.expect("there is a make");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no target 'foo'") && said.contains("make help"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2));
}

/// A folder of programs that stand in for a system's.
struct System(PathBuf);

impl System {
    fn new(name: &str, programs: &[(&str, &str)]) -> Self {
        let folder = repository("target/tests").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("target/ can be written");
        for (name, script) in [("sleep", "")].iter().chain(programs) {
            let path = folder.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("is ours");
        }
        Self(folder)
    }

    /// Sets up x86_64; what that said, and what the stand-ins noted.
    fn set_up(&self) -> (Output, String) {
        let path = std::env::var("PATH").expect("there is a PATH");
        let output = Command::new(repository("scripts/setup.sh"))
            .arg("x86_64")
            .env("PATH", format!("{}:{path}", self.0.display()))
            .env("NOTES", self.notes())
            .output()
            .expect("can be run");
        (output, fs::read_to_string(self.notes()).unwrap_or_default())
    }

    fn notes(&self) -> PathBuf {
        Path::join(&self.0, "notes")
    }
}

const OLD_QEMU: (&str, &str) = ("qemu-system-x86_64", "echo 'QEMU emulator version 7.2.0'");
const ROOT: (&str, &str) = ("id", "echo 0");
const RM: (&str, &str) = ("rm", "echo rm \"$@\" >>\"$NOTES\"");
const TEE: (&str, &str) = ("tee", "cat >/dev/null; echo tee \"$@\" >>\"$NOTES\"");

#[test]
fn setup_says_that_apt_has_no_network() {
    let apt = ("apt-get", "echo 'E: no network' >&2; exit 100");
    let (output, notes) = System::new("no-network", &[OLD_QEMU, ROOT, RM, TEE, apt]).set_up();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("E: no network"), "{said}");
    assert!(
        said.contains(
            "setup: apt could not read the package lists: see above, or install QEMU 10 by hand"
        ),
        "{said}"
    );
    assert_eq!((output.status.code(), notes.as_str()), (Some(1), ""));
}

#[test]
fn setup_tries_again_what_failed_for_a_moment() {
    let apt = (
        "apt-get",
        "case \"$*\" in *update*) echo update >>\"$NOTES\"; [ \"$(wc -l <\"$NOTES\")\" -ge 2 ] ;; *install*) exit 100 ;; esac",
    );
    let policy = ("apt-cache", "echo '  Candidate: 1:10.0.2+ds-2'");
    let (output, notes) = System::new("moment", &[OLD_QEMU, ROOT, RM, TEE, apt, policy]).set_up();
    assert_eq!(notes, "update\nupdate\n", "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn setup_takes_back_the_backports_that_did_not_help() {
    let apt = (
        "apt-get",
        "case \"$*\" in *indextargets*) echo a-mirror ;; *install*) echo 'E: disk full' >&2; exit 100 ;; esac",
    );
    let policy = ("apt-cache", "echo '  Candidate: 1:7.2+dfsg-7'");
    let system = System::new("no-backports", &[OLD_QEMU, ROOT, RM, TEE, apt, policy]);
    let (output, notes) = system.set_up();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("E: disk full"), "{said}");
    assert!(
        said.contains("setup: apt could not install QEMU from ") && said.contains("by hand"),
        "{said}"
    );
    let list = "/etc/apt/sources.list.d/axhv-backports.list";
    assert_eq!(notes, format!("tee {list}\nrm -f {list}\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn setup_adds_no_backports_where_the_suite_has_what_is_needed() {
    let apt = (
        "apt-get",
        "case \"$*\" in *install*) echo 'E: disk full' >&2; exit 100 ;; esac",
    );
    let policy = ("apt-cache", "echo '  Candidate: 1:10.0.2+ds-2'");
    let system = System::new("no-disk", &[OLD_QEMU, ROOT, RM, TEE, apt, policy]);
    let (output, notes) = system.set_up();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("setup: apt could not install QEMU: see above, or install QEMU 10 by hand"),
        "{said}"
    );
    assert_eq!((output.status.code(), notes.as_str()), (Some(1), ""));
}

/// A VM that runs until somebody ends the emulator by these keys.
fn ended_by(machine: &Machine, keys: &str) {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("heartbeat", &[])
        .guest("heartbeat.bin");
    let mut run = machine.boot(&bundle);
    run.expect("a beat every");
    run.send(keys);
    let ended = run.end();
    ended.says(&["run: ended by hand"]);
    ended.all_well();
}

#[test]
fn who_ends_the_emulator_did_nothing_wrong() {
    ended_by(&Machine::new().by_make(), "\x01x");
    ended_by(&Machine::emulated_by(Emulator::Bochs).by_make(), "\x1d");
}

#[test]
fn how_the_vms_ended_is_the_status_of_the_run() {
    let good = |arch| {
        Bundle::new(arch)
            .shipped_vm("hello", &[])
            .guest("hello.bin")
    };
    for arch in [Riscv64, X86_64] {
        let machine = Machine::new().by_make();
        let ended = machine.boot(&good(arch)).end();
        ended.all_well();
        assert!(!ended.output.contains("run: "), "{}", ended.output);
        machine.boot(&good(arch).vm("bad", "")).end().failed();
    }
    let bochs = Machine::emulated_by(Emulator::Bochs).by_make();
    bochs.boot(&good(X86_64).vm("bad", "")).end().failed();
}

/// The BIOS leaves the terminal as it was, and the emulator does not complain.
#[test]
fn a_run_begins_with_the_image() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("hello", &[])
        .guest("hello.bin");
    let ended = Machine::new().by_make().boot(&bundle).end();
    assert!(!ended.output.contains('\x1b'), "{}", ended.output);
    assert!(!ended.output.contains("warning:"), "{}", ended.output);
    ended.says(&["target = x86_64-unknown-none"]);
}

/// A Multiboot image (Multiboot specification 0.6.96, 3.1) that does this.
fn image_that_faults() -> Vec<u8> {
    const LOADED_AT: u32 = 0x10_0000;
    const MAGIC: u32 = 0x1bad_b002;
    const HAS_ADDRESSES: u32 = 1 << 16;
    const HEADER_LEN: u32 = 32;
    // An interrupt table without entries, of which LIDT takes the limit, 0, from the padding; and an undefined instruction.
    let code = [
        &[0x0f, 0x01, 0x1d][..],
        &(LOADED_AT + HEADER_LEN + 9).to_le_bytes(),
        &[0x0f, 0x0b],
        &[0; 7],
    ]
    .concat();
    let end = LOADED_AT + HEADER_LEN + code.len() as u32;
    let header = [
        MAGIC,
        HAS_ADDRESSES,
        0u32.wrapping_sub(MAGIC).wrapping_sub(HAS_ADDRESSES),
        LOADED_AT,
        LOADED_AT,
        end,
        end,
        LOADED_AT + HEADER_LEN,
    ];
    let header = header.iter().flat_map(|word| word.to_le_bytes());
    header.chain(code).collect()
}

#[test]
fn a_triple_fault_of_the_image_is_no_good_end() {
    let image = repository("target/tests").join(format!("faults-{}", std::process::id()));
    fs::create_dir_all(repository("target/tests")).expect("target/ can be written");
    fs::write(&image, image_that_faults()).expect("target/ can be written");
    for emulator in [Emulator::Qemu, Emulator::Bochs] {
        let machine = Machine::emulated_by(emulator).by_make();
        let ended = machine.boot_file(X86_64, &image, b"nothing").end();
        ended.failed();
    }
    fs::remove_file(&image).expect("it is there");
}
