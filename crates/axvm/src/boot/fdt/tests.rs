use fdt::{Fdt, node::FdtNode};

use super::*;
use crate::boot::testing::range;
use crate::testing::extensions_of;

fn isa() -> IsaInfo {
    IsaInfo {
        extensions: extensions_of("rv64imafdc_zicbom_zicsr_sstc"),
        mmu_type: Some("riscv,sv57".into()),
        cbom_block_size: Some(64),
        cbop_block_size: None,
        cboz_block_size: Some(32),
    }
}

fn with_tree(change: impl FnOnce(&mut GuestTree<'_>), look: impl FnOnce(Fdt<'_>)) {
    let isa = isa();
    let memory = [
        range(0x8000_0000, 0x1000_0000),
        range(0x1_0000_0000, 0x4000_0000),
    ];
    let uarts = [
        UartNode {
            window: Window::new(0x1000_0000, 0x100),
            irq: 10,
        },
        UartNode {
            window: Window::new(0x1000_1000, 0x100),
            irq: 11,
        },
    ];
    let passed = [
        PassedNode {
            window: Window::new(0x10_1000, 0x1000),
            irq: Some(12),
            compatible: "google,goldfish-rtc",
        },
        PassedNode {
            window: Window::new(0x2000_0000, 0x2000),
            irq: None,
            compatible: "axhv,test",
        },
    ];
    let mut tree = GuestTree {
        name: "linux",
        cmdline: Some("console=ttyS0 quiet"),
        ramdisk: Some(range(0x8800_0000, 0x1234)),
        memory: &memory,
        cpus: 2,
        timebase_hz: 10_000_000,
        isa: &isa,
        plic: PlicNode {
            window: Window::new(0xc00_0000, 0x60_0000),
            sources: 95,
        },
        uarts: &uarts,
        passed: &passed,
    };
    change(&mut tree);
    let bytes = tree.flatten().unwrap();
    look(Fdt::new(&bytes).unwrap());
}

fn u32s(node: FdtNode<'_, '_>, property: &str) -> Vec<u32> {
    let value = node
        .property(property)
        .unwrap_or_else(|| panic!("no {property}"))
        .value;
    value
        .chunks(4)
        .map(|cell| u32::from_be_bytes(cell.try_into().unwrap()))
        .collect()
}

fn text<'a>(node: FdtNode<'_, 'a>, property: &str) -> &'a str {
    node.property(property)
        .and_then(|property| property.as_str())
        .unwrap()
}

#[test]
fn memory_and_chosen_come_back() {
    with_tree(
        |_| (),
        |fdt| {
            assert_eq!(fdt.root().model(), "AxHV VM linux");
            let regions: Vec<_> = fdt
                .all_nodes()
                .filter(|node| node.name.starts_with("memory@"))
                .flat_map(|node| node.reg().unwrap().collect::<Vec<_>>())
                .map(|region| (region.starting_address as u64, region.size.unwrap()))
                .collect();
            assert_eq!(
                regions,
                [(0x8000_0000, 0x1000_0000), (0x1_0000_0000, 0x4000_0000)]
            );
            assert_eq!(fdt.chosen().bootargs(), Some("console=ttyS0 quiet"));
            let chosen = fdt.find_node("/chosen").unwrap();
            assert_eq!(u32s(chosen, "linux,initrd-start"), [0, 0x8800_0000]);
            assert_eq!(u32s(chosen, "linux,initrd-end"), [0, 0x8800_1234]);
            let console = fdt.chosen().stdout().unwrap();
            assert_eq!(console.name, "serial@10000000");
        },
    );
}

#[test]
fn what_a_vm_does_not_have_is_not_told() {
    with_tree(
        |tree| (tree.cmdline, tree.ramdisk, tree.uarts) = (None, None, &[]),
        |fdt| {
            assert_eq!(fdt.find_node("/chosen").unwrap().properties().count(), 0);
            assert!(fdt.find_compatible(&["ns16550a"]).is_none());
        },
    );
}

#[test]
fn every_hart_tells_what_it_can_do() {
    with_tree(
        |_| (),
        |fdt| {
            let cpus: Vec<_> = fdt.cpus().collect();
            assert_eq!(cpus.len(), 2);
            for (index, cpu) in cpus.iter().enumerate() {
                assert_eq!(cpu.ids().first(), index);
                assert_eq!(cpu.timebase_frequency(), 10_000_000);
            }
            let cpu = fdt.find_node("/cpus/cpu@1").unwrap();
            assert_eq!(text(cpu, "riscv,isa"), "rv64imafdc_zicbom_zicsr_sstc");
            assert_eq!(text(cpu, "riscv,isa-base"), "rv64i");
            let list = cpu.property("riscv,isa-extensions").unwrap().value;
            assert_eq!(list, b"i\0m\0a\0f\0d\0c\0zicbom\0zicsr\0sstc\0");
            assert_eq!(text(cpu, "mmu-type"), "riscv,sv57");
            assert_eq!(u32s(cpu, "riscv,cbom-block-size"), [64]);
            assert_eq!(u32s(cpu, "riscv,cboz-block-size"), [32]);
            assert!(cpu.property("riscv,cbop-block-size").is_none());
        },
    );
}

#[test]
fn a_wide_timebase_takes_two_cells() {
    with_tree(
        |tree| tree.timebase_hz = 0x1_0000_0001,
        |fdt| {
            assert_eq!(
                u32s(fdt.find_node("/cpus").unwrap(), "timebase-frequency"),
                [1, 1]
            );
        },
    );
}

#[test]
fn interrupts_lead_from_the_uart_by_the_plic_to_the_harts() {
    with_tree(
        |_| (),
        |fdt| {
            let uart = fdt.find_node("/soc/serial@10000000").unwrap();
            assert_eq!(u32s(uart, "interrupts"), [10]);
            assert_eq!(uart.reg().unwrap().next().unwrap().size, Some(0x100));
            let plic = fdt.find_phandle(u32s(uart, "interrupt-parent")[0]).unwrap();
            assert_eq!(plic.name, "interrupt-controller@c000000");
            assert_eq!(u32s(plic, "riscv,ndev"), [95]);
            let contexts = u32s(plic, "interrupts-extended");
            assert_eq!(
                contexts.len(),
                2 * 2 * 2,
                "two cells for each of two contexts of two harts"
            );
            for (hart, context) in contexts.chunks(4).enumerate() {
                assert_eq!(context[0], context[2]);
                assert_eq!((context[1], context[3]), (u32::MAX, 9));
                let intc = fdt
                    .find_node(&format!("/cpus/cpu@{hart}/interrupt-controller"))
                    .unwrap();
                assert_eq!(u32s(intc, "phandle"), [context[0]]);
            }
        },
    );
}

#[test]
fn devices_of_the_machine_have_nodes_of_what_is_known() {
    with_tree(
        |_| (),
        |fdt| {
            let rtc = fdt.find_node("/soc/device@101000").unwrap();
            assert_eq!(text(rtc, "compatible"), "google,goldfish-rtc");
            assert_eq!(u32s(rtc, "reg"), [0, 0x10_1000, 0, 0x1000]);
            assert_eq!(u32s(rtc, "interrupts"), [12]);
            let plic = fdt.find_node("/soc/interrupt-controller@c000000").unwrap();
            assert_eq!(u32s(rtc, "interrupt-parent"), u32s(plic, "phandle"));
            let other = fdt.find_node("/soc/device@20000000").unwrap();
            assert_eq!(u32s(other, "reg"), [0, 0x2000_0000, 0, 0x2000]);
            assert!(other.property("interrupts").is_none());
        },
    );
}
