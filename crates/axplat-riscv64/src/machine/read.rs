//! Reads a [`Machine`] from a device tree (Devicetree Specification; Linux's bindings for what it leaves open).

use core::ops::Range;

use axplat_ranges::Ranges;
use fdt::{Fdt, node::FdtNode};

use super::{
    Hart, Machine, Uart, Unusable,
    owned::{ConsoleInterrupts, OwnedList},
};
use crate::{config::plat::MAX_CPU_NUM, uart::Width};

const UARTS: &[&str] = &["ns16550a", "ns16550", "snps,dw-apb-uart"];
const PLICS: &[&str] = &["sifive,plic-1.0.0", "riscv,plic0"];
const AIAS: &[&str] = &["riscv,imsics", "riscv,aplic"];
/// What the firmware drives, or the hypervisor if ever it does: timers, IPIs, interrupt files.
const FIRMWARES: &[&str] = &[
    "sifive,clint0",
    "riscv,clint0",
    "thead,c900-clint",
    "riscv,aclint-mswi",
    "riscv,aclint-mtimer",
    "riscv,aclint-sswi",
    "thead,c900-aclint-mswi",
    "thead,c900-aclint-mtimer",
    "riscv,imsics",
    "riscv,aplic",
];
/// What has a say in devices that are others', and the firmware's own memory.
const PCI_HOSTS: &[&str] = &["pci-host-ecam-generic", "pci-host-cam-generic"];
const FLASHES: &[&str] = &["cfi-flash", "jedec-flash"];
const FINISHERS: &[&str] = &["sifive,test1", "sifive,test0"];

/// A node of the firmware's tree.
type Node<'b> = FdtNode<'b, 'static>;

impl Machine {
    /// Reads the machine from the device tree at physical address `dtb`, on the hart that the firmware started.
    pub(super) fn read(
        tree: &Fdt<'static>,
        dtb: usize,
        boot_hart: usize,
    ) -> Result<Self, Unusable> {
        let chosen = tree.find_node("/chosen");
        // The boot hart runs, whatever its status says.
        let boot_cpu = cpu_nodes(tree)
            .find(|&cpu| hart_id(cpu) == Some(boot_hart))
            .ok_or(Unusable::NoBootHart(boot_hart))?;
        let uart = console_uart(tree);
        let plic = find_usable(tree, PLICS);
        let finisher = find_usable(tree, FINISHERS);
        let block = |name| number(boot_cpu, name).and_then(|bytes| u32::try_from(bytes).ok());

        let mut machine = Self {
            harts: [Hart {
                id: boot_hart,
                plic_context: None,
            }; MAX_CPU_NUM],
            hart_count: 0,
            unused_harts: 0,
            ram: ram(tree)?,
            reserved: Ranges::new(),
            mmio: Ranges::new(),
            owned: OwnedList::new(),
            plic_sources: plic
                .and_then(|plic| number(plic, "riscv,ndev"))
                .and_then(|sources| u32::try_from(sources).ok())
                .unwrap_or(0),
            console_interrupts: ConsoleInterrupts::default(),
            uart: uart.and_then(as_uart),
            plic: plic.and_then(first_reg).map(|(base, _)| base),
            finisher: finisher.and_then(first_reg).map(|(base, _)| base),
            timebase_hz: timebase_hz(tree, boot_cpu).ok_or(Unusable::NoTimebase)?,
            isa: text(boot_cpu, "riscv,isa").unwrap_or(""),
            isa_extensions: boot_cpu
                .property("riscv,isa-extensions")
                .map_or(&[], |p| p.value),
            mmu_type: text(boot_cpu, "mmu-type").unwrap_or(""),
            cache_blocks: [
                block("riscv,cbom-block-size"),
                block("riscv,cboz-block-size"),
            ],
            initrd: chosen.and_then(initrd),
            bootargs: chosen.and_then(|node| text(node, "bootargs")).unwrap_or(""),
            has_aia: find_usable(tree, AIAS).is_some(),
        };
        machine.reserved = reserved(tree, dtb, machine.initrd.as_ref())?;
        for (base, size) in [uart, plic, finisher]
            .into_iter()
            .flatten()
            .filter_map(first_reg)
        {
            machine
                .mmio
                .add_outward(base, size)
                .map_err(|_| Unusable::TooManyRanges("device registers"))?;
        }
        // Where the firmware has its console, if not the hypervisor: that is its to drive.
        let console = uart.or_else(|| stdout(tree));
        machine.own(tree, console, finisher)?;
        machine.add_hart(boot_cpu, plic);
        for cpu in cpu_nodes(tree).filter(|&cpu| is_usable(cpu)) {
            if hart_id(cpu) != Some(boot_hart) {
                machine.add_hart(cpu, plic);
            }
        }
        Ok(machine)
    }

