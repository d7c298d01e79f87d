//! What a guest that owns its pCPU pays for having a hypervisor: the exits of a heartbeat in steady state, by its own account.

use system_tests::{Arch, Bundle, Machine};

/// Beats of 10 ms each: a second of guest time.
const BEATS: u64 = 100;

/// The exits that were taken in the heartbeat's steady second, by kind. Beside it another VM starts, prints and ends, and housekeeping hears keys.
fn exits(arch: Arch, machine: Machine) -> Vec<(String, u64)> {
    let options = format!("[kernel]\ncmdline = \"steady={BEATS} beats=1\"");
    let bundle = Bundle::new(arch)
        .shipped_vm("heartbeat", &[("[kernel]", &options)])
        .shipped_vm("hello", &[("phys_cpu_ids = [1]", "phys_cpu_ids = [2]")])
        .guest("heartbeat.bin")
        .guest("hello.bin");
    let mut run = machine.harts(3).counted().boot(&bundle);
    run.expect("a beat every");
    run.send("abc");
    run.expect(&format!("{BEATS} steady beats, exits: "));
    let said = run.rest_of_line();
    let ended = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.output);
    let items = said.split(", ").filter(|&item| item != "none");
    items
        .map(|item| {
            let (kind, count) = item.split_once(' ').expect("a kind and a count");
            (kind.to_owned(), count.parse().expect("a count"))
        })
        .collect()
}

/// With Sstc the timer and its interrupt are the guest's own, `wfi` is not trapped, and the host does not tick where one vCPU owns the pCPU.
#[test]
fn riscv64_takes_no_exit_at_all() {
    assert_eq!(exits(Arch::Riscv64, Machine::new()), []);
}

/// Without Sstc a beat is one call that sets the timer, and one interrupt of the host's, by which the guest gets its own.
#[test]
fn riscv64_without_sstc_takes_two_exits_a_beat() {
    let machine = Machine::new().cpu("rv64,h=true,sstc=false");
    let forced = [("sbi-time", 1), ("host-timer", 1)];
    assert_eq!(exits(Arch::Riscv64, machine), each_beat(&forced));
}

/// Each beat, what this hardware forces, which has no virtual local APIC: the guest asks twice in which mode its APIC is (IA32_APIC_BASE), writes two of
/// its registers by memory (the timer's entry in the local vector table, end of interrupt) and the deadline by MSR; and the timer itself
/// is the host's, whose interrupt takes the guest out. The `hlt` in between does not exit, and there is no tick.
#[test]
fn x86_64_takes_no_exit_without_need() {
    let forced = [
        ("msr-read", 2),
        ("msr-write", 1),
        ("mmio-write", 2),
        ("host-interrupt", 1),
    ];
    assert_eq!(exits(Arch::X86_64, Machine::new()), each_beat(&forced));
}

fn each_beat(forced: &[(&str, u64)]) -> Vec<(String, u64)> {
    let of_all = |&(kind, count): &(&str, u64)| (kind.to_owned(), count * BEATS);
    forced.iter().map(of_all).collect()
}
