//! Guests that mean harm, beside one that must not feel it.

use std::time::Duration;

use system_tests::{
    Arch::{self, Riscv64, X86_64},
    Bundle, Machine,
};

const BOTH: [Arch; 2] = [Riscv64, X86_64];

/// A VM, `place` says where, whose guest attacks as `attack` says.
fn hostile(arch: Arch, place: &str, attack: &str) -> String {
    hostile_with(arch, place, attack, "")
}

/// The same with more RAM, `memory`.
fn hostile_with(arch: Arch, place: &str, attack: &str, memory: &str) -> String {
    format!(
        "[base]\nid = 1\nname = \"hostile\"\n{place}\n\n[kernel]\nkernel_path = \"guests/{}/hostile.bin\"\n\
         cmdline = \"attack={attack}\"\nmemory_regions = [[\"8MiB\"]{memory}]\n",
        arch.name()
    )
}

/// One that writes faster than the console shows neither hides another's end, nor keeps the keyboard from being heard.
#[test]
fn a_flooded_console_hides_nobodys_end() {
    for arch in BOTH {
        let bundle = Bundle::new(arch)
            .vm("hostile", &hostile(arch, "phys_cpu_ids = [1]", "flood"))
            .guest("hostile.bin")
            .shipped_vm(
                "heartbeat",
                &[
                    ("[1]", "[2]"),
                    ("[kernel]", "[kernel]\ncmdline = \"beats=2\""),
                ],
            )
            .guest("heartbeat.bin");
        let mut run = Machine::new()
            .patience(Duration::from_secs(100))
            .harts(3)
            .counted()
            .boot(&bundle);
        run.expect("VM \"heartbeat\" powered off");
    }
}