    /// Notes the registers of what is driven here, and of what the firmware drives.
    fn own(
        &mut self,
        tree: &Fdt<'static>,
        console: Option<Node<'_>>,
        finisher: Option<Node<'_>>,
    ) -> Result<(), Unusable> {
        for (node, what) in [
            (console, "the hypervisor's console"),
            (finisher, "the power switch"),
        ] {
            for (start, size) in node.into_iter().flat_map(regs) {
                self.owned.add(start, size, what)?;
            }
        }
        let interrupts = |name| console.and_then(|node| node.property(name));
        self.console_interrupts = ConsoleInterrupts {
            plain: interrupts("interrupts").map_or(&[], |p| p.value),
            extended: interrupts("interrupts-extended").map_or(&[], |p| p.value),
        };
        // Whatever its status says, it is there.
        for node in tree.all_nodes() {
            let Some(what) = owner(tree, node) else {
                continue;
            };
            for (start, size) in regs(node) {
                self.owned.add(start, size, what)?;
            }
        }
        Ok(())
    }

    fn add_hart(&mut self, cpu: Node<'_>, plic: Option<Node<'_>>) {
        let Some(id) = hart_id(cpu) else { return };
        match self.harts.get_mut(self.hart_count) {
            Some(slot) => {
                *slot = Hart {
                    id,
                    plic_context: plic.and_then(|plic| plic_context(plic, cpu)),
                };
                self.hart_count += 1;
            }
            None => self.unused_harts += 1,
        }
    }
}

/// What a device is that the hypervisor or the firmware drives, or that has a say in others; `None`: a VM may have it.
fn owner(tree: &Fdt<'static>, node: Node<'_>) -> Option<&'static str> {
    // Each leads to harts, this image's or not.
    if is_compatible(node, PLICS) {
        Some("an interrupt controller (PLIC)")
    } else if is_compatible(node, FIRMWARES) || interrupts_harts(tree, node) {
        Some("a timer or interrupt controller that is the firmware's")
    } else if text(node, "device_type") == Some("pci") || is_compatible(node, PCI_HOSTS) {
        Some("PCI configuration")
    } else if is_compatible(node, FLASHES) {
        Some("the firmware's flash")
    } else {
        None
    }
}

/// Whether its interrupt leads to a hart, and not to an interrupt controller of the machine's: then it is a controller itself, or the firmware's timer.
fn interrupts_harts(tree: &Fdt<'static>, node: Node<'_>) -> bool {
    let extended = node.property("interrupts-extended");
    let to = extended.and_then(|property| cells(property.value).next());
    to.is_some_and(|to| cpu_nodes(tree).any(|cpu| own_controller(cpu) == Some(to)))
}

// --- Memory ---

fn ram(tree: &Fdt<'static>) -> Result<Ranges, Unusable> {
    let mut ram = Ranges::new();
    let nodes = tree
        .all_nodes()
        .filter(|&node| text(node, "device_type") == Some("memory") && is_usable(node));
    for (start, size) in nodes.flat_map(regs) {
        ram.add_inward(start, size)
            .map_err(|_| Unusable::TooManyRanges("RAM"))?;
    }
    if ram.as_slice().is_empty() {
        return Err(Unusable::NoRam);
    }
    Ok(ram)
}

/// What the firmware keeps for itself, the tree, and what the bootloader handed over.
fn reserved(
    tree: &Fdt<'static>,
    dtb: usize,
    initrd: Option<&Range<usize>>,
) -> Result<Ranges, Unusable> {
    let mut reserved = Ranges::new();
    let listed = tree
        .memory_reservations()
        .map(|range| (range.address() as usize, range.size()));
    let parent = tree.find_node("/reserved-memory");
    let nodes = parent
        .into_iter()
        .flat_map(|parent| parent.children())
        .flat_map(regs);
    let ours = [(dtb, tree.total_size())];
    let initrd = initrd.map(|range| (range.start, range.len()));
    for (start, size) in listed.chain(nodes).chain(ours).chain(initrd) {
        reserved
            .add_outward(start, size)
            .map_err(|_| Unusable::TooManyRanges("reserved memory"))?;
    }
    Ok(reserved)
}

fn initrd(chosen: Node<'_>) -> Option<Range<usize>> {
    let start = number(chosen, "linux,initrd-start")? as usize;
    let end = number(chosen, "linux,initrd-end")? as usize;
    (start < end).then_some(start..end)
}

// --- CPUs ---

fn cpu_nodes<'b>(tree: &'b Fdt<'static>) -> impl Iterator<Item = Node<'b>> {
    let cpus = tree.find_node("/cpus");
    cpus.into_iter()
        .flat_map(|cpus| cpus.children())
        .filter(|&node| text(node, "device_type") == Some("cpu"))
}

fn hart_id(cpu: Node<'_>) -> Option<usize> {
    Some(number(cpu, "reg")? as usize)
}

