//! The UART that the tree chooses, and how its registers lie.

use super::*;

#[test]
fn stdout_path_chooses_the_uart() {
    const OTHER: u64 = 0x1000_1000;
    let mut tree = virt(0..1);
    tree.serials.push(serial(OTHER));
    tree.aliases.push(("serial1", "/soc/serial@10001000"));
    tree.aliases.push(("loop", "loop"));
    let mut uart = |path| {
        tree.stdout = path;
        tree.read().unwrap().uart.map(|uart| uart.base as u64)
    };
    for path in [
        "/soc/serial@10001000",
        "/soc/serial@10001000:115200n8",
        "serial1",
        "serial1:115200n8",
    ] {
        assert_eq!(uart(Some(path)), Some(OTHER), "{path}");
    }
    // What names nothing chooses nothing.
    for path in [
        None,
        Some(""),
        Some("serial7"),
        Some("loop"),
        Some("/x:9600"),
    ] {
        assert_eq!(uart(path), Some(SERIAL), "{path:?}");
    }
    // What is no 16550 is left to the firmware.
    assert_eq!(uart(Some("/soc/plic@c000000")), None);
}

#[test]
fn a_uart_must_be_in_order_and_drivable() {
    const OTHER: u64 = 0x1000_1000;
    let bad = [
        Serial {
            status: Some("disabled"),
            ..serial(SERIAL)
        },
        Serial {
            compatible: "sifive,uart0",
            ..serial(SERIAL)
        },
        Serial {
            numbers: vec![("reg-io-width", 2)],
            ..serial(SERIAL)
        },
        Serial {
            numbers: vec![("reg-io-width", 4)],
            ..serial(SERIAL)
        },
        Serial {
            numbers: vec![("reg-shift", 64)],
            ..serial(SERIAL)
        },
        Serial {
            numbers: vec![("reg-io-width", 4), ("reg-shift", 2)],
            ..serial(SERIAL + 2)
        },
    ];
    for bad in bad {
        let mut tree = virt(0..1);
        tree.stdout = None;
        tree.serials = vec![bad.clone(), serial(OTHER)];
        let uart = tree.read().unwrap().uart;
        assert_eq!(uart.map(|uart| uart.base as u64), Some(OTHER), "{bad:?}");
        tree.serials = vec![bad.clone()];
        assert_eq!(tree.read().unwrap().uart, None, "{bad:?}");
    }
}

#[test]
fn a_uart_s_registers_are_as_the_tree_says() {
    let mut tree = virt(0..1);
    tree.serials = vec![Serial {
        compatible: "snps,dw-apb-uart",
        numbers: vec![("reg-shift", 2), ("reg-io-width", 4)],
        // Of several interrupts, the first.
        interrupts: vec![32, 33],
        ..serial(SERIAL)
    }];
    let expected = Uart {
        base: SERIAL as usize,
        stride: 4,
        width: Width::Word,
        irq: Some(32),
    };
    assert_eq!(tree.read().unwrap().uart, Some(expected));
    tree.serials[0].numbers = vec![("reg-shift", 2)];
    tree.serials[0].interrupts = vec![];
    let expected = Uart {
        width: Width::Byte,
        irq: None,
        ..expected
    };
    assert_eq!(tree.read().unwrap().uart, Some(expected));
}
