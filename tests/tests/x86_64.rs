//! x86_64 guests, on the SVM that QEMU emulates.

use system_tests::{Arch::X86_64, Bundle, Machine};

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
