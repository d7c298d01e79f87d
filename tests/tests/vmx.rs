//! x86_64 guests, on the VMX that Bochs emulates: the same image and the same guests as on QEMU's SVM.

use system_tests::{Arch::X86_64, Bundle, Emulator::Bochs, Machine};

fn machine() -> Machine {
    Machine::emulated_by(Bochs)
}

#[test]
fn selftest_passes() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("selftest", &[])
        .guest("selftest.bin");
    let ended = machine().harts(3).boot(&bundle).end();
    ended.selftest_passed(&["vector.avx512_kept"]);
}

/// With less of the local APIC, or nothing, kept by the processor. The selftest in full is for what is usual in Bochs.
#[test]
fn selftest_passes_with_less_of_the_apic() {
    for (limit, only) in [
        ("off", "lapic."),
        ("off", "x2apic."),
        ("tpr", "lapic."),
        ("tpr", "interrupts."),
    ] {
        apic_checks_pass(limit, only);
    }
}

/// With all of it, as far as Bochs goes: not where a guest halts, or the host is interrupted while an interrupt of the guest's waits.
#[test]
fn selftest_passes_with_all_of_the_apic() {
    for only in [
        "lapic.",
        "ioapic.",
        "x2apic.modes",
        "x2apic.identity",
        "x2apic.priorities",
        "x2apic.self",
        "x2apic.by_destination",
        "x2apic.absent",
    ] {
        apic_checks_pass("on", only);
    }
}

/// The checks whose names begin so pass where the processor may keep so much of the local APIC.
fn apic_checks_pass(limit: &str, only: &str) {
    let cmdline = format!("[kernel]\ncmdline = \"only={only}\"");
    let bundle = Bundle::new(X86_64)
        .shipped_vm("selftest", &[("[kernel]", cmdline.as_str())])
        .guest("selftest.bin");
    let bootargs = format!("longest_turn_us=10000 apicv={limit}");
    let ended = machine().harts(3).bootargs(&bootargs).boot(&bundle).end();
    ended.selftest_passed(&[]);
}

/// Also where nothing but its own timer ends the guest's turn.
#[test]
fn the_heartbeat_beats() {
    for bootargs in ["apicv=registers", "longest_turn_us=10000 apicv=registers"] {
        let bundle = Bundle::new(X86_64)
            .shipped_vm(
                "heartbeat",
                &[("[kernel]", "[kernel]\ncmdline = \"beats=100\"")],
            )
            .guest("heartbeat.bin");
        let ended = machine().harts(2).bootargs(bootargs).boot(&bundle).end();
        ended.says(&["done, 100 beats"]);
        ended.all_well();
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
    let mut run = machine().boot(&bundle);
    run.expect("[heartbeat] heartbeat: ");
    run.expect("AxHV guest: Linux ");
    // Not of the same line: another VM's may come in between, and this one is shown again below it.
    run.expect("2 CPUs online");
    run.expect("# ");
    run.send("echo answer-$((6 * 7))-$(nproc)-$(grep -c 'IO-APIC.*ttyS0' /proc/interrupts)\n");
    run.expect("answer-42-2-1\r\n");
    run.send("poweroff\n");
    let ended = run.end();
    ended.says(&["VM \"linux\" powered off"]);
    ended.says(&["done, 300 beats"]);
    for trouble in ["Oops", "Call Trace"] {
        assert!(!ended.output.contains(trouble), "{}", ended.output);
    }
    ended.all_well();
}

#[test]
fn a_cpu_without_vmx() {
    let bundle = Bundle::new(X86_64)
        .shipped_vm("hello", &[])
        .guest("hello.bin");
    let ended = machine()
        .harts(2)
        .cpu("p4_prescott_celeron_336")
        .boot(&bundle)
        .end();
    ended.says(&["[axhv] error: ", "VMX"]);
    ended.failed();
}
