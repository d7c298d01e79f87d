//! x86_64 guests, on the SVM that QEMU emulates.

use system_tests::{Arch::X86_64, Bundle, Machine};

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
    ended.selftest_passed(170);
    assert!(!ended.output.contains("there is one CPU only"));
}

#[test]
fn selftest_passes_on_one_vcpu() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm(
            "selftest",
            &[("cpu_num = 2\nphys_cpu_ids = [1, 2]", "phys_cpu_ids = [1]")],
        )
        .guest("selftest.bin");
    Machine::new().boot(&bundle).end().selftest_passed(150);
}

/// The main job: Debian's cloud kernel, untouched, on two vCPUs with I/O and local APICs, beside the heartbeat; a shell that answers the
/// keyboard; `poweroff` ends its own VM only.
#[test]
fn linux_and_an_rtos_side_by_side() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("linux", &[])
        .shipped_vm("heartbeat", &[])
        .guest("bzImage")
        .guest("initramfs.cpio.gz")
        .guest("heartbeat.bin");
    let mut run = Machine::new().boot(&bundle);
    run.expect("AxHV guest: Linux ");
    assert!(run.rest_of_line().contains("2 CPUs online"));
    run.expect("# ");
    run.send("echo answer-$((6 * 7))-$(nproc); grep -c 'IO-APIC.*ttyS0' /proc/interrupts\n");
    run.expect("answer-42-2");
    run.expect("\n1");
    run.expect("[heartbeat] heartbeat: ");
    run.send("poweroff\n");
    run.expect("VM \"linux\" powered off");
    for _ in 0..2 {
        run.expect("heartbeat: ");
        run.expect(" beats");
    }
    assert!(
        !run.output().contains("Oops") && !run.output().contains("Call Trace"),
        "{}",
        run.output()
    );
}

/// The machine's clock is read once, and each guest's own goes on from there: leap year, century and all.
#[test]
fn linux_knows_what_day_it_is() {
    /// 2052-02-29 12:00:00.
    const START: u64 = 2_592_820_800;
    /// Generous: the machine that runs this may be busy.
    const UNTIL: u64 = START + 600;
    let bundle = Bundle::new(X86_64)
        .shipped_vm("linux", &[])
        .guest("bzImage")
        .guest("initramfs.cpio.gz");
    let mut run = Machine::new().date("2052-02-29T12:00:00").boot(&bundle);
    run.expect("# ");
    run.send("echo now $(date +%s)\n");
    run.expect("\nnow ");
    let now = run.rest_of_line().parse().expect("a number of seconds");
    assert!((START..UNTIL).contains(&now), "{now}");
    run.send("poweroff\n");
    run.end().all_well();
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
