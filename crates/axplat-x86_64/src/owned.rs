//! What of the machine's addresses and interrupts is nobody's to give away.

use crate::{
    acpi::{hpet, madt::Trigger},
    console, irq,
    machine::Machine,
};

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Memory.
    Memory,
    /// I/O ports.
    Ports,
}

/// Addresses, and what makes them special: most are the hypervisor's or the firmware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Where.
    pub space: Space,
    /// The first.
    pub start: usize,
    /// How many.
    pub size: usize,
    /// What is there.
    pub what: &'static str,
}

/// An input of the I/O APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its global system interrupt.
    pub gsi: u32,
    /// Whether a level asks, or an edge.
    pub is_level: bool,
    /// Whether the hypervisor has it: for its console.
    pub is_own: bool,
}

impl Machine {
    /// What no VM can have: RAM, what starting CPUs need, interrupt controllers, PCI's configuration, what powers the machine off, the console.
    ///
    /// What firmware only wants to be left alone is not among it: many a device lies there.
    pub fn owned(&self) -> impl Iterator<Item = Owned> {
        const FIXED: [(Space, usize, usize, &str); 6] = [
            (Space::Memory, 0, 1 << 20, "the first MiB"),
            // Wherever the local APICs are, here their messages go.
            (Space::Memory, 0xfee0_0000, 1 << 20, "the local APICs"),
            // What the chipset decodes for the CPU's first instruction.
            (Space::Memory, 0xff00_0000, 16 << 20, "the firmware's flash"),
            (Space::Ports, 0, 0x100, "the main board"),
            (
                Space::Ports,
                0xcf8,
                8,
                "PCI configuration and the reset control",
            ),
            (
                Space::Ports,
                console::PORTS.0,
                console::PORTS.1,
                "the hypervisor's console",
            ),
        ];
        let fixed = FIXED.into_iter();
        let memory = self.memory.as_slice().iter();
        let memory = memory.map(|&(start, size)| (Space::Memory, start, size, "RAM"));
        let controllers = self.mmio.as_slice().iter();
        let controllers = controllers
            .map(|&(start, size)| (Space::Memory, start, size, "an interrupt controller (APIC)"));
        let pci = self.pci_config.as_slice().iter();
        let pci = pci.map(|&(start, size)| (Space::Memory, start, size, "PCI configuration"));
        let power = self.power_ports.into_iter().flatten();
        let power = power.map(|(port, size)| {
            (
                Space::Ports,
                usize::from(port),
                usize::from(size),
                "the power switch (ACPI)",
            )
        });
        let all = fixed
            .chain(memory)
            .chain(controllers)
            .chain(pci)
            .chain(power);
        all.map(|(space, start, size, what)| Owned {
            space,
            start,
            size,
            what,
        })
    }

    /// Where there are devices that store to memory though one would not think so: a timer of the HPET does for its interrupt, a value and an
    /// address of its driver's choice (IA-PC HPET specification 1.0a, 2.3.8.2, `Tn_FSB_INT_ADDR`).
    pub fn masters(&self) -> impl Iterator<Item = Owned> {
        let elsewhere = self.hpet.filter(|&at| at != hpet::USUAL);
        let hpets = [hpet::USUAL].into_iter().chain(elsewhere);
        hpets.map(|start| Owned {
            space: Space::Memory,
            start,
            size: hpet::SIZE,
            what: "an HPET",
        })
    }

    /// The inputs of the I/O APICs, as far as there are vectors for them.
    pub fn inputs(&self) -> impl Iterator<Item = Input> {
        let console = console::isa_irq().and_then(|irq| self.gsi_of_isa(irq));
        let gsis = self.io_apics().iter().flat_map(|apic| {
            let inputs = crate::ioapic::inputs(apic);
            apic.first_gsi..apic.first_gsi.saturating_add(inputs)
        });
        gsis.filter(|&gsi| irq::has_vector(gsi))
            .map(move |gsi| Input {
                gsi,
                is_level: match self.signal_of_gsi(gsi).trigger {
                    Trigger::Edge => false,
                    Trigger::Level => true,
                },
                is_own: console == Some(gsi),
            })
    }
}

/// How many bits a physical address has.
#[must_use]
pub fn phys_bits() -> u32 {
    /// What a CPU has that does not say (Intel SDM volume 3, "Physical Address Space").
    const LEAST: u32 = 36;
    let capacity = raw_cpuid::CpuId::new().get_processor_capacity_feature_info();
    capacity.map_or(LEAST, |info| info.physical_address_bits().into())
}
