//! Devices of the machine that VMs have for themselves: registers, ports and interrupts, and who does not get them.

use system_tests::{
    Arch::{Riscv64, X86_64},
    Bundle, Emulator, Ended, Machine,
};

/// A VM on pCPU `id` whose guest is `passed.bin` with these options, and this device.
fn vm(arch: &str, id: usize, options: &str, device: &str) -> String {
    format!(
        "[base]\nid = {id}\nphys_cpu_ids = [{id}]\n[kernel]\nkernel_path = \"guests/{arch}/passed.bin\"\n\
         cmdline = \"{options}\"\nmemory_regions = [[\"16MiB\"]]\n{device}"
    )
}

/// The clock of QEMU's `virt`, with more of what a config can say of it.
fn clock(more: &str) -> String {
    format!(
        "[[devices.passthrough]]\nid = \"rtc0\"\naddr = 0x10_1000\nsize = 0x1000\nirq = 11\ndma = \"none\"\n\
         compatible = \"google,goldfish-rtc\"\n{more}"
    )
}

/// Each of these stands behind the one before.
#[track_caller]
fn says_in_order(ended: &Ended, words: &[&str]) {
    let mut rest = ended.output.as_str();
    for word in words {
        let Some(at) = rest.find(word) else {
            panic!("{word:?} is missing:\n{}", ended.output);
        };
        rest = &rest[at + word.len()..];
    }
}

/// How often each of the guest's vCPU 0's exits was of this kind.
#[track_caller]
fn exits(ended: &Ended, kind: &str) -> u64 {
    let said = ended.output.split("exits: ").nth(1).expect("an account");
    let line = said.lines().next().unwrap_or_default();
    let count = line.split(", ").find_map(|count| count.strip_prefix(kind));
    count.map_or(0, |count| count.trim().parse().expect("a number"))
}

/// It reads the clock where its config puts it, and gets the alarms' interrupts; so it does after it has started again with an alarm that
/// nobody has served. Nothing that it does with the clock is an exit but those interrupts.
#[test]
fn a_guest_has_the_machines_clock() {
    let device = clock("guest_addr = 0x2000_0000\nguest_irq = 33\n");
    let bundle = Bundle::new(Riscv64)
        .vm("clock", &vm("riscv64", 1, "alarms=5 again", &device))
        .guest("passed.bin");
    let machine = Machine::new().date("2026-01-01T12:00:00");
    let ended = machine.boot(&bundle).end();
    says_in_order(
        &ended,
        &[
            "VM \"clock\" has device \"rtc0\" of the machine: 0x101000 to 0x101fff, for the guest at 0x20000000, interrupt 11, for the guest 33, no DMA",
            "passed: a clock at 0x20000000 with interrupt 33",
            "passed: it is second 17672",
            "passed: alarm 5",
            "passed: starting again",
            "VM \"clock\" starts again",
            "passed: the clock was not reset",
            "passed: the alarm of the former life came",
            "passed: alarm 5",
            "VM \"clock\" powered off",
        ],
    );
    // Five, and one more, in each life.
    assert_eq!(exits(&ended, "host-external "), 12, "{}", ended.output);
    ended.all_well();
}

/// Debian's driver finds the clock by the device tree, has its interrupt, and sets the time by it.
#[test]
fn linux_has_a_driver_for_it() {
    let command = "dmesg | grep goldfish; date -u +year-%Y; grep 101000 /proc/interrupts";
    let run = format!("cmdline = \"axhv.exec=\\\"{command}\\\" console=ttyS0");
    let bundle = Bundle::new(Riscv64)
        .shipped_vm(
            "linux",
            &[
                ("cmdline = \"console=ttyS0", &run),
                ("[[\"256MiB\"]]", &format!("[[\"256MiB\"]]\n{}", clock(""))),
            ],
        )
        .guest("Image")
        .guest("initramfs.cpio.gz");
    let machine = Machine::new().date("2031-01-01T12:00:00");
    let ended = machine.boot(&bundle).end();
    says_in_order(
        &ended,
        &[
            "goldfish_rtc 101000.device: registered as rtc0",
            "goldfish_rtc 101000.device: setting system clock to 2031-01-01T12:",
            "year-2031",
            "AxHV guest: exit status 0",
        ],
    );
    ended.all_well();
}

