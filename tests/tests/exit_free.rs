//! What a guest that owns its pCPU pays for having a hypervisor: the exits of a heartbeat in steady state, by its own account. Each kind that it may
//! take is named, with how many of them a beat takes and why the hardware leaves no other way; one more, or of another kind, is a failure.

use system_tests::{
    Arch, Bundle, Emulator, Machine,
    steady::{self, BEATS},
};

/// Exits that cannot be spared.
struct Forced {
    kind: &'static str,
    each_beat: u64,
    why: &'static str,
}

const fn forced(kind: &'static str, each_beat: u64, why: &'static str) -> Forced {
    Forced {
        kind,
        each_beat,
        why,
    }
}

/// The guest asks in which mode its APIC is before each of two accesses. The processor's own IA32_APIC_BASE is the host's.
const APIC_MODE: Forced = forced("msr-read", 2, "IA32_APIC_BASE is not virtualized");

/// The processor's own IA32_TSC_DEADLINE is the host's.
const DEADLINE: Forced = forced("msr-write", 1, "the guest's deadline is emulated");

/// The timer's entry in the local vector table, and the end of the interrupt.
const TWO_REGISTERS: Forced = forced("mmio-write", 2, "the local APIC's page is emulated");

/// VMX counts down to the deadline by itself.
const PREEMPTION_TIMER: Forced = forced("deadline", 1, "the guest's timer is due");

/// The exits that were taken in the heartbeat's steady second, by kind. Beside it another VM starts, prints and ends, and housekeeping hears keys.
fn exits(arch: Arch, machine: Machine, options: &str) -> Vec<(String, u64)> {
    let options = format!("[kernel]\ncmdline = \"{} {options}\"", steady::options());
    let bundle = Bundle::new(arch)
        .shipped_vm("heartbeat", &[("[kernel]", &options)])
        .shipped_vm("hello", &[("phys_cpu_ids = [1]", "phys_cpu_ids = [2]")])
        .guest("heartbeat.bin")
        .guest("hello.bin");
    let mut run = machine.harts(3).boot(&bundle);
    run.expect("a beat every");
    run.send("abc");
    let exits = run.steady_exits();
    run.end().all_well();
    exits
}

/// A steady heartbeat on this machine takes the exits that are forced, and no others.
fn takes_only(forced: &[Forced], arch: Arch, machine: Machine, options: &str) {
    let taken = exits(arch, machine, options);
    for (kind, count) in &taken {
        let Some(allowed) = forced.iter().find(|forced| forced.kind == kind) else {
            panic!("nothing forces {kind}: {taken:?}");
        };
        let (most, why) = (allowed.each_beat * BEATS, allowed.why);
        assert!(*count <= most, "{kind}: {count}, not {most} ({why})");
    }
    for Forced { kind, .. } in forced {
        let needed = taken.iter().any(|(taken, _)| taken == kind);
        assert!(needed, "{kind} is not forced any more: {taken:?}");
    }
}

/// With Sstc the timer and its interrupt are the guest's own, `wfi` is not trapped, and the host does not tick where one vCPU owns the pCPU.
#[test]
fn riscv64_takes_no_exit_at_all() {
    let machine = Machine::new().counted();
    assert_eq!(exits(Arch::Riscv64, machine, ""), []);
}

#[test]
fn riscv64_without_sstc_takes_two_exits_a_beat() {
    let forced = [
        forced("sbi-time", 1, "the guest has no timer but the SBI's"),
        forced("host-timer", 1, "the guest's timer is the host's"),
    ];
    let machine = Machine::new().cpu("rv64,h=true,sstc=false").counted();
    takes_only(&forced, Arch::Riscv64, machine, "");
}

/// On SVM, where nothing of the local APIC is virtualized. The `hlt` between two beats does not exit, and there is no tick.
#[test]
fn svm_takes_no_exit_without_need() {
    let forced = [
        APIC_MODE,
        TWO_REGISTERS,
        DEADLINE,
        forced("host-interrupt", 1, "the guest's timer is the host's"),
    ];
    takes_only(&forced, Arch::X86_64, Machine::new().counted(), "");
}

/// On VMX, where the processor may keep so much of the local APIC (`apicv=`), and where nothing but its timer ends the guest's turn.
fn vmx_takes_only(forced: &[Forced], apicv: &str, options: &str) {
    let machine = Machine::emulated_by(Emulator::Bochs).bootargs(&format!("apicv={apicv}"));
    takes_only(forced, Arch::X86_64, machine, options);
}

#[test]
fn vmx_without_a_virtual_apic_takes_no_exit_without_need() {
    let forced = [APIC_MODE, TWO_REGISTERS, DEADLINE, PREEMPTION_TIMER];
    for apicv in ["off", "tpr"] {
        vmx_takes_only(&forced, apicv, "");
    }
}

#[test]
fn vmx_with_the_registers_kept_takes_no_exit_without_need() {
    let why = "the processor stores the registers, and leaves what follows to us";
    let forced = [
        APIC_MODE,
        forced("apic-write", 2, why),
        DEADLINE,
        PREEMPTION_TIMER,
    ];
    vmx_takes_only(&forced, "registers", "");
}

/// The processor ends the interrupt by itself. Awake, because Bochs delivers no virtual interrupt to a CPU in HLT.
#[test]
fn vmx_with_all_of_the_apic_takes_no_exit_without_need() {
    let why = "the processor stores the timer's entry, and knows no timer";
    let forced = [
        APIC_MODE,
        forced("apic-write", 1, why),
        DEADLINE,
        PREEMPTION_TIMER,
    ];
    vmx_takes_only(&forced, "on", "awake");
}
