//! What a config may ask of the machine's devices, and what it is told if it may not.

use axaddrspace::{GuestPhysAddr, HostPhysAddr};

use super::*;
use crate::{MachineLimits, VmConfig, validate};

/// A config whose `[devices]` has `text`.
fn parse(name: &str, isa: Isa, text: &str) -> Result<VmConfig, Vec<String>> {
    let id = name.len();
    let text = format!(
        "[base]\nid = {id}\nname = \"{name}\"\nphys_cpu_sets = [1]\n[kernel]\nkernel_path = \"k\"\n\
         memory_regions = [\"1MiB\"]\n[devices]\n{text}"
    );
    VmConfig::parse(&format!("{name}.toml"), &text, isa)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(isa: Isa, device: &str) -> Vec<String> {
    let text = format!("[[devices.passthrough]]\nid = \"d\"\ndma = \"none\"\n{device}");
    parse("vm", isa, &text).err().unwrap_or_default()
}

/// What is said of the one thing that is wrong.
#[track_caller]
fn error(isa: Isa, device: &str) -> String {
    let errors = errors(isa, device);
    let [error] = &errors[..] else {
        panic!("{device}: {errors:#?}");
    };
    error.clone()
}

#[test]
fn a_device_is_what_the_config_says() {
    let text = "[[devices.passthrough]]\nid = \"rtc\"\naddr = 0x10_1000\nsize = \"4KiB\"\nguest_addr = 0x2000_0000\n\
                irq = 11\nguest_irq = 12\ncompatible = \"google,goldfish-rtc\"\ndma = \"none\"\n";
    let config = parse("vm", Isa::Riscv64, text).unwrap();
    let device = PassedDevice {
        id: "rtc".into(),
        registers: Some(PassedRegisters {
            host: HostPhysAddr::new(0x10_1000),
            guest: GuestPhysAddr::new(0x2000_0000),
            size: 0x1000,
        }),
        ports: None,
        irq: Some(PassedIrq {
            host: 11,
            guest: 12,
        }),
        compatible: Some("google,goldfish-rtc".into()),
        dma: Dma::None,
    };
    assert_eq!(config.passed, core::slice::from_ref(&device));
    assert_eq!(
        device.to_string(),
        "device \"rtc\" of the machine: 0x101000 to 0x101fff, for the guest at 0x20000000, interrupt 11, for the guest 12, no DMA"
    );
    let text =
        "[[devices.passthrough]]\nid = \"com2\"\nports = [0x2f8, 8]\nirq = 3\ndma = \"trusted\"\n";
    let config = parse("vm", Isa::X86_64, text).unwrap();
    let [device] = &config.passed[..] else {
        panic!("{:?}", config.passed);
    };
    assert_eq!(
        device.ports.map(|ports| (ports.first, ports.count)),
        Some((0x2f8, 8))
    );
    assert_eq!(
        device.to_string(),
        "device \"com2\" of the machine: ports 0x2f8 to 0x2ff, interrupt 3, DMA: it reaches ALL memory, the guest is trusted with that"
    );
}

#[test]
fn what_is_said_of_dma_is_said_in_words() {
    let text = "[[devices.passthrough]]\nid = \"d\"\naddr = 0x10_1000\nsize = 4096\n";
    let errors = parse("vm", Isa::Riscv64, text).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("vm.toml:9: devices.passthrough[0].dma: missing: \"none\"")
            && errors[0].contains("no IOMMU")
            && errors[0].contains("reaches all memory"),
        "{errors:?}"
    );
    let text = format!("{text}dma = \"some\"\n");
    let errors = parse("vm", Isa::Riscv64, &text).unwrap_err();
    assert!(
        errors[0].contains("must be one of \"none\", \"trusted\""),
        "{errors:?}"
    );
}