/// What cannot be had is refused in words, when the machine boots; whoever asks for nothing of the kind starts.
#[test]
fn what_cannot_be_given_is_refused() {
    let device = |text: &str| {
        format!("[[devices.passthrough]]\nid = \"d\"\ndma = \"trusted\"\nsize = 4096\n{text}\n")
    };
    let asks = |id, text: &str| vm("riscv64", id, "", &device(text));
    let bundle = Bundle::new(Riscv64)
        .vm("a", &vm("riscv64", 1, "", &clock("")))
        .vm("b", &vm("riscv64", 2, "", &clock("")))
        .vm(
            "c",
            &asks(3, "addr = 0x8800_0000\nguest_addr = 0x2000_0000"),
        )
        .vm(
            "d",
            &asks(4, "addr = 0x1000_0000\nguest_addr = 0x2000_0000"),
        )
        .vm("e", &asks(5, "addr = 0xc00_0000\nguest_addr = 0x2000_0000"))
        .vm("f", &asks(6, "addr = 0x200_0000"))
        .vm("g", &asks(7, "addr = 0x10_0000"))
        .vm("h", &asks(8, "addr = 0x4000_0000\nirq = 10\nguest_irq = 1"))
        .vm(
            "i",
            &asks(9, "addr = 0x4000_0000\nirq = 900\nguest_irq = 1"),
        )
        .vm("j", &asks(10, "addr = 0x3000_0000"))
        .vm("k", &asks(11, "addr = 0x2000_0000"))
        .guest("passed.bin");
    let ended = Machine::new().harts(8).boot(&bundle).end();
    let refused = |file: &str, line: u32, rule: &str| {
        let said = format!("error: vms/{file}.toml:{line}: devices.passthrough[0].{rule}");
        ended.says(&[&said]);
    };
    refused(
        "b",
        10,
        "addr: 0x101000 to 0x101fff overlaps 0x101000 to 0x101fff, device \"rtc0\" of VM \"a\" (vms/a.toml:8)",
    );
    refused(
        "b",
        12,
        "irq: interrupt 11 is that of device \"rtc0\" of VM \"a\"",
    );
    refused(
        "c",
        12,
        "addr: 0x88000000 to 0x88000fff overlaps RAM of this machine (0x80000000 to 0xbfffffff), which no VM can have",
    );
    refused(
        "d",
        12,
        "addr: 0x10000000 to 0x10000fff overlaps the hypervisor's console of this machine",
    );
    refused(
        "e",
        12,
        "addr: 0xc000000 to 0xc000fff overlaps an interrupt controller (PLIC) of this machine",
    );
    refused(
        "f",
        12,
        "addr: 0x2000000 to 0x2000fff overlaps a timer or interrupt controller that is the firmware's of this machine",
    );
    refused(
        "g",
        12,
        "addr: 0x100000 to 0x100fff overlaps the power switch of this machine",
    );
    refused(
        "h",
        13,
        "irq: interrupt 10 is the hypervisor's console's, which no VM can have",
    );
    refused(
        "i",
        13,
        "irq: this machine has no interrupt 900 that a VM could have",
    );
    refused(
        "j",
        12,
        "addr: 0x30000000 to 0x30000fff overlaps PCI configuration of this machine",
    );
    refused(
        "k",
        12,
        "addr: 0x20000000 to 0x20000fff overlaps the firmware's flash of this machine",
    );
    says_in_order(&ended, &["passed: it is second", "VM \"a\" powered off"]);
    assert_eq!(
        ended.output.matches(" starts: ").count(),
        1,
        "{}",
        ended.output
    );
    assert_eq!(ended.status, Some(1));
}

/// Half of the harts have another PLIC than the first: it is no VM's, and a VM whose vCPU 0 is there is told why its device cannot interrupt it.
#[test]
fn a_plic_of_other_harts_is_nobodys() {
    let second = "[[devices.passthrough]]\nid = \"d\"\ndma = \"trusted\"\naddr = 0xc60_0000\nsize = 4096\nguest_addr = 0x2000_0000\n";
    let bundle = Bundle::new(Riscv64)
        .vm("a", &vm("riscv64", 1, "", second))
        .vm("b", &vm("riscv64", 3, "alarms=1", &clock("")))
        .guest("passed.bin");
    let nodes = [
        ["-object", "memory-backend-ram,id=m0,size=512M"],
        ["-object", "memory-backend-ram,id=m1,size=512M"],
        ["-numa", "node,memdev=m0,cpus=0-1"],
        ["-numa", "node,memdev=m1,cpus=2-3"],
    ];
    let machine = Machine::new().harts(4).arguments(nodes.concat());
    let ended = machine.boot(&bundle).end();
    for words in [
        "vms/a.toml:11: devices.passthrough[0].addr: 0xc600000 to 0xc600fff overlaps an interrupt controller (PLIC) of this machine",
        "vms/b.toml:12: devices.passthrough[0].irq: the machine's interrupt controller cannot lead it to pCPU 3, where vCPU 0 is",
    ] {
        ended.says(&[words]);
    }
}

