//! The peer that `make bench PEER=kvm` measures: KVM of Debian's kernel runs the same guests from the same bundles.

use system_tests::{Arch, Arch::Riscv64, Arch::X86_64, Bundle, Machine};

fn hello(arch: Arch) -> Bundle {
    Bundle::new(arch)
        .shipped_vm("hello", &[])
        .guest("hello.bin")
}

#[test]
fn kvm_runs_a_guest_on_either_architecture() {
    for (arch, name) in [(Riscv64, "hart 0"), (X86_64, "CPU 0")] {
        let ended = Machine::new()
            .harts(2)
            .counted()
            .boot_peer(&hello(arch))
            .end();
        let said = format!("hello from AxHV guest, {name}");
        assert!(ended.output.contains(&said), "{}", ended.output);
        assert_eq!(ended.status, Some(0), "{}", ended.output);
    }
}

/// Two vCPUs, each on a CPU of its own, that start and interrupt each other.
#[test]
fn kvm_runs_several_vcpus() {
    let replace = [
        ("phys_cpu_ids = [1]", "cpu_num = 2\nphys_cpu_ids = [1, 2]"),
        ("cmdline = \"", "cmdline = \"only=ipi-round-trip "),
    ];
    let bundle = Bundle::new(Riscv64)
        .shipped_vm("bench", &replace)
        .guest("bench.bin");
    let ended = Machine::new().harts(3).counted().boot_peer(&bundle).end();
    let measured = ended.output.contains("bench: ipi-round-trip ");
    assert!(
        measured && !ended.output.contains("absent"),
        "{}",
        ended.output
    );
    assert_eq!(ended.status, Some(0), "{}", ended.output);
}

/// A bundle that is none does not hang the machine, and says so.
#[test]
fn kvm_refuses_a_bundle_without_a_vm() {
    let ended = Machine::new()
        .harts(2)
        .counted()
        .boot_peer(&Bundle::new(Riscv64))
        .end();
    assert!(
        ended.output.contains("kvmrun: error: KVM runs one VM"),
        "{}",
        ended.output
    );
    assert_eq!(ended.status, Some(1), "{}", ended.output);
}