#[test]
fn each_value_has_its_rule() {
    let riscv = [
        (
            "",
            ".addr: missing: where its registers are, `addr` and `size`",
        ),
        ("addr = 0x10_1000", ".size: missing"),
        (
            "addr = 0x10_1010\nsize = 4096",
            ".addr: must be a multiple of 4 KiB",
        ),
        (
            "addr = 0x10_1000\nsize = 0x100",
            ".size: must be a multiple of 4 KiB, and not 0",
        ),
        (
            "addr = 0x10_1000\nsize = 0",
            ".size: must be a multiple of 4 KiB, and not 0",
        ),
        (
            "addr = 0x40_0000_0000\nsize = \"1025GiB\"",
            ".size: must not be more than 1 TiB",
        ),
        (
            "addr = 0x40_0000_0000\nsize = \"1028MiB\"\nguest_addr = 0x40_0000_1000",
            ".guest_addr: must be `addr` plus or minus a multiple of 2 MiB, since `size` is more than 1 GiB",
        ),
        (
            "addr = 0x1000\nsize = 4096\nguest_addr = 1",
            ".guest_addr: must be a multiple of 4 KiB",
        ),
        (
            "addr = 0x1000\nsize = 4096\nports = [1, 1]",
            ".ports: means nothing here: only x86",
        ),
        (
            "addr = 0x1000\nsize = 4096\nirq = 0",
            ".irq: must be a whole number from 1 to 1023",
        ),
        (
            "addr = 0x1000\nsize = 4096\nirq = 96",
            ".irq: an interrupt that the guest can have for it is 1 to 95, found 96: say `guest_irq`",
        ),
        (
            "addr = 0x1000\nsize = 4096\nirq = 96\nguest_irq = 10",
            ".guest_irq: 10 is the interrupt of device \"uart0\" (there by default) already",
        ),
        (
            "addr = 0x1000\nsize = 4096\nguest_irq = 3",
            ".guest_irq: means nothing without `irq`",
        ),
        (
            "addr = 0x1000\nsize = 4096\ncompatible = \"a b\"",
            ".compatible: must be a device tree's name",
        ),
        ("addr = 0x1000\nsize = 4096\nqqq = 1", ".qqq: unknown key"),
        // The guest's own: RAM, PLIC, UART.
        (
            "addr = 0x8000_0000\nsize = 4096",
            ": device \"d\" (0x80000000 to 0x80000fff) overlaps memory region 0",
        ),
        (
            "addr = 0x1000\nsize = 4096\nguest_addr = 0x800f_f000",
            "overlaps memory region 0 (0x80000000 to 0x800fffff, line 7)",
        ),
        (
            "addr = 0xc00_0000\nsize = 4096",
            "overlaps the interrupt controller, which every VM has",
        ),
        (
            "addr = 0x1000_0000\nsize = 4096",
            "overlaps device \"uart0\"",
        ),
    ];
    for (device, rule) in riscv {
        let said = error(Isa::Riscv64, device);
        assert!(said.contains(rule), "{device}: {said}");
    }
    let x86 = [
        ("ports = 3", ".ports: must be a list in brackets"),
        (
            "ports = [3]",
            ".ports: must be the first port and their number",
        ),
        (
            "ports = [0x1_0000, 1]",
            ".ports[0]: must be a whole number from 0 to 65535",
        ),
        (
            "ports = [0x2f8, 0]",
            ".ports[1]: must be a whole number from 1 to 65536",
        ),
        (
            "ports = [0xfff8, 9]",
            ".ports: must end at port 0xffff or below",
        ),
        (
            "ports = [0x2f8, 8]\ncompatible = \"x\"",
            ".compatible: means nothing here",
        ),
        (
            "ports = [0x3f8, 8]",
            "overlaps device \"uart0\" (0x3f8 to 0x3ff, there by default)",
        ),
        ("ports = [0x70, 2]", "overlaps a device that every VM has"),
        ("ports = [0xcf8, 8]", "overlaps a device that every VM has"),
        (
            "ports = [0x2f8, 8]\nirq = 4",
            ".irq: 4 is the interrupt of device \"uart0\" (there by default) already",
        ),
        (
            "ports = [0x2f8, 8]\nirq = 9",
            ".irq: an interrupt that the guest can have for it is 3 to 7, 10 to 12, 14 to 23, found 9: say `guest_irq`",
        ),
        (
            "addr = 0xfee0_0000\nsize = 4096",
            "overlaps the interrupt controller, which every VM has",
        ),
        (
            "addr = 0xfec0_0000\nsize = 0x10_1000",
            "overlaps the interrupt controller, which every VM has",
        ),
        ("addr = 0x0\nsize = 4096", "overlaps memory region 0"),
    ];
    for (device, rule) in x86 {
        let said = error(Isa::X86_64, device);
        assert!(said.contains(rule), "{device}: {said}");
    }
    // Large ones that lie alike, and small ones.
    for device in [
        "addr = 0x40_0000_1000\nsize = \"1TiB\"\nguest_addr = 0x80_0020_1000",
        "addr = 0x40_0000_0000\nsize = \"1GiB\"\nguest_addr = 0x40_0000_1000",
    ] {
        assert_eq!(errors(Isa::Riscv64, device), [""; 0], "{device}");
    }
    // Where PCs have devices, guests may find them.
    assert_eq!(
        errors(Isa::X86_64, "addr = 0xfed0_0000\nsize = 4096\nirq = 20"),
        [""; 0]
    );
}

