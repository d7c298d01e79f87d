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
    let expected = [("sbi-time", BEATS), ("host-timer", BEATS)];
    assert_eq!(
        exits(Arch::Riscv64, machine),
        expected.map(|(kind, count)| (kind.to_owned(), count))
    );
}

/// Per beat, no more than the hardware forces.
#[test]
fn x86_64_takes_no_exit_without_need() {
    assert_eq!(exits(Arch::X86_64, Machine::new()), []);
}
