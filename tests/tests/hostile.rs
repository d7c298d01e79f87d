//! Guests that mean harm, beside one that must not feel it.

use system_tests::{
    Arch::{self, Riscv64, X86_64},
    Bundle, Emulator, Machine, Run, steady,
};

const BOTH: [Arch; 2] = [Riscv64, X86_64];

/// Ctrl-Y: the hypervisor says how the VMs are.
const STATUS_KEY: &str = "\x19";

/// A VM, `place` says where, whose guest attacks as `attack` says.
fn hostile(arch: Arch, place: &str, attack: &str) -> String {
    hostile_with(arch, place, attack, "")
}

/// The same with more RAM, `memory`.
fn hostile_with(arch: Arch, place: &str, attack: &str, memory: &str) -> String {
    format!(
        "[base]\nid = 1\nname = \"hostile\"\n{place}\n\n[kernel]\nkernel_path = \"guests/{}/hostile.bin\"\n\
         cmdline = \"attack={attack}\"\nmemory_regions = [[\"8MiB\"]{memory}]\n",
        arch.name()
    )
}

/// A VM that floods its console, beside a heartbeat with these options.
fn flooded(arch: Arch, options: &str) -> Run {
    let options = format!("[kernel]\ncmdline = \"{options}\"");
    let bundle = Bundle::new(arch)
        .vm("hostile", &hostile(arch, "phys_cpu_ids = [1]", "flood"))
        .guest("hostile.bin")
        .shipped_vm("heartbeat", &[("[1]", "[2]"), ("[kernel]", &options)])
        .guest("heartbeat.bin");
    Machine::new().harts(3).counted().boot(&bundle)
}

/// One that writes faster than the console shows does not hide another's end.
#[test]
fn a_flooded_console_hides_nobodys_end() {
    for arch in BOTH {
        flooded(arch, "beats=2").expect("VM \"heartbeat\" powered off");
    }
}

/// Nor does it keep the keyboard from being heard, or take the console for itself.
#[test]
fn a_flooded_console_heeds_keys() {
    const FOCUS_KEY: &str = "\x14";
    for arch in BOTH {
        let mut run = flooded(arch, "report=1");
        run.expect("[heartbeat] heartbeat: 1 beats");
        run.send(STATUS_KEY);
        run.expect("VM \"heartbeat\" runs: ");
        run.send(FOCUS_KEY);
        run.expect("[axhv] console of heartbeat");
        run.expect("[hostile] All work and no play");
    }
}

/// How late a heartbeat was at worst, in microseconds, when it had beaten for half a second beside `hostile`.
fn lateness_beside(arch: Arch, hostile: &str, placement: &str) -> u64 {
    let options = "[kernel]\ncmdline = \"beats=50\"";
    let bundle = Bundle::new(arch)
        .vm("hostile", hostile)
        .guest("hostile.bin")
        .shipped_vm(
            "heartbeat",
            &[("phys_cpu_ids = [1]", placement), ("[kernel]", options)],
        )
        .guest("heartbeat.bin");
    let mut run = Machine::new().harts(2).counted().boot(&bundle);
    run.expect("done, 50 beats, worst lateness ");
    let lateness = run.expect(" ns").parse::<u64>().expect("a number");
    lateness / 1000
}

/// A guest that resets its machine as soon as it starts keeps those that share its pCPU waiting for no more than a few turns, and no VM from being started.
#[test]
fn one_that_resets_for_ever_lets_others_run() {
    for arch in BOTH {
        for pcpu in [0, 1] {
            let sharing = format!("phys_cpu_sets = [{:#b}]", 1 << pcpu);
            let late = lateness_beside(arch, &hostile(arch, &sharing, "reset"), &sharing);
            println!("{}, pCPU {pcpu}: {late} us", arch.name());
            assert!(late < 5_000, "{late} us");
        }
    }
}

/// A VM on pCPU 2 that resets as soon as it has touched RAM that is filled on first touch, for ever.
fn lazy_resets(arch: Arch) -> String {
    let lazy: u64 = match arch {
        Riscv64 => 0x9000_0000,
        X86_64 => 0x1000_0000,
    };
    let attack = format!("reset lazy={lazy}");
    let region = format!(", {{ gpa = {lazy}, size = \"4MiB\", map_type = \"lazy\" }}");
    hostile_with(arch, "phys_cpu_ids = [2]", &attack, &region)
}

