//! x86_64 guests, on the VMX that Bochs emulates: the same image and the same guests as on QEMU's SVM.

use system_tests::{Arch::X86_64, Bundle, Emulator::Bochs, Ended, Machine};

fn all_well(ended: &Ended) {
    assert_eq!(ended.status, Some(0), "{}", ended.output);
    assert!(!ended.output.contains("panic"), "{}", ended.output);
}

#[test]
fn selftest_passes() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("selftest", &[])
        .guest("selftest.bin");
    let ended = Machine::emulated_by(Bochs).boot(&bundle).end();
    let verdict = ended.output.rsplit_once("selftest: ");
    let verdict = verdict
        .and_then(|(_, rest)| rest.lines().next())
        .map(str::trim);
    let passed = verdict.and_then(|verdict| verdict.strip_suffix(" passed, 0 failed"));
    let count = passed
        .and_then(|count| count.parse::<u32>().ok())
        .unwrap_or(0);
    assert!(count > 150, "{verdict:?}:\n{}", ended.output);
    all_well(&ended);
}

/// A vCPU that owns its pCPU halts by itself where the processor leaves a halted guest for a timer, and by the hypervisor where the
/// command line says so.
#[test]
fn the_heartbeat_beats() {
    for (bootargs, halts) in [("", false), ("hlt=exit", true)] {
        let bundle = Bundle::new(X86_64)
            .shipped_vm(
                "heartbeat",
                &[("[kernel]", "[kernel]\ncmdline = \"beats=100\"")],
            )
            .guest("heartbeat.bin");
        let ended = Machine::emulated_by(Bochs)
            .harts(2)
            .bootargs(bootargs)
            .boot(&bundle)
            .end();
        assert!(ended.output.contains("done, 100 beats"), "{}", ended.output);
        assert_eq!(ended.output.contains("hlt 100"), halts, "{}", ended.output);
        all_well(&ended);
    }
}

/// The main job, from the shipped configs but for an end to the heartbeat: Debian's cloud kernel, untouched, on two vCPUs with I/O and local
/// APICs, beside the heartbeat; a shell that answers the keyboard.
#[test]
fn linux_and_an_rtos_side_by_side() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("linux", &[])
        .shipped_vm(
            "heartbeat",
            &[("[kernel]", "[kernel]\ncmdline = \"beats=300\"")],
        )
        .guest("bzImage")
        .guest("initramfs.cpio.gz")
        .guest("heartbeat.bin");
    let mut run = Machine::emulated_by(Bochs).boot(&bundle);
    run.expect("[heartbeat] heartbeat: ");
    run.expect("AxHV guest: Linux ");
    assert!(run.rest_of_line().contains("2 CPUs online"));
    run.expect("# ");
    run.send("echo answer-$((6 * 7))-$(nproc); grep -c 'IO-APIC.*ttyS0' /proc/interrupts\n");
    run.expect("answer-42-2");
    run.expect("\n1");
    run.send("poweroff\n");
    let ended = run.end();
    for line in ["VM \"linux\" powered off", "done, 300 beats"] {
        assert!(ended.output.contains(line), "{}", ended.output);
    }
    for trouble in ["Oops", "Call Trace"] {
        assert!(!ended.output.contains(trouble), "{}", ended.output);
    }
    all_well(&ended);
}

#[test]
fn a_cpu_without_vmx() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("hello", &[])
        .guest("hello.bin");
    let ended = Machine::emulated_by(Bochs)
        .harts(2)
        .cpu("p4_prescott_celeron_336")
        .boot(&bundle)
        .end();
    assert!(ended.output.contains("[axhv] error: "), "{}", ended.output);
    assert!(ended.output.contains("VMX"), "{}", ended.output);
    assert_eq!(ended.status, Some(1), "{}", ended.output);
}
