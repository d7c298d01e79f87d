//! A guest that touches lazily filled RAM from two CPUs at once, and starts again in the midst of it. It could hang the host, or leave memory or
//! vCPUs behind.

use system_tests::{
    Arch::{self, Riscv64, X86_64},
    Bundle, Emulator, Ended, Machine, Run,
};

/// Less than a large page, so that each page is filled by itself.
const LAZY_PAGES: u64 = 510;

/// The restless guest, with RAM to race for; and beside it another, which goes on when the first has ended.
fn restless(arch: Arch) -> Bundle {
    let lazy: u64 = match arch {
        Riscv64 => 0x9000_1000,
        X86_64 => 0x1000_1000,
    };
    let vm = |id, name, more: &str, regions: &str| {
        format!(
            "[base]\nid = {id}\nname = \"{name}\"\n{more}\n\
             memory_regions = [[\"8MiB\"]{regions}]\nkernel_path = \"guests/{}/restless.bin\"\n",
            arch.name()
        )
    };
    let racing =
        format!("phys_cpu_ids = [1, 2]\n[kernel]\ncmdline = \"lazy={lazy} pages={LAZY_PAGES}\"");
    let region = format!(
        ", {{ gpa = {lazy}, size = {}, map_type = \"lazy\" }}",
        LAZY_PAGES * 4096
    );
    Bundle::new(arch)
        .vm("restless", &vm(1, "restless", &racing, &region))
        .vm(
            "witness",
            &vm(2, "witness", "phys_cpu_ids = [3]\n[kernel]", ""),
        )
        .guest("restless.bin")
}

/// What the restless guest says when it heeds keys; the other's lines begin with its name.
const READY: &str = "\nrestless: ready";

/// Starts the guest again so many times, each time while its second CPU touches what nobody has touched.
fn restart(run: &mut Run, rounds: usize) {
    for _ in 0..rounds {
        run.expect(READY);
        run.send("r");
    }
    run.expect(READY);
}

/// What the hypervisor says that it got back of the restless VM, in KiB. Then the other one ends too.
fn given_back(mut run: Run) -> (u64, Ended) {
    run.expect("VM \"restless\" gave ");
    let said = run.rest_of_line();
    let kib = said.strip_suffix(" KiB back").map(str::parse);
    let Some(Ok(kib)) = kib else {
        panic!("{said}");
    };
    run.send("q");
    let ended = run.end();
    ended.says(&["VM \"witness\" powered off"]);
    (kib, ended)
}

/// A kernel that is wrong is named as what may be wrong, not often.
#[test]
fn a_kernel_that_faults_at_once_is_told_of_once_a_second() {
    let config = "[base]\nid = 1\nname = \"wrong\"\nphys_cpu_ids = [1]\n\
        [kernel]\nkernel_path = \"wrong\"\nmemory_regions = [[\"8MiB\"]]\n";
    // UD2, and nothing that could handle it.
    let bundle = Bundle::new(X86_64)
        .vm("wrong", config)
        .file("wrong", &[0x0f, 0x0b]);
    let mut run = Machine::new().harts(2).counted().boot(&bundle);
    run.expect("VM \"wrong\" starts again: triple fault\r\n");
    for _ in 0..3 {
        run.expect("VM \"wrong\" starts again (");
        let rest = run.rest_of_line();
        let (times, hint) = rest.split_once(" times): ").expect("gathered");
        let times: usize = times.parse().expect("a number");
        assert!((5..=11).contains(&times), "{times}");
        assert_eq!(hint, "triple fault; its kernel may be wrong");
    }
}

/// However often the guest starts again, in the end it gives back what it would have given after the first start.
fn restarts_leave_nothing_behind(arch: Arch, machine: &Machine, rounds: usize) {
    let held = |rounds| {
        let mut run = machine.boot(&restless(arch));
        restart(&mut run, rounds);
        run.send("q");
        let (held, ended) = given_back(run);
        ended.all_well();
        held
    };
    assert_eq!(held(rounds), held(0));
}

#[test]
fn two_vcpus_race_for_lazy_ram() {
    let machine = Machine::new();
    for arch in [Riscv64, X86_64] {
        restarts_leave_nothing_behind(arch, &machine, 20);
    }
}

/// A VM that cannot go on is gone for good, with all its memory, however often it has started before; its neighbour goes on.
fn a_failure_leaves_nothing_behind(arch: Arch, machine: &Machine) {
    let mut run = machine.boot(&restless(arch));
    restart(&mut run, 3);
    run.send("t");
    let (held, ended) = given_back(run);
    // RAM, of which at least half of the lazy part was touched, and its tables.
    let (ram, lazy, tables) = (8192, LAZY_PAGES * 4, 64);
    assert!(
        (ram + lazy / 2..ram + lazy + tables).contains(&held),
        "{held}"
    );
    assert!(!ended.output.contains("VM \"restless\" powered off"));
    ended.failed();
}

#[test]
fn a_vm_that_fails_leaves_nothing_behind() {
    let machine = Machine::new();
    for arch in [Riscv64, X86_64] {
        a_failure_leaves_nothing_behind(arch, &machine);
    }
}

#[test]
fn all_of_that_on_vmx() {
    let machine = Machine::emulated_by(Emulator::Bochs);
    a_failure_leaves_nothing_behind(X86_64, &machine);
}