/// How many lives of the hostile VM have ended, by what the console says, up to the present.
fn resets(run: &Run) -> usize {
    let lines = run.output().lines();
    let told = lines.filter_map(|line| line.split_once("VM \"hostile\" starts again"));
    // Those of a second are told together.
    told.map(|(_, rest)| {
        let times = rest
            .strip_prefix(" (")
            .and_then(|rest| rest.split_once(" times"));
        times.map_or(1, |(times, _)| times.parse().expect("a number"))
    })
    .sum()
}

/// The exits of a heartbeat on a pCPU of its own in a steady second, alone or beside others.
fn steady_exits(arch: Arch, machine: &Machine, neighbour: Option<&str>) -> Vec<(String, u64)> {
    let options = format!("[kernel]\ncmdline = \"{}\"", steady::options());
    let mut bundle = Bundle::new(arch)
        .shipped_vm("heartbeat", &[("[kernel]", &options)])
        .guest("heartbeat.bin")
        .guest("hostile.bin");
    if let Some(config) = neighbour {
        bundle = bundle.vm("hostile", config);
    }
    let mut run = machine.clone().harts(3).boot(&bundle);
    run.expect("a beat every");
    let before = resets(&run);
    let exits = run.steady_exits();
    if neighbour.is_some() {
        // The hypervisor lets it start again ten times a second.
        let resets = resets(&run) - before;
        assert!(resets >= 5, "{resets}: {}", run.output());
    }
    exits
}

/// What is unmapped with each life of one VM disturbs no other's pCPU. (On RISC-V the firmware would see to that, and no exit tell.)
#[test]
fn one_that_resets_for_ever_takes_nobody_out_of_his_guest() {
    let qemu = Machine::new().counted();
    let bochs = Machine::emulated_by(Emulator::Bochs).bootargs("apicv=registers");
    for (arch, machine) in [(Riscv64, &qemu), (X86_64, &qemu), (X86_64, &bochs)] {
        let neighbour = lazy_resets(arch);
        assert_eq!(
            steady_exits(arch, machine, Some(&neighbour)),
            steady_exits(arch, machine, None)
        );
    }
}

/// What memory the hypervisor says is in use, in KiB.
#[derive(Debug, PartialEq, Eq)]
struct InUse {
    heap: u64,
    held_by_vms: u64,
}

/// Asks the hypervisor how things are. What the hostile VM is said to be comes too.
fn ask(run: &mut Run) -> (String, InUse) {
    run.send(STATUS_KEY);
    run.expect("VM \"hostile\" runs: ");
    let hostile = run.expect("VM \"heartbeat\" runs: ");
    run.expect("KiB of image, ");
    let mut number = |unit| run.expect(unit).parse().expect("a number of KiB");
    let in_use = InUse {
        heap: number(" KiB of heap, "),
        held_by_vms: number(" KiB that VMs hold"),
    };
    (hostile, in_use)
}

/// What is in use while a life lasts: what a VM takes only while it starts is not, and what its guest has touched is.
fn in_use(run: &mut Run) -> InUse {
    let asked: [InUse; 5] = std::array::from_fn(|_| ask(run).1);
    let heap = asked.iter().map(|asked| asked.heap).min();
    let held_by_vms = asked.iter().map(|asked| asked.held_by_vms).max();
    InUse {
        heap: heap.expect("it was asked"),
        held_by_vms: held_by_vms.expect("it was asked"),
    }
}

/// What a life takes goes back when the next one begins.
fn takes_no_more_memory_with_each_life(arch: Arch, machine: &Machine, lives: usize) {
    let bundle = Bundle::new(arch)
        .vm("hostile", &lazy_resets(arch))
        .shipped_vm("heartbeat", &[])
        .guest("hostile.bin")
        .guest("heartbeat.bin");
    let mut run = machine.clone().harts(3).boot(&bundle);
    let live = |run: &mut Run, lives| {
        let until = resets(run) + lives;
        while resets(run) < until {
            run.expect("VM \"hostile\" starts again");
            run.rest_of_line();
        }
        in_use(run)
    };
    let first = live(&mut run, 2);
    let last = live(&mut run, lives);
    assert_eq!(last, first);
    let (hostile, _) = ask(&mut run);
    assert!(hostile.contains("nested-fault"), "{hostile}");
}

#[test]
fn one_that_resets_for_ever_takes_no_more_memory_with_each_life() {
    let machine = Machine::new().counted();
    for arch in BOTH {
        takes_no_more_memory_with_each_life(arch, &machine, 100);
    }
}

/// A life takes Bochs longer.
#[test]
fn one_that_resets_for_ever_on_vmx_takes_no_more_memory_with_each_life() {
    let machine = Machine::emulated_by(Emulator::Bochs);
    takes_no_more_memory_with_each_life(X86_64, &machine, 20);
}
