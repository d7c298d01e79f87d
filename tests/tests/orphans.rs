//! Emulators and what they need end with whoever started them, even if that was killed.

use std::{
    cell::OnceCell,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use system_tests::{Arch, Bundle, Machine, repository};

/// Starts something, kills it when `is_there` says that the emulator runs, and waits until that does not run any more.
fn dies_with(starter: &mut Command, is_there: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(300);
    let wait_until = |what: &str, reached: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            sleep(Duration::from_millis(50));
        }
    };
    let nothing = || Stdio::null();
    let mut started = starter
        .stdin(nothing())
        .stdout(nothing())
        .stderr(nothing())
        .env("SMP", "1")
        .env("MEM", MEMORY)
        .spawn()
        .expect("it can be started");
    wait_until("the emulator does not start", &is_there);
    started.kill().expect("it has not ended");
    started.wait().expect("it was started");
    wait_until("the emulator runs on", &|| !is_there());
}

/// A shell that starts a script.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    // Not `exec`: the shell stays the script's parent.
    let line = format!(
        "{} x86_64 {} {}; true",
        repository(script).display(),
        Arch::X86_64.image_path().display(),
        endless(&folder(script)).display(),
    );
    shell.args(["-c", &line]);
    shell
}

/// A folder for what this one starts.
fn folder(starter: &str) -> PathBuf {
    repository("target/tests").join(format!("orphan-of-{}", starter.replace('/', "-")))
}

/// A bundle whose VM does not end.
fn endless_bundle() -> Vec<u8> {
    let bundle = Bundle::new(Arch::X86_64)
        .shipped_vm("heartbeat", &[("phys_cpu_ids = [1]", "phys_cpu_ids = [0]")])
        .guest("heartbeat.bin");
    bundle.bytes()
}

/// The file of such a bundle.
fn endless(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("target/ can be written");
    let path = folder.join("bundle.cpio");
    fs::write(&path, endless_bundle()).expect("target/ can be written");
    path
}

/// A copy of the image, by which the one who boots it is known.
fn copy_of_image(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("target/ can be written");
    let image = folder.join("hv.elf");
    fs::copy(Arch::X86_64.image_path(), &image).expect("make image has made it");
    image
}

/// A make that has not been told the variables of one that runs this test.
fn make() -> Command {
    let mut make = Command::new("make");
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"] {
        make.env_remove(variable);
    }
    make.current_dir(repository("."));
    make
}

/// An amount that no other test asks for, by which a process is known.
const MEMORY: &str = "333M";

/// Whether `program` runs with all of `words` in its command line. What is about to become it is not yet tied to its parent.
fn runs(program: &str, words: &[&str]) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    processes.flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with(program) && words.iter().all(|word| line.contains(word))
    })
}

/// Whether QEMU runs that image.
fn qemu_runs(image: &Path) -> bool {
    let image = image.to_str().expect("a path");
    runs("qemu-system-x86_64", &[MEMORY, image])
}

#[test]
fn qemu_dies_with_its_parent() {
    let image = Arch::X86_64.image_path();
    dies_with(&mut shell("scripts/qemu.sh"), || qemu_runs(&image));
}

#[test]
fn qemu_dies_with_make() {
    let out = folder("make");
    let _ = endless(&out);
    let image = copy_of_image(&out);
    let mut make = make();
    // Nothing is built: only the recipe itself is run.
    make.args(["-o", "image", "-o", "bundle", "run", "ARCH=x86_64"])
        .arg(format!("OUT={}", out.display()));
    dies_with(&mut make, || qemu_runs(&image));
}

/// What [`qemu_dies_with_make_test`] boots where cargo runs it under make.
const ENDLESS_IMAGE: &str = "ENDLESS_IMAGE";

/// Nothing is built, and of all tests cargo runs one that does not end: this one again.
#[test]
fn qemu_dies_with_make_test() {
    if let Some(image) = std::env::var_os(ENDLESS_IMAGE) {
        let run = Machine::new().boot_file(Arch::X86_64, Path::new(&image), &endless_bundle());
        let _ = run.end();
        return;
    }
    let out = folder("make-test");
    let image = copy_of_image(&out);
    let cargo = out.join("cargo");
    let script = format!(
        "#!/bin/sh\ncase $* in\n*-p\\ system-tests)\n    \
         exec {} \"$@\" --test orphans -- --exact qemu_dies_with_make_test\nesac\n",
        env!("CARGO")
    );
    fs::write(&cargo, script).expect("target/ can be written");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut make = make();
    make.args(["test", "MAKE=true"])
        .arg(format!("TOOLCHAIN=CARGO={}", cargo.display()))
        .env(ENDLESS_IMAGE, &image);
    dies_with(&mut make, || qemu_runs(&image));
}

#[test]
fn bochs_dies_with_its_parent_and_leaves_nothing() {
    let found = OnceCell::new();
    let ours = |folder: &PathBuf| {
        let config = fs::read_to_string(folder.join("bochsrc")).unwrap_or_default();
        config.contains("guest=333,")
    };
    dies_with(&mut shell("scripts/bochs.sh"), || {
        let entries = fs::read_dir(repository("target")).expect("target/ is there");
        if let Some(folder) = entries.flatten().map(|entry| entry.path()).find(ours) {
            let _ = found.set(folder);
        }
        found.get().is_some_and(|folder| {
            let path = folder.to_str().expect("a path");
            folder.exists() || runs("bochs-bin", &[path])
        })
    });
}
