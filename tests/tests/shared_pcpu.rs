//! vCPUs that share a pCPU which is not the hypervisor's own: each makes progress, whatever the others do.

use std::collections::BTreeSet;

use system_tests::{
    Arch::{self, Riscv64, X86_64},
    Bundle, Ended, Machine,
};

/// A VM that shares pCPU 1.
#[derive(Clone, Copy)]
struct Vm {
    name: &'static str,
    guest: &'static str,
    options: &'static str,
}

const HEARTBEAT: Vm = Vm {
    name: "heartbeat",
    guest: "heartbeat",
    options: "beats=50",
};

/// What is said of these VMs, started in this order.
fn run(arch: Arch, vms: &[Vm]) -> Ended {
    run_on(&Machine::new().harts(2).counted_slowly(), arch, vms)
}

fn run_on(machine: &Machine, arch: Arch, vms: &[Vm]) -> Ended {
    let mut bundle = Bundle::new(arch);
    for (id, vm) in vms.iter().enumerate() {
        let (name, guest) = (vm.name, format!("{}.bin", vm.guest));
        let config = format!(
            "[base]\nid = {id}\nname = \"{name}\"\nphys_cpu_sets = [0b10]\n\n\
             [kernel]\nkernel_path = \"guests/{}/{guest}\"\ncmdline = \"{}\"\nmemory_regions = [[\"8MiB\"]]\n",
            arch.name(),
            vm.options,
        );
        bundle = bundle.vm(&format!("{id}-{name}"), &config);
    }
    let guests: BTreeSet<&str> = vms.iter().map(|vm| vm.guest).collect();
    for guest in guests {
        bundle = bundle.guest(&format!("{guest}.bin"));
    }
    let ended = machine.boot(&bundle).end();
    for Vm { name, .. } in vms {
        ended.says(&[&format!("VM \"{name}\" powered off")]);
    }
    ended.all_well();
    ended
}

#[test]
fn two_heartbeats_take_turns() {
    // As many as tell its lines from the first one's.
    let other = Vm {
        name: "other",
        options: "beats=40",
        ..HEARTBEAT
    };
    for arch in [Riscv64, X86_64] {
        let ended = run(arch, &[HEARTBEAT, other]);
        for beats in [50, 40] {
            ended.says(&[&format!("done, {beats} beats")]);
        }
    }
}

/// One guest that never sleeps starts before the heartbeat, and one after it: the heartbeat beats all the same, and is done before they are, which
/// get their share too.
#[test]
fn busy_guests_keep_nobody_from_running() {
    let busy = |name| Vm {
        name,
        guest: "busy",
        options: "ms=3000",
    };
    for arch in [Riscv64, X86_64] {
        let ended = run(arch, &[busy("first"), HEARTBEAT, busy("last")]);
        // That the busy ones powered off says that they are done.
        for done in ["done, 50 beats", "busy: done"] {
            ended.says(&[done]);
        }
        let end_of = |name| ended.output.find(&format!("VM \"{name}\" powered off"));
        assert!(end_of("heartbeat") < end_of("first"), "{}", ended.output);
        assert!(end_of("heartbeat") < end_of("last"), "{}", ended.output);
    }
}

/// One that sleeps for a moment only, again and again, so that its timer interrupts whoever has the next turn where that begins: the heartbeat beats
/// all the same. Which moment that is depends on the way to that turn, so that instructions are counted, and some are tried. (On x86_64 QEMU 10 may
/// give a guest an interrupt twice that the hypervisor injected once, if one of the host's is due before the guest's next exit; so often it would.)
#[test]
fn a_guest_that_hardly_sleeps_keeps_nobody_from_running() {
    const ALLOWED_NS: u64 = 1_000_000;
    let machine = Machine::new().harts(2).counted();
    let heartbeat = Vm {
        options: "beats=20",
        ..HEARTBEAT
    };
    for options in [
        "ms=300 nap_ns=1800",
        "ms=300 nap_ns=1900",
        "ms=300 nap_ns=2000",
    ] {
        let napper = Vm {
            name: "napper",
            guest: "busy",
            options,
        };
        let ended = run_on(&machine, Riscv64, &[napper, heartbeat]);
        let lateness = ended.output.split("done, 20 beats, worst lateness ").nth(1);
        let lateness = lateness.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        assert!(
            lateness.is_some_and(|ns| ns < ALLOWED_NS),
            "{options}: {}",
            ended.output
        );
    }
}
