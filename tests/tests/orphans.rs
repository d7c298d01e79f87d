//! Emulators and what they need end with whoever started them, even if that was killed.

use std::{
    cell::OnceCell,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use system_tests::{Arch, repository};

/// Starts a script in a shell, kills that shell when `is_there` says that the emulator runs, and waits until it does not run any more.
fn dies_with_its_parent(script: &str, is_there: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let wait_until = |what: &str, reached: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "{script}: {what}");
            sleep(Duration::from_millis(50));
        }
    };
    let arch = Arch::X86_64;
    let image = arch.image_path();
    // Not `exec`: the shell stays the script's parent.
    let line = format!(
        "{} x86_64 {} {} </dev/null >/dev/null 2>&1; true",
        repository(script).display(),
        image.display(),
        // Any file: what it is worth is told when the machine has long been running.
        arch.guest_path("hello.bin").display(),
    );
    let mut shell = Command::new("sh")
        .args(["-c", &line])
        .env("SMP", "1")
        .env("MEM", MEMORY)
        .spawn()
        .expect("there is a shell");
    wait_until("the emulator does not start", &is_there);
    shell.kill().expect("it has not ended");
    shell.wait().expect("it was started");
    wait_until("the emulator runs on", &|| !is_there());
}

/// An amount that no other test asks for, by which a process is known.
const MEMORY: &str = "333M";

/// Whether a process runs in whose command line all of `words` are.
fn runs(words: &[&str]) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc is mounted");
    processes.flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        words.iter().all(|word| line.contains(word))
    })
}

#[test]
fn qemu_dies_with_its_parent() {
    let image = Arch::X86_64.image_path();
    let words = [
        "qemu-system-x86_64",
        MEMORY,
        image.to_str().expect("a path"),
    ];
    dies_with_its_parent("scripts/qemu.sh", || runs(&words));
}

#[test]
fn bochs_dies_with_its_parent_and_leaves_nothing() {
    let found = OnceCell::new();
    let ours = |folder: &PathBuf| {
        let config = std::fs::read_to_string(folder.join("bochsrc")).unwrap_or_default();
        config.contains("guest=333,")
    };
    dies_with_its_parent("scripts/bochs.sh", || {
        let entries = std::fs::read_dir(repository("target")).expect("target/ is there");
        if let Some(folder) = entries.flatten().map(|entry| entry.path()).find(ours) {
            let _ = found.set(folder);
        }
        found.get().is_some_and(|folder| {
            let path = folder.to_str().expect("a path");
            folder.exists() || runs(&["bochs-bin", path])
        })
    });
}
