//! What the machine is, read once from the device tree that the firmware handed over.
//!
//! Nothing here allocates: it is read before there is a heap.

use core::ops::Range;

use axplat::mem::{PhysAddr, RawRange, phys_to_virt};
use fdt::{Fdt, node::FdtNode};
use spin::Once;

use crate::{boot, config::plat::MAX_CPU_NUM};

const MAX_RANGES: usize = 32;

/// A list of at most [`MAX_RANGES`] entries, without a heap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    list: [RawRange; MAX_RANGES],
    len: usize,
}

impl Ranges {
    const fn new() -> Self {
        Self {
            list: [(0, 0); MAX_RANGES],
            len: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[RawRange] {
        self.list.get(..self.len).unwrap_or(&[])
    }

    /// Adds a range, rounded outward to whole pages. Past the end of the list it is dropped: firmware describes a handful.
    fn add(&mut self, start: usize, size: usize) {
        const PAGE: usize = 4096;
        let end = start.saturating_add(size).next_multiple_of(PAGE);
        let start = start & !(PAGE - 1);
        if let Some(slot) = self.list.get_mut(self.len)
            && start < end
        {
            *slot = (start, end - start);
            self.len += 1;
        }
    }

    /// Sorts by address and joins what overlaps or touches.
    fn merge(&mut self) {
        let len = self.len;
        let list = &mut self.list[..len];
        list.sort_unstable();
        let mut kept = 0;
        for i in 0..len {
            let (start, size) = list[i];
            if kept > 0 && start <= list[kept - 1].0 + list[kept - 1].1 {
                let (last_start, last_size) = list[kept - 1];
                list[kept - 1].1 = last_size.max(start + size - last_start);
            } else {
                list[kept] = (start, size);
                kept += 1;
            }
        }
        self.len = kept;
    }
}

/// One hart that can run our code.
#[derive(Clone, Copy, Debug)]
pub struct Hart {
    /// Its id, as the SBI names it.
    pub id: usize,
    /// Its supervisor context at the PLIC, if it has one.
    pub(crate) plic_context: Option<usize>,
}

/// A 16550 UART.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uart {
    pub(crate) base: usize,
    /// Bytes from one register to the next.
    pub(crate) stride: usize,
    pub(crate) irq: Option<usize>,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    harts: [Hart; MAX_CPU_NUM],
    hart_count: usize,
    pub(crate) ram: Ranges,
    pub(crate) reserved: Ranges,
    pub(crate) mmio: Ranges,
    pub(crate) uart: Option<Uart>,
    pub(crate) plic: Option<usize>,
    pub(crate) finisher: Option<usize>,
    /// Ticks of `time` a second.
    pub timebase_hz: u64,
    /// The `riscv,isa` string of the boot hart, or "" if the firmware gives only a list.
    pub isa: &'static str,
    /// The `riscv,isa-extensions` list of the boot hart: names, each ended by a NUL.
    isa_extensions: &'static [u8],
    /// `mmu-type` of the boot hart.
    pub mmu_type: &'static str,
    /// Cache block sizes in bytes of Zicbom and Zicboz, where the firmware gives them.
    pub cache_blocks: [Option<u32>; 2],
    /// Physical addresses of what the bootloader handed over beside the image.
    pub initrd: Option<Range<usize>>,
    /// The bootloader's command line.
    pub bootargs: &'static str,
    has_aia: bool,
}

static MACHINE: Once<Machine> = Once::new();

/// The machine. Panics before the device tree was read, which is the first thing that the platform does.
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("the device tree has not been read")
}

/// The machine, if it has been read.
pub(crate) fn found() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Reads the device tree at physical address `dtb`.
pub(crate) fn init(dtb: usize) {
    MACHINE.call_once(|| {
        let tree = phys_to_virt(PhysAddr::from_usize(dtb)).as_ptr();
        // SAFETY: the firmware put a device tree there, the boot page table maps it, and nothing writes it: it is reserved below.
        match unsafe { Fdt::from_ptr(tree) } {
            Ok(tree) => Machine::read(&tree, dtb),
            // Without a tree there is neither a console nor RAM to speak of.
            Err(_) => crate::power::stop("the firmware handed over no valid device tree"),
        }
    });
}

impl Machine {
    /// The harts, pCPU 0 (the boot hart) first.
    #[must_use]
    pub fn harts(&self) -> &[Hart] {
        self.harts.get(..self.hart_count).unwrap_or(&[])
    }