/// Within one VM, and between the two sides.
#[test]
fn two_devices_of_a_vm_are_two() {
    let a = "[[devices.passthrough]]\nid = \"a\"\naddr = 0x10_1000\nsize = 4096\nirq = 11\ndma = \"none\"\n";
    let b = |text: &str| {
        let text = format!("{a}[[devices.passthrough]]\nid = \"b\"\ndma = \"none\"\n{text}");
        parse("vm", Isa::Riscv64, &text).err().unwrap_or_default()
    };
    assert_eq!(b("addr = 0x10_2000\nsize = 4096\nirq = 12"), [""; 0]);
    for (text, rule) in [
        (
            "addr = 0x10_0000\nsize = \"8KiB\"\nguest_addr = 0x20_0000",
            "vm.toml:18: devices.passthrough[1].addr: 0x100000 to 0x101fff overlaps 0x101000 to 0x101fff of devices.passthrough[0] (line 9)",
        ),
        (
            "addr = 0x10_2000\nsize = 4096\nguest_addr = 0x10_1000",
            "overlaps device \"a\" (0x101000 to 0x101fff, line 9)",
        ),
        (
            "addr = 0x10_2000\nsize = 4096\nirq = 11\nguest_irq = 5",
            ".irq: 11 is the interrupt of devices.passthrough[0] (line 9) already",
        ),
        (
            "addr = 0x10_2000\nsize = 4096\nirq = 12\nguest_irq = 11",
            ".guest_irq: 11 is the interrupt of devices.passthrough[0] (line 9) already",
        ),
    ] {
        let errors = b(text);
        assert!(
            errors.len() == 1 && errors[0].contains(rule),
            "{text}: {errors:?}"
        );
    }
    let twice = format!(
        "{a}{}",
        a.replace("0x10_1000", "0x20_0000").replace("11", "12")
    );
    let errors = parse("vm", Isa::Riscv64, &twice).unwrap_err();
    assert!(
        errors[0].contains("\"a\" is the name of devices.passthrough[0] (line 9) already"),
        "{errors:?}"
    );
}

#[test]
fn a_tree_of_its_own_has_its_own_nodes() {
    let text = "[base]\nid = 1\nphys_cpu_sets = [1]\n[kernel]\nkernel_path = \"k\"\ndtb_path = \"d\"\nmemory_regions = [\"1MiB\"]\n\
                [[devices.passthrough]]\nid = \"d\"\naddr = 0x1000\nsize = 4096\ndma = \"none\"\ncompatible = \"x\"\n";
    let errors = VmConfig::parse("vm.toml", text, Isa::Riscv64).unwrap_err();
    let said = errors[0].to_string();
    assert!(
        said.contains(
            "devices.passthrough[0].compatible: does not reach the guest beside kernel.dtb_path"
        ),
        "{said}"
    );
}

fn machine(devices: Option<MachineDevices>) -> MachineLimits {
    MachineLimits {
        pcpus: 4,
        ram_bytes: 1 << 30,
        guest_phys_bits: 41,
        devices,
    }
}

fn vm(name: &str, isa: Isa, device: &str) -> VmConfig {
    let text = format!("[[devices.passthrough]]\nid = \"{name}0\"\ndma = \"none\"\n{device}\n");
    parse(name, isa, &text).unwrap()
}

fn refusals(configs: &[VmConfig], machine: &MachineLimits) -> Vec<String> {
    let refusals = validate(configs, machine).err().unwrap_or_default();
    refusals.iter().map(ToString::to_string).collect()
}

#[test]
fn a_device_has_one_owner() {
    let a = vm(
        "a",
        Isa::Riscv64,
        "addr = 0x10_1000\nsize = \"8KiB\"\nirq = 11",
    );
    let b = vm(
        "bb",
        Isa::Riscv64,
        "addr = 0x10_2000\nsize = \"8KiB\"\nguest_addr = 0x7000\nirq = 11\nguest_irq = 3",
    );
    let c = vm(
        "ccc",
        Isa::Riscv64,
        "addr = 0x10_3000\nsize = 4096\nguest_addr = 0x10_1000\nirq = 12\nguest_irq = 11",
    );
    let machine = machine(None);
    assert_eq!(validate(&[a.clone(), c.clone()], &machine), Ok(()));
    // Whoever is refused has taken nothing of the third.
    assert_eq!(
        refusals(&[a, b, c], &machine),
        [
            "bb.toml:12: devices.passthrough[0].addr: 0x102000 to 0x103fff overlaps 0x101000 to 0x102fff, device \"a0\" of VM \"a\" (a.toml:9)",
            "bb.toml:15: devices.passthrough[0].irq: interrupt 11 is that of device \"a0\" of VM \"a\" (a.toml:9)",
        ]
    );
    let ports = |name| vm(name, Isa::X86_64, "ports = [0x2f8, 8]");
    assert_eq!(
        refusals(&[ports("a"), ports("bb")], &machine),
        [
            "bb.toml:12: devices.passthrough[0].ports: ports 0x2f8 to 0x2ff overlaps ports 0x2f8 to 0x2ff, device \"a0\" of VM \"a\" (a.toml:9)"
        ]
    );
}

