//! Debian's kernel, untouched.

use system_tests::{
    Arch::{self, Riscv64, X86_64},
    Bundle, Machine, Run,
};

fn kernel(arch: Arch) -> &'static str {
    match arch {
        Riscv64 => "Image",
        X86_64 => "bzImage",
    }
}

fn linux(arch: Arch) -> Bundle {
    Bundle::new(arch)
        .shipped_vm("linux", &[])
        .guest(kernel(arch))
        .guest("initramfs.cpio.gz")
}

fn main_job(arch: Arch) -> Bundle {
    linux(arch)
        .shipped_vm("heartbeat", &[])
        .guest("heartbeat.bin")
}

/// Waits for the shell of a Linux with both vCPUs online.
fn expect_shell(run: &mut Run) {
    run.expect("AxHV guest: Linux ");
    // Not of the same line: another VM's may come in between, and this one is shown again below it.
    run.expect("2 CPUs online");
    run.expect("# ");
}

/// The main job: two VMs from the shipped configs; a shell that answers the keyboard; `poweroff` ends its own VM only, whose memory is the
/// host's again. `interrupts` is how
/// the console's interrupt looks in /proc/interrupts.
fn side_by_side(arch: Arch, interrupts: &str) {
    let mut run = Machine::new().boot(&main_job(arch));
    expect_shell(&mut run);
    run.send(&format!(
        "echo answer-$((6 * 7))-$(nproc)-$(grep -c '{interrupts}' /proc/interrupts)\n"
    ));
    run.expect("answer-42-2-1\r\n");
    // The other VM's lines come under its name, and it keeps its pace.
    run.expect("[heartbeat] heartbeat: ");
    run.send("poweroff\n");
    run.expect("VM \"linux\" powered off");
    // All of its RAM, and the tables for it.
    run.expect("VM \"linux\" gave ");
    let freed: u64 = run.expect(" KiB back").parse().expect("a number of KiB");
    assert!(freed >= 256 << 10, "{freed}");
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

#[test]
fn linux_and_an_rtos_side_by_side_on_riscv64() {
    side_by_side(Riscv64, "PLIC.*ttyS0");
}

/// With I/O and local APICs.
#[test]
fn linux_and_an_rtos_side_by_side_on_x86_64() {
    side_by_side(X86_64, "IO-APIC.*ttyS0");
}

/// A reboot starts the same VM again, and no other.
fn reboot(arch: Arch) {
    let mut run = Machine::new().boot(&main_job(arch));
    expect_shell(&mut run);
    run.send("reboot\n");
    run.expect("VM \"linux\" starts again: its guest reset it");
    expect_shell(&mut run);
    run.send("echo alive-$((40 + 2))\n");
    run.expect("alive-42");
    let all = run.output();
    assert_eq!(
        all.matches("a beat every").count(),
        1,
        "the heartbeat never started again"
    );
}

#[test]
fn a_reboot_is_the_vms_own_on_riscv64() {
    reboot(Riscv64);
}

#[test]
fn a_reboot_is_the_vms_own_on_x86_64() {
    reboot(X86_64);
}

/// The machine's clock is read once, and each guest's own goes on from there: leap year, century and all.
#[test]
fn linux_on_x86_64_knows_what_day_it_is() {
    /// 2052-02-29 12:00:00.
    const START: u64 = 2_592_820_800;
    /// Generous: the machine that runs this may be busy.
    const UNTIL: u64 = START + 3600;
    let machine = Machine::new().date("2052-02-29T12:00:00");
    let mut run = machine.boot(&linux(X86_64));
    expect_shell(&mut run);
    run.send("echo now $(date +%s)\n");
    run.expect("\nnow ");
    let now = run.rest_of_line().parse().expect("a number of seconds");
    assert!((START..UNTIL).contains(&now), "{now}");
    run.send("poweroff\n");
    run.end().all_well();
}

/// The same kernel, compressed, on a machine whose nested translation has three levels.
#[test]
fn linux_boots_from_a_compressed_image() {
    let image = gzip(&Riscv64.guest("Image"));
    let bundle = Bundle::new(Riscv64)
        .shipped_vm(
            "linux",
            &[
                ("guests/riscv64/Image", "Image.gz"),
                (
                    "console=ttyS0 earlycon=sbi",
                    "console=ttyS0 axhv.run=poweroff",
                ),
            ],
        )
        .file("Image.gz", &image)
        .guest("initramfs.cpio.gz");
    let ended = Machine::new()
        .cpu("rv64,h=true,sv48=off")
        .boot(&bundle)
        .end();
    ended.says(&["[axhv] AxHV ", "Sv39x4"]);
    ended.says(&["AxHV guest: Linux ", "2 CPUs online"]);
    ended.all_well();
}

/// Compresses by the tool that made the kernel's own.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::{
        io::Write,
        process::{Command, Stdio},
        thread,
    };
    let mut tool = Command::new("gzip")
        .args(["-n", "-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed by make setup");
    let mut input = tool.stdin.take().expect("piped");
    let bytes = bytes.to_vec();
    let writer = thread::spawn(move || input.write_all(&bytes));
    let output = tool.wait_with_output().expect("gzip runs");
    writer.join().expect("no panic").expect("gzip reads all");
    output.stdout
}