    /// Whether the boot hart has an extension, named in lower case as the specifications do ("h", "sstc").
    #[must_use]
    pub fn has_extension(&self, name: &str) -> bool {
        self.extensions().any(|extension| extension == name)
    }

    /// The boot hart's extensions, in lower case.
    pub fn extensions(&self) -> impl Iterator<Item = &'static str> {
        let listed = self
            .isa_extensions
            .split(|&byte| byte == 0)
            .filter_map(|name| core::str::from_utf8(name).ok())
            .filter(|name| !name.is_empty());
        // "rv64imafdch_zicsr_sstc": letters one by one up to the first underscore, then names.
        let (letters, names) = match self.isa {
            isa if self.isa_extensions.is_empty() => {
                let isa = isa.strip_prefix("rv64").unwrap_or(isa);
                isa.split_at(isa.find('_').unwrap_or(isa.len()))
            }
            _ => ("", ""),
        };
        listed
            .chain((0..letters.len()).filter_map(move |i| letters.get(i..=i)))
            .chain(names.split('_').filter(|name| !name.is_empty()))
    }

    /// What this platform cannot do without and the machine does not have, if anything.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        if !self.has_extension("h") {
            Some(
                "this CPU has no H extension (hypervisor): use a CPU that has it (QEMU: -cpu rv64,h=true)",
            )
        } else if self.plic.is_none() && self.has_aia {
            Some(
                "this machine has an AIA interrupt controller and no PLIC, which is not supported yet (QEMU: -machine virt,aia=none)",
            )
        } else if self.plic.is_none() {
            Some("this machine has no PLIC: its interrupt controller is not supported")
        } else {
            None
        }
    }

    fn read(tree: &Fdt<'static>, dtb: usize) -> Self {
        let chosen = tree.find_node("/chosen");
        let address = |name| {
            chosen
                .and_then(|node| node.property(name))
                .and_then(|p| number(p.value))
        };
        let initrd = match (address("linux,initrd-start"), address("linux,initrd-end")) {
            (Some(start), Some(end)) if start < end => Some(start..end),
            _ => None,
        };
        let boot_cpu = cpu_nodes(tree)
            .find(|cpu| hart_id(*cpu) == Some(boot::boot_hart()))
            .or_else(|| cpu_nodes(tree).next());
        let text = |name| {
            boot_cpu
                .and_then(|cpu| cpu.property(name))
                .and_then(|p| p.as_str())
                .unwrap_or("")
        };
        let block = |name| {
            let value = boot_cpu.and_then(|cpu| cpu.property(name))?.value;
            number(value).and_then(|bytes| u32::try_from(bytes).ok())
        };
        let plic = tree.find_compatible(&["sifive,plic-1.0.0", "riscv,plic0"]);
        let uart = tree.find_compatible(&["ns16550a", "ns16550", "snps,dw-apb-uart"]);
        let finisher = tree.find_compatible(&["sifive,test1", "sifive,test0"]);

        let mut machine = Self {
            harts: [Hart {
                id: 0,
                plic_context: None,
            }; MAX_CPU_NUM],
            hart_count: 0,
            ram: Ranges::new(),
            reserved: Ranges::new(),
            mmio: Ranges::new(),
            uart: uart.and_then(|node| {
                let value = |name| node.property(name).and_then(|p| number(p.value));
                Some(Uart {
                    base: first_reg(node)?.0,
                    stride: 1 << value("reg-shift").unwrap_or(0).min(3),
                    irq: node.property("interrupts").and_then(|p| number(p.value)),
                })
            }),
            plic: plic.and_then(first_reg).map(|(base, _)| base),
            finisher: finisher.and_then(first_reg).map(|(base, _)| base),
            timebase_hz: tree
                .find_node("/cpus")
                .and_then(|node| node.property("timebase-frequency"))
                .and_then(|p| number(p.value))
                .unwrap_or(10_000_000) as u64,
            isa: text("riscv,isa"),
            isa_extensions: boot_cpu
                .and_then(|cpu| cpu.property("riscv,isa-extensions"))
                .map_or(&[], |p| p.value),
            mmu_type: text("mmu-type"),
            cache_blocks: [
                block("riscv,cbom-block-size"),
                block("riscv,cboz-block-size"),
            ],
            initrd,
            bootargs: chosen
                .and_then(|node| node.property("bootargs"))
                .and_then(|p| p.as_str())
                .unwrap_or(""),
            has_aia: tree
                .find_compatible(&["riscv,imsics", "riscv,aplic"])
                .is_some(),
        };
        machine.read_harts(tree, plic);
        machine.read_memory(tree, dtb);
        for node in [uart, plic, finisher].into_iter().flatten() {
            if let Some((base, size)) = first_reg(node) {
                machine.mmio.add(base, size);
            }
        }
        machine.mmio.merge();
        machine
    }

    /// The boot hart first, the others in the tree's order.
    fn read_harts(&mut self, tree: &Fdt<'static>, plic: Option<FdtNode<'_, 'static>>) {
        let boot = cpu_nodes(tree).filter(|cpu| hart_id(*cpu) == Some(boot::boot_hart()));
        let others = cpu_nodes(tree).filter(|cpu| hart_id(*cpu) != Some(boot::boot_hart()));
        for cpu in boot.chain(others) {
            let usable = cpu
                .property("status")
                .and_then(|p| p.as_str())
                .is_none_or(|s| s == "okay");
            if let (true, Some(id), Some(slot)) =
                (usable, hart_id(cpu), self.harts.get_mut(self.hart_count))
            {
                *slot = Hart {
                    id,
                    plic_context: plic.and_then(|plic| plic_context(plic, cpu)),
                };
                self.hart_count += 1;
            }
        }
    }

    fn read_memory(&mut self, tree: &Fdt<'static>, dtb: usize) {
        for node in tree.all_nodes() {
            if node.property("device_type").and_then(|p| p.as_str()) == Some("memory") {
                for region in node.reg().into_iter().flatten() {
                    self.ram
                        .add(region.starting_address as usize, region.size.unwrap_or(0));
                }
            }
        }
        self.ram.merge();
        for reservation in tree.memory_reservations() {
            self.reserved
                .add(reservation.address() as usize, reservation.size());
        }
        if let Some(parent) = tree.find_node("/reserved-memory") {
            for region in parent.children().filter_map(|node| node.reg()).flatten() {
                self.reserved
                    .add(region.starting_address as usize, region.size.unwrap_or(0));
            }
        }
        self.reserved.add(dtb, tree.total_size());
        if let Some(initrd) = &self.initrd {
            self.reserved.add(initrd.start, initrd.len());
        }
        self.reserved.merge();
    }
}

