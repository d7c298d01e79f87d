//! Debian's kernel, untouched.

use system_tests::{Arch::Riscv64, Bundle, Machine};

fn main_job() -> Bundle {
    Bundle::new(Riscv64)
        .shipped_vm("linux", &[])
        .shipped_vm("heartbeat", &[])
        .guest("Image")
        .guest("initramfs.cpio.gz")
        .guest("heartbeat.bin")
}

/// The main job: two VMs from the shipped configs; a shell that answers the keyboard; `poweroff` ends its own VM only.
#[test]
fn linux_and_an_rtos_side_by_side() {
    let mut run = Machine::new().boot(&main_job());
    run.expect("AxHV guest: Linux ");
    assert!(run.rest_of_line().contains("2 CPUs online"));
    run.expect("# ");
    run.send("echo answer-$((6 * 7))-$(nproc); grep -c ttyS0 /proc/interrupts\n");
    run.expect("answer-42-2");
    run.expect("\n1");
    // The other VM's lines come under its name, and it keeps its pace.
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

/// A reboot starts the same VM again, and no other.
#[test]
fn a_reboot_is_the_vms_own() {
    let mut run = Machine::new().boot(&main_job());
    run.expect("AxHV guest: Linux ");
    run.expect("# ");
    run.send("reboot\n");
    run.expect("VM \"linux\" starts again");
    run.expect("AxHV guest: Linux ");
    assert!(run.rest_of_line().contains("2 CPUs online"));
    run.expect("# ");
    run.send("echo alive-$((40 + 2))\n");
    run.expect("alive-42");
    let all = run.output();
    assert_eq!(
        all.matches("a beat every").count(),
        1,
        "the heartbeat never started again"
    );
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
    let ended = Machine::new().boot(&bundle).end();
    assert!(
        ended.output.contains("AxHV guest: Linux "),
        "{}",
        ended.output
    );
    assert!(ended.output.contains("2 CPUs online"), "{}", ended.output);
    assert_eq!(ended.status, Some(0), "{}", ended.output);
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
