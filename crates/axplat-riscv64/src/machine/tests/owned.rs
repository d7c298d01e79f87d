//! What no VM can have.

use super::*;

/// What owns an address.
fn owner(machine: &Machine, address: u64) -> Option<&'static str> {
    let address = address as usize;
    let mut owned = machine.owned();
    let found = owned.find(|owned| (owned.start..owned.start + owned.size).contains(&address));
    found.map(|owned| owned.what)
}

/// The first is driven here, the others are other harts'.
#[test]
fn every_plic_is_owned() {
    let mut tree = virt(0..1);
    tree.others = vec![("riscv,plic0", 0x0c60_0000)];
    let machine = tree.read().unwrap();
    assert_eq!(machine.plic, Some(PLIC as usize));
    let plic = Some("an interrupt controller (PLIC)");
    for address in [PLIC, PLIC + 0x5f_ffff, 0x0c60_0fff] {
        assert_eq!(owner(&machine, address), plic, "{address:#x}");
    }
    assert_eq!(owner(&machine, 0x0c60_1000), None);
}

/// Whether they are in order or not.
#[test]
fn pci_hosts_and_flashes_are_owned() {
    let mut tree = virt(0..1);
    tree.others = vec![
        ("pci-host-ecam-generic", 0x3000_0000),
        ("cfi-flash", 0x2000_0000),
        ("google,goldfish-rtc", 0x10_1000),
    ];
    let machine = tree.read().unwrap();
    assert_eq!(owner(&machine, 0x3000_0000), Some("PCI configuration"));
    assert_eq!(owner(&machine, 0x2000_0000), Some("the firmware's flash"));
    assert_eq!(owner(&machine, 0x10_1000), None);
}

/// Whatever it is called: what interrupts a hart without a controller between is one, or the firmware's timer.
#[test]
fn what_leads_to_harts_or_to_pci_is_owned_by_any_name() {
    let mut tree = virt(0..1);
    tree.at_harts = vec![("vendor,timer", 0x0200_0000)];
    tree.pci = Some(("vendor,pcie", 0x3000_0000));
    tree.others = vec![("vendor,other", 0x10_1000)];
    let machine = tree.read().unwrap();
    let firmware = Some("a timer or interrupt controller that is the firmware's");
    assert_eq!(owner(&machine, 0x0200_0000), firmware);
    assert_eq!(owner(&machine, 0x3000_0fff), Some("PCI configuration"));
    assert_eq!(owner(&machine, 0x10_1000), None);
}

/// The firmware speaks there for the hypervisor, if that has no driver.
#[test]
fn what_stdout_path_names_is_owned() {
    const CONSOLE: Option<&str> = Some("the hypervisor's console");
    let sources = |machine: &Machine| {
        let sources = 0..1024;
        sources
            .filter(|&source| machine.is_console_source(source))
            .collect::<Vec<_>>()
    };
    let mut tree = virt(0..1);
    let machine = tree.read().unwrap();
    assert_eq!(owner(&machine, SERIAL), CONSOLE);
    assert_eq!(sources(&machine), [10]);

    tree.others = vec![("sifive,uart0", 0x1001_0000)];
    tree.stdout = Some("/soc/other@10010000:115200");
    let machine = tree.read().unwrap();
    assert_eq!(machine.uart, None);
    assert_eq!(owner(&machine, 0x1001_0000), CONSOLE);
    assert_eq!(sources(&machine), [33, 34]);
    // It is a UART like any other now.
    assert_eq!(owner(&machine, SERIAL), None);
}
