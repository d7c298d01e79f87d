//! The bare guests: what they say from inside.

use system_tests::{Arch::Riscv64, Bundle, Ended, Machine};

fn hello() -> Bundle {
    Bundle::new(Riscv64)
        .shipped_vm("hello", &[])
        .guest("hello.bin")
}

#[test]
fn hello_says_hello_and_the_machine_ends_well() {
    let ended = Machine::new().boot(&hello()).end();
    assert!(
        ended.output.contains("hello from AxHV guest, hart 0"),
        "{}",
        ended.output
    );
    assert!(
        ended.output.contains("VM \"hello\" powered off"),
        "{}",
        ended.output
    );
    ended.all_well();
}

/// One image serves 1 to 8 harts and RAM from 128 MiB on. A single hart is shared between the host and the VMs.
#[test]
fn one_image_serves_machines_of_any_size() {
    for (harts, ram) in [(1, "128M"), (2, "300M"), (3, "3G"), (8, "6G")] {
        let pcpu = if harts == 1 { "[0]" } else { "[1]" };
        let bundle = Bundle::new(Riscv64)
            .shipped_vm(
                "hello",
                &[("phys_cpu_ids = [1]", &format!("phys_cpu_ids = {pcpu}"))],
            )
            .guest("hello.bin");
        let ended = Machine::new().harts(harts).ram(ram).boot(&bundle).end();
        assert!(
            ended.output.contains("hello from AxHV guest"),
            "{harts} harts, {ram}: {}",
            ended.output
        );
        ended.all_well();
    }
}

/// What the selftest checks of vectors, which QEMU's hart has not unless told so.
const VECTORS: [&str; 3] = ["vector.becomes_dirty", "vector.kept", "vector.off"];

/// What the selftest checks of a hart with Sstc, and of one without.
const SSTC: [&str; 4] = [
    "timer.sstc",
    "timer.sstc_cleared",
    "timer.sstc_past",
    "timer.sstc_reads_back",
];
const NO_SSTC: [&str; 1] = ["timer.sstc_absent"];

/// Every check of the selftest, on two vCPUs, but those of what is `absent`.
fn selftest(machine: &Machine, absent: &[&str]) -> Ended {
    let bundle = Bundle::new(Riscv64)
        .shipped_vm("selftest", &[])
        .guest("selftest.bin");
    let ended = machine.boot(&bundle).end();
    ended.selftest_passed(absent);
    ended
}

#[test]
fn selftest_passes() {
    let ended = selftest(&Machine::new(), &[&VECTORS[..], &NO_SSTC].concat());
    ended.says(&["[axhv] AxHV ", "Sv48x4"]);
}

#[test]
fn selftest_passes_with_vectors() {
    selftest(&Machine::new().cpu("rv64,h=true,v=true,vlen=256"), &NO_SSTC);
}

#[test]
fn selftest_passes_with_three_levels_of_nested_tables() {
    let machine = Machine::new().cpu("rv64,h=true,sv48=off");
    let ended = selftest(&machine, &[&VECTORS[..], &NO_SSTC].concat());
    ended.says(&["[axhv] AxHV ", "Sv39x4"]);
}

#[test]
fn selftest_passes_without_sstc() {
    selftest(
        &Machine::new().cpu("rv64,h=true,sstc=false"),
        &[&VECTORS[..], &SSTC].concat(),
    );
}

/// Both VMs on the one hart that there is: they take turns, and each timer is met.
#[test]
fn vms_share_a_single_hart() {
    let bundle = Bundle::new(Riscv64)
        .shipped_vm("hello", &[("phys_cpu_ids = [1]", "phys_cpu_ids = [0]")])
        .shipped_vm(
            "heartbeat",
            &[
                ("phys_cpu_ids = [1]", "phys_cpu_ids = [0]"),
                ("[kernel]", "[kernel]\ncmdline = \"beats=50\""),
            ],
        )
        .guest("hello.bin")
        .guest("heartbeat.bin");
    let ended = Machine::new().harts(1).boot(&bundle).end();
    assert!(
        ended.output.contains("hello from AxHV guest"),
        "{}",
        ended.output
    );
    assert!(ended.output.contains("done, 50 beats"), "{}", ended.output);
    ended.all_well();
}

/// The worst lateness in nanoseconds that a heartbeat of 200 beats reports, under exact counting.
fn worst_lateness(cpu: &str) -> u64 {
    let bundle = Bundle::new(Riscv64)
        .shipped_vm(
            "heartbeat",
            &[(
                "[kernel]",
                "[kernel]\ncmdline = \"beats=200 period_us=1000\"",
            )],
        )
        .guest("heartbeat.bin");
    let ended = Machine::new()
        .harts(2)
        .cpu(cpu)
        .counted()
        .boot(&bundle)
        .end();
    ended.all_well();
    let (_, lateness) = ended.output.split_once("worst lateness ").expect("a tally");
    let digits: String = lateness.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number of nanoseconds")
}

/// On a pCPU of its own, with the timer in the guest's hands, the hypervisor adds nothing.
#[test]
fn a_dedicated_heartbeat_is_on_time() {
    let worst = worst_lateness("rv64,h=true");
    assert!(worst < 5_000, "{worst} ns");
}

/// Without Sstc the hypervisor delivers the timer: late by its own work only.
#[test]
fn an_emulated_timer_is_on_time() {
    let worst = worst_lateness("rv64,h=true,sstc=false");
    assert!(worst < 50_000, "{worst} ns");
}