fn cpu_nodes<'b>(tree: &'b Fdt<'static>) -> impl Iterator<Item = FdtNode<'b, 'static>> {
    let cpus = tree.find_node("/cpus");
    cpus.into_iter()
        .flat_map(|cpus| cpus.children())
        .filter(|node| node.property("device_type").and_then(|p| p.as_str()) == Some("cpu"))
}

fn hart_id(cpu: FdtNode<'_, '_>) -> Option<usize> {
    number(cpu.property("reg")?.value)
}

fn first_reg(node: FdtNode<'_, '_>) -> Option<(usize, usize)> {
    let region = node.reg()?.next()?;
    Some((region.starting_address as usize, region.size?))
}

/// The number of the supervisor external interrupt at a hart's own interrupt controller.
const SUPERVISOR_EXTERNAL: u32 = 9;

/// The position of a hart's supervisor external interrupt in the PLIC's `interrupts-extended` is its context's number.
fn plic_context(plic: FdtNode<'_, '_>, cpu: FdtNode<'_, '_>) -> Option<usize> {
    let controller = cpu
        .children()
        .find(|node| node.property("interrupt-controller").is_some())?;
    let phandle = number(controller.property("phandle")?.value)?;
    let pairs = plic.property("interrupts-extended")?.value.chunks_exact(8);
    let cell = |bytes: &[u8]| number(bytes);
    pairs.into_iter().position(|pair| {
        cell(&pair[..4]) == Some(phandle) && cell(&pair[4..]) == Some(SUPERVISOR_EXTERNAL as usize)
    })
}

/// A property of one or two cells as a number.
fn number(value: &[u8]) -> Option<usize> {
    match value.len() {
        4 => value
            .try_into()
            .ok()
            .map(|bytes| u32::from_be_bytes(bytes) as usize),
        8 => value
            .try_into()
            .ok()
            .map(|bytes| u64::from_be_bytes(bytes) as usize),
        // Only the first of several interrupt numbers counts.
        _ => None,
    }
}