/// A timer in memory, whose level comes again if the guest does not serve it, also in its next life, and a serial port, whose edges come each for itself.
fn a_guest_has_a_pcs_devices(machine: &Machine) {
    let devices = "[[devices.passthrough]]\nid = \"hpet\"\naddr = 0xfed0_0000\nsize = 0x1000\nirq = 20\ndma = \"trusted\"\n\
                   [[devices.passthrough]]\nid = \"com2\"\nports = [0x2f8, 8]\nirq = 3\ndma = \"none\"\n";
    let options = "hpet hpet_irq=20 again com2 com2_irq=3";
    let bundle = Bundle::new(X86_64)
        .vm("pc", &vm("x86_64", 1, options, devices))
        .guest("passed.bin");
    let ended = machine.boot(&bundle).end();
    says_in_order(
        &ended,
        &[
            "VM \"pc\" has device \"hpet\" of the machine: 0xfed00000 to 0xfed00fff, interrupt 20, DMA: it reaches ALL memory",
            "VM \"pc\" has device \"com2\" of the machine: ports 0x2f8 to 0x2ff, interrupt 3, no DMA",
            "passed: it counts",
            "passed: tick 5",
            "passed: starting again",
            "VM \"pc\" starts again",
            "passed: the timer was not reset",
            "passed: the tick of the former life came",
            "passed: tick 5",
            "passed: COM2 hears itself",
            "passed: COM2 has sent 5",
            "VM \"pc\" powered off",
        ],
    );
    ended.all_well();
}

/// The first serial port stays where it is.
const COM2: [&str; 4] = ["-serial", "mon:stdio", "-serial", "null"];

#[test]
fn a_guest_has_a_pcs_devices_on_svm() {
    a_guest_has_a_pcs_devices(&Machine::new().arguments(COM2));
}

#[test]
fn a_guest_has_a_pcs_devices_on_vmx() {
    let machine = Machine::emulated_by(Emulator::Bochs).harts(2);
    a_guest_has_a_pcs_devices(&machine);
}

#[test]
fn a_pc_keeps_what_it_needs() {
    let device =
        |text: &str| format!("[[devices.passthrough]]\nid = \"d\"\ndma = \"none\"\n{text}\n");
    let asks = |id, text: &str| vm("x86_64", id, "", &device(text));
    let none = "[devices]\nvirtual = []\n";
    let console = vm(
        "x86_64",
        5,
        "",
        &format!("{none}{}", device("ports = [0x3f8, 8]")),
    );
    let bundle = Bundle::new(X86_64)
        .vm("a", &asks(1, "addr = 0x1000_0000\nsize = 4096"))
        .vm(
            "b",
            &asks(
                2,
                "addr = 0xfec0_0000\nsize = 4096\nguest_addr = 0xc000_0000",
            ),
        )
        .vm("c", &asks(3, "addr = 0xfeef_f000\nsize = 4096"))
        .vm(
            "d",
            &asks(4, "addr = 0xa_0000\nsize = 4096\nguest_addr = 0xc000_0000"),
        )
        .vm("e", &console)
        .vm("f", &asks(6, "ports = [0x2f8, 8]\nirq = 4\nguest_irq = 5"))
        .vm("g", &asks(7, "ports = [0x2f8, 8]\nirq = 3\nguest_irq = 16"))
        .vm(
            "h",
            &asks(8, "ports = [0x2f8, 8]\nirq = 99\nguest_irq = 16"),
        )
        .vm("j", &asks(10, "addr = 0xfffc_0000\nsize = 4096"))
        .vm("k", &asks(11, "addr = 0xb000_0000\nsize = 4096"))
        .vm("i", &asks(9, "addr = 0xfed0_0000\nsize = 4096"))
        .guest("passed.bin");
    let ended = Machine::new().harts(8).boot(&bundle).end();
    let refused = |file: &str, line: u32, rule: &str| {
        let said = format!("error: vms/{file}.toml:{line}: devices.passthrough[0].{rule}");
        ended.says(&[&said]);
    };
    refused(
        "a",
        11,
        "addr: 0x10000000 to 0x10000fff overlaps RAM of this machine",
    );
    refused(
        "b",
        11,
        "addr: 0xfec00000 to 0xfec00fff overlaps an interrupt controller (APIC) of this machine",
    );
    refused(
        "c",
        11,
        "addr: 0xfeeff000 to 0xfeefffff overlaps the local APICs of this machine",
    );
    refused(
        "d",
        11,
        "addr: 0xa0000 to 0xa0fff overlaps the first MiB of this machine",
    );
    refused(
        "e",
        13,
        "ports: ports 0x3f8 to 0x3ff overlaps the hypervisor's console of this machine",
    );
    refused(
        "f",
        12,
        "irq: interrupt 4 is the hypervisor's console's, which no VM can have",
    );
    refused(
        "g",
        13,
        "guest_irq: interrupt 3 of this machine asks by its edge, which 16 does not in a VM",
    );
    refused(
        "h",
        12,
        "irq: this machine has no interrupt 99 that a VM could have",
    );
    refused(
        "j",
        11,
        "addr: 0xfffc0000 to 0xfffc0fff overlaps the firmware's flash of this machine",
    );
    // Where the table says that QEMU's q35 has it.
    refused(
        "k",
        11,
        "addr: 0xb0000000 to 0xb0000fff overlaps PCI configuration of this machine",
    );
    refused(
        "i",
        10,
        "dma: 0xfed00000 to 0xfed00fff has an HPET of this machine (0xfed00000 to 0xfed003ff), which stores",
    );
}