/// One for all harts, or each hart's own (Devicetree Specification, "/cpus/cpu* Node Properties").
fn timebase_hz(tree: &Fdt<'static>, boot_cpu: Node<'_>) -> Option<u64> {
    let common = tree
        .find_node("/cpus")
        .and_then(|cpus| number(cpus, "timebase-frequency"));
    common
        .or_else(|| number(boot_cpu, "timebase-frequency"))
        .filter(|&hz| hz != 0)
}

/// The number of the supervisor external interrupt at a hart's own interrupt controller.
const SUPERVISOR_EXTERNAL: u32 = 9;

/// The phandle of a hart's own interrupt controller.
fn own_controller(cpu: Node<'_>) -> Option<u32> {
    let controller = cpu
        .children()
        .find(|node| node.property("interrupt-controller").is_some())?;
    cells(controller.property("phandle")?.value).next()
}

/// The position of a hart's supervisor external interrupt in the PLIC's `interrupts-extended` is its context's number.
fn plic_context(plic: Node<'_>, cpu: Node<'_>) -> Option<usize> {
    let phandle = own_controller(cpu)?;
    let mut extended = cells(plic.property("interrupts-extended")?.value);
    // A hart's controller takes one cell, so each entry is two.
    core::iter::from_fn(|| Some((extended.next()?, extended.next()?)))
        .position(|entry| entry == (phandle, SUPERVISOR_EXTERNAL))
}

// --- The UART ---

/// The UART at which somebody listens: what `stdout-path` names, or where it names nothing, the first that can be driven.
///
/// If it names something else than a UART that can be driven, there is none: the firmware's console is there, and another UART would be silence.
fn console_uart<'b>(tree: &'b Fdt<'static>) -> Option<Node<'b>> {
    match stdout(tree) {
        Some(node) => as_uart(node).map(|_| node),
        None => tree.all_nodes().find(|&node| as_uart(node).is_some()),
    }
}

/// `stdout-path` is a path or an alias, with options after a colon: "serial0:115200n8".
fn stdout<'b>(tree: &'b Fdt<'static>) -> Option<Node<'b>> {
    let named = text(tree.find_node("/chosen")?, "stdout-path")?;
    let name = named.split(':').next()?;
    let path = if name.starts_with('/') {
        name
    } else {
        text(tree.find_node("/aliases")?, name)?
    };
    // Not an alias again: aliases that name each other would be followed for ever.
    path.starts_with('/').then(|| tree.find_node(path))?
}

/// What a node says of a 16550, if the driver can drive it.
fn as_uart(node: Node<'_>) -> Option<Uart> {
    if !is_compatible(node, UARTS) || !is_usable(node) {
        return None;
    }
    let (base, _) = first_reg(node)?;
    let stride = match number(node, "reg-shift").unwrap_or(0) {
        shift @ 0..=3 => 1 << shift,
        _ => return None,
    };
    let width = match number(node, "reg-io-width").unwrap_or(1) {
        1 => Width::Byte,
        4 if stride >= 4 && base.is_multiple_of(4) => Width::Word,
        _ => return None,
    };
    let interrupts = node.property("interrupts");
    Some(Uart {
        base,
        stride,
        width,
        irq: interrupts
            .and_then(|p| cells(p.value).next())
            .map(|irq| irq as usize),
    })
}

// --- Nodes and properties ---

fn find_usable<'b>(tree: &'b Fdt<'static>, compatible: &[&str]) -> Option<Node<'b>> {
    tree.all_nodes()
        .find(|&node| is_compatible(node, compatible) && is_usable(node))
}

fn is_compatible(node: Node<'_>, with: &[&str]) -> bool {
    text(node, "compatible").is_some_and(|names| names.split('\0').any(|name| with.contains(&name)))
}

/// A node without a status is in order.
fn is_usable(node: Node<'_>) -> bool {
    node.property("status")
        .is_none_or(|status| matches!(status.as_str(), Some("okay" | "ok")))
}

fn text(node: Node<'_>, name: &str) -> Option<&'static str> {
    node.property(name)?.as_str()
}

/// A property of one or two cells as a number.
fn number(node: Node<'_>, name: &str) -> Option<u64> {
    let mut cells = cells(node.property(name)?.value);
    match (cells.next(), cells.next(), cells.next()) {
        (Some(number), None, None) => Some(number.into()),
        (Some(high), Some(low), None) => Some(u64::from(high) << 32 | u64::from(low)),
        _ => None,
    }
}

pub(super) fn cells(value: &'static [u8]) -> impl Iterator<Item = u32> {
    let (cells, _) = value.as_chunks();
    cells.iter().map(|&cell| u32::from_be_bytes(cell))
}

/// The ranges of a node's `reg`: start and size.
fn regs(node: Node<'_>) -> impl Iterator<Item = (usize, usize)> {
    let regs = node.reg().into_iter().flatten();
    regs.map(|region| (region.starting_address as usize, region.size.unwrap_or(0)))
}

fn first_reg(node: Node<'_>) -> Option<(usize, usize)> {
    regs(node).next().filter(|&(_, size)| size > 0)
}
