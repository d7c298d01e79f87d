//! x86_64 guests, on the SVM that QEMU emulates.

use std::collections::BTreeMap;

use system_tests::{Arch::X86_64, Bundle, Ended, Machine};

/// What the selftest cannot check on the CPU that QEMU emulates.
const NOT_IN_QEMU: [&str; 2] = ["hypercall.vmx_pointers", "vector.avx512_kept"];

/// What the selftest checks between two vCPUs.
const NEEDS_TWO_VCPUS: [&str; 16] = [
    "smp.code_changes",
    "smp.from_ioapic",
    "smp.logical",
    "smp.lowest_priority",
    "smp.nmi_asleep",
    "smp.nmi_busy",
    "smp.own_registers",
    "smp.ping_pong",
    "smp.sleeps_through_nmi",
    "smp.start",
    "smp.start_running",
    "smp.stop_and_start",
    "smp.time",
    "smp.to_all",
    "smp.to_others",
    "smp.waits_for_startup",
];

#[test]
fn hello_says_hello_on_machines_of_any_size() {
    for (cpus, ram) in [(1, "128M"), (4, "1G"), (8, "3G")] {
        let pcpu = if cpus == 1 { "[0]" } else { "[1]" };
        let bundle = Bundle::new(X86_64)
            .shipped_vm(
                "hello",
                &[("phys_cpu_ids = [1]", &format!("phys_cpu_ids = {pcpu}"))],
            )
            .guest("hello.bin");
        let ended = Machine::new().harts(cpus).ram(ram).boot(&bundle).end();
        assert!(
            ended.output.contains("hello from AxHV guest"),
            "{cpus}: {}",
            ended.output
        );
        assert!(
            ended.output.contains("VM \"hello\" powered off"),
            "{cpus}: {}",
            ended.output
        );
        ended.all_well();
    }
}

#[test]
fn the_heartbeat_beats() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm(
            "heartbeat",
            &[("[kernel]", "[kernel]\ncmdline = \"beats=100\"")],
        )
        .guest("heartbeat.bin");
    let ended = Machine::new().boot(&bundle).end();
    assert!(ended.output.contains("done, 100 beats"), "{}", ended.output);
    ended.all_well();
}

/// How often vCPU 0 left its guest, by reason.
fn exits_of(ended: &Ended) -> BTreeMap<String, u64> {
    let line = ended.output.lines().find_map(|line| {
        let (_, kinds) = line.split_once("vCPU 0 exits: ")?;
        Some(kinds.trim())
    });
    let kinds = line.unwrap_or("").split(", ");
    kinds
        .filter_map(|kind| {
            let (name, count) = kind.rsplit_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        })
        .collect()
}

/// On a pCPU of its own, in steady state, a guest is left for what it does, and for nothing of the host's: no tick, no window, no wake-up. A beat
/// writes the deadline (no processor here has that for guests), is interrupted by the machine's timer, and ends the interrupt; the guest's own
/// driver reads IA32_APIC_BASE and sets the timer's entry anew each time.
#[test]
fn a_beat_exits_no_more_than_the_guest_asks_for() {
    let exits = |beats: u64| {
        let options = format!("[kernel]\ncmdline = \"beats={beats} report=1000000\"");
        let bundle = Bundle::new(X86_64)
            .shipped_vm("heartbeat", &[("[kernel]", &options)])
            .guest("heartbeat.bin");
        let ended = Machine::new().harts(2).counted().boot(&bundle).end();
        ended.all_well();
        exits_of(&ended)
    };
    // A second of beats, and what there is beside them.
    let (few, many) = (exits(100), exits(1100));
    let per_1000: BTreeMap<&str, u64> = many
        .iter()
        .map(|(kind, count)| (kind.as_str(), count - few.get(kind).unwrap_or(&0)))
        .filter(|(_, count)| *count >= 10)
        .collect();
    let expected = [
        ("host-interrupt", 1000),
        ("mmio-write", 2000),
        ("msr-read", 2000),
        ("msr-write", 1000),
    ];
    assert_eq!(per_1000, BTreeMap::from(expected), "{few:?} {many:?}");
}

#[test]
fn selftest_passes_on_two_vcpus() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("selftest", &[])
        .guest("selftest.bin");
    let ended = Machine::new().boot(&bundle).end();
    ended.selftest_passed(&NOT_IN_QEMU);
}

#[test]
fn selftest_passes_on_one_vcpu() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm(
            "selftest",
            &[("cpu_num = 2\nphys_cpu_ids = [1, 2]", "phys_cpu_ids = [1]")],
        )
        .guest("selftest.bin");
    let skipped = [&NOT_IN_QEMU[..], &NEEDS_TWO_VCPUS].concat();
    Machine::new().boot(&bundle).end().selftest_passed(&skipped);
}

#[test]
fn local_apics_of_either_kind() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("hello", &[])
        .guest("hello.bin");
    let old = Machine::new().cpu("EPYC,+svm,+npt,-x2apic");
    // pCPU 1 is the first core of the second socket: its APIC id is 256.
    let large = Machine::new()
        .cpu("EPYC,+svm,+npt,+x2apic")
        .topology("1,maxcpus=512,sockets=2,cores=256,threads=1")
        .device("EPYC-x86_64-cpu,socket-id=1,core-id=0,thread-id=0");
    for machine in [old, large] {
        let ended = machine.boot(&bundle).end();
        ended.says(&["VM \"hello\" starts: 1 vCPU on pCPU 1"]);
        ended.says(&["hello from AxHV guest"]);
        ended.all_well();
    }
}