#[test]
fn what_only_the_machine_knows() {
    let at = |space, first, size, what| Taken {
        range: HostRange { space, first, size },
        what,
    };
    let irq = |number, trigger, owner| MachineIrq {
        number,
        trigger,
        owner,
    };
    let machine = machine(Some(MachineDevices {
        taken: vec![
            at(DeviceSpace::Memory, 0x8000_0000, 1 << 30, "RAM"),
            at(
                DeviceSpace::Memory,
                0x1000_0000,
                0x100,
                "the hypervisor's console",
            ),
            at(DeviceSpace::Ports, 0xb000, 2, "the power switch"),
        ],
        masters: vec![Master {
            range: HostRange {
                space: DeviceSpace::Memory,
                first: 0xfed0_0000,
                size: 0x400,
            },
            what: "an HPET",
            how: "stores to memory",
        }],
        irqs: vec![
            irq(10, IrqTrigger::Level, Some("the hypervisor's console")),
            irq(11, IrqTrigger::Level, None),
            irq(3, IrqTrigger::Edge, None),
            irq(20, IrqTrigger::Level, None),
        ],
        phys_bits: 56,
    }));
    let riscv = |device| refusals(&[vm("a", Isa::Riscv64, device)], &machine);
    assert_eq!(riscv("addr = 0x10_1000\nsize = 4096\nirq = 11"), [""; 0]);
    for (device, rule) in [
        (
            "addr = 0xbfff_f000\nsize = \"8KiB\"\nguest_addr = 0x2000_0000",
            "a.toml:12: devices.passthrough[0].addr: 0xbffff000 to 0xc0000fff overlaps RAM of this machine (0x80000000 to 0xbfffffff), which no VM can have",
        ),
        (
            "addr = 0x1000_0000\nsize = 4096\nguest_addr = 0x2000_0000",
            "overlaps the hypervisor's console of this machine (0x10000000 to 0x100000ff)",
        ),
        (
            "addr = 0x1000\nsize = 4096\nirq = 10\nguest_irq = 11",
            "a.toml:14: devices.passthrough[0].irq: interrupt 10 is the hypervisor's console's, which no VM can have",
        ),
        (
            "addr = 0x1000\nsize = 4096\nirq = 12",
            "a.toml:14: devices.passthrough[0].irq: this machine has no interrupt 12 that a VM could have",
        ),
        (
            "addr = 0x100_0000_0000_0000\nsize = 4096\nguest_addr = 0x1000",
            "is past the 56 bits of address of this machine",
        ),
    ] {
        let said = riscv(device);
        assert!(
            said.len() == 1 && said[0].contains(rule),
            "{device}: {said:#?}"
        );
    }
    let pc = |device| refusals(&[vm("a", Isa::X86_64, device)], &machine);
    let mut trusted = vm("a", Isa::X86_64, "addr = 0xfed0_0000\nsize = 4096");
    trusted.passed[0].dma = Dma::Trusted;
    assert_eq!(refusals(&[trusted], &machine), [""; 0]);
    assert_eq!(pc("ports = [0x2f8, 8]\nirq = 3"), [""; 0]);
    assert_eq!(pc("ports = [0x2f8, 8]\nirq = 20"), [""; 0]);
    for (device, rule) in [
        (
            "addr = 0xfed0_0000\nsize = 4096",
            "a.toml:11: devices.passthrough[0].dma: 0xfed00000 to 0xfed00fff has an HPET of this machine (0xfed00000 to 0xfed003ff), which stores to memory: \"trusted\" is the word for that",
        ),
        (
            "ports = [0xb001, 4]",
            "a.toml:12: devices.passthrough[0].ports: ports 0xb001 to 0xb004 overlaps the power switch of this machine (ports 0xb000 to 0xb001)",
        ),
        (
            "ports = [0x2f8, 8]\nirq = 3\nguest_irq = 16",
            "a.toml:14: devices.passthrough[0].guest_irq: interrupt 3 of this machine asks by its edge, which 16 does not in a VM: take one of 3 to 7, 10 to 12, 14 or 15",
        ),
        (
            "ports = [0x2f8, 8]\nirq = 20\nguest_irq = 5",
            "asks by its level, which 5 does not in a VM: take one of 16 to 23",
        ),
    ] {
        let said = pc(device);
        assert!(
            said.len() == 1 && said[0].contains(rule),
            "{device}: {said:#?}"
        );
    }
}
