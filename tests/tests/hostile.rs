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

/// How late a heartbeat was at worst, in microseconds, when it had beaten for half a second beside `hostile`.
fn lateness_beside(arch: Arch, hostile: &str, placement: &str) -> u64 {
    let options = "[kernel]\ncmdline = \"beats=50\"";
    let bundle = Bundle::new(arch)
        .vm("hostile", hostile)
        .guest("hostile.bin")
        .shipped_vm(
            "heartbeat",
            &[("phys_cpu_ids = [1]", placement), ("[kernel]", options)],
        )
        .guest("heartbeat.bin");
    let mut run = Machine::new()
        .patience(Duration::from_secs(100))
        .harts(2)
        .counted()
        .boot(&bundle);
    run.expect("done, 50 beats, worst lateness ");
    let lateness = run.expect(" ns").parse::<u64>().expect("a number");
    lateness / 1000
}

/// A guest that resets its machine as soon as it starts keeps those that share its pCPU waiting for no more than a few turns, and no VM from being started.
#[test]
fn one_that_resets_for_ever_lets_others_run() {
    for arch in BOTH {
        for pcpu in [0, 1] {
            let sharing = format!("phys_cpu_sets = [{:#b}]", 1 << pcpu);
            let late = lateness_beside(arch, &hostile(arch, &sharing, "reset"), &sharing);
            println!("{}, pCPU {pcpu}: {late} us", arch.name());
            assert!(late < 5_000, "{late} us");
        }
    }
}
