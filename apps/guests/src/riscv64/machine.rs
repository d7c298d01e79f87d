//! What the device tree and the SBI say about the machine.

use core::fmt::{self, Display, Formatter};
use core::ops::Range;
use core::slice;

use fdt::Fdt;
use fdt::node::FdtNode;

use crate::arch::plic::Plic;
use crate::arch::{Timer, sbi, uart};
use crate::options::Options;
use crate::report::Host;

/// The machine, as its boot hart found it.
#[derive(Debug)]
pub struct Machine {
    /// The boot hart's id.
    pub hart: usize,
    /// The time at the first instruction, in ticks.
    pub started: u64,
    tree: Fdt<'static>,
}

impl Machine {
    /// Reads the device tree and takes its UART for the console.
    ///
    /// # Safety
    /// `device_tree` points to a flattened device tree that stays there unchanged. Call this once.
    pub(super) unsafe fn new(hart: usize, device_tree: *const u8, started: u64) -> &'static Self {
        static mut MACHINE: Option<Machine> = None;
        /// Magic and total size, the first two words of the tree.
        const HEADER: usize = 8;
        // SAFETY: a tree begins with its header.
        let header = unsafe { slice::from_raw_parts(device_tree, HEADER) };
        let size = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        // SAFETY: a tree is as long as it says.
        let blob = unsafe { slice::from_raw_parts(device_tree, size as usize) };
        let tree = Fdt::new(blob).expect("a device tree in a1");

        let serial = tree
            .chosen()
            .stdout()
            .or_else(|| tree.find_compatible(&["ns16550a"]));
        if let Some(region) = serial.and_then(registers) {
            // SAFETY: the tree says so.
            unsafe { uart::init(region.start) };
        }
        // SAFETY: by contract this runs once, before anyone else knows of `MACHINE`.
        unsafe {
            let machine = &raw mut MACHINE;
            (*machine).insert(Self {
                hart,
                started,
                tree,
            })
        }
    }

    /// How the guest calls the CPU it booted on.
    pub fn name(&self) -> impl Display {
        struct Name(usize);
        impl Display for Name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "hart {}", self.0)
            }
        }
        Name(self.hart)
    }

    /// What the SBI's implementation gives away about the host.
    pub fn host(&self) -> Host {
        if sbi::implementation() == sbi::OPENSBI {
            Host::Native
        } else {
            Host::Hypervisor
        }
    }

    /// The options on the command line.
    pub fn options(&self) -> Options<'static> {
        let chosen = self.tree.find_node("/chosen");
        let bootargs = chosen.and_then(|node| node.property("bootargs")?.as_str());
        Options::new(bootargs.unwrap_or(""))
    }

    /// The ids of all harts.
    pub fn harts(&self) -> impl Iterator<Item = usize> {
        self.cpus()
            .filter_map(|cpu| cpu.property("reg")?.as_usize())
    }

    /// The first range of RAM.
    ///
    /// # Panics
    /// The device tree has none.
    pub fn ram(&self) -> Range<usize> {
        let memory = self.tree.find_node("/memory").and_then(registers);
        memory.expect("a /memory node")
    }

    /// Whether the harts have an extension of the ISA, given in lower case.
    pub fn has(&self, extension: &str) -> bool {
        self.cpus().all(|cpu| {
            let names = cpu.property("riscv,isa-extensions").map(|list| list.value);
            let listed = names.is_some_and(|names| {
                names
                    .split(|&byte| byte == 0)
                    .any(|name| name == extension.as_bytes())
            });
            let isa = cpu.property("riscv,isa").and_then(|isa| isa.as_str());
            listed || isa.is_some_and(|isa| isa_has(isa, extension))
        })
    }

    /// The boot hart's timer.
    ///
    /// # Panics
    /// The device tree does not say how fast it counts.
    pub fn timer(&self) -> Timer {
        let cpus = self.tree.find_node("/cpus");
        let frequency = cpus.and_then(|cpus| cpus.property("timebase-frequency")?.as_usize());
        Timer {
            sstc: self.has("sstc"),
            frequency: frequency.expect("a timebase-frequency") as u64,
        }
    }

    /// The interrupt controller, seen from the boot hart's supervisor mode.
    pub fn plic(&self) -> Option<Plic> {
        let node = self
            .tree
            .find_compatible(&["riscv,plic0", "sifive,plic-1.0.0"])?;
        Some(Plic {
            base: registers(node)?.start,
            sources: node.property("riscv,ndev")?.as_usize()?,
            context: self.supervisor_context(node)?,
        })
    }

    /// Where the registers of the device that is compatible with `name` begin, and its interrupt source at the PLIC.
    pub fn device(&self, name: &str) -> Option<(usize, usize)> {
        let node = self.tree.find_compatible(&[name])?;
        let source = node.property("interrupts")?.as_usize()?;
        Some((registers(node)?.start, source))
    }

    /// The console UART's interrupt source at the PLIC.
    pub fn uart_irq(&self) -> Option<usize> {
        self.tree
            .find_compatible(&["ns16550a"])?
            .property("interrupts")?
            .as_usize()
    }

    fn cpus(&self) -> impl Iterator<Item = FdtNode<'_, 'static>> {
        let cpus = self.tree.find_node("/cpus");
        let children = cpus.into_iter().flat_map(FdtNode::children);
        children.filter(|node| node.name.starts_with("cpu@"))
    }

    /// The PLIC's contexts stand in the order of `interrupts-extended`: pairs of the phandle of a
    /// hart's interrupt controller and the interrupt that the context raises there.
    fn supervisor_context(&self, plic: FdtNode<'_, 'static>) -> Option<usize> {
        const SUPERVISOR_EXTERNAL: u32 = 9;
        let boot = self
            .cpus()
            .find(|cpu| cpu.property("reg").and_then(|reg| reg.as_usize()) == Some(self.hart))?;
        let controller = boot
            .children()
            .find_map(|child| child.property("phandle"))?
            .as_usize()?;
        let pairs = plic.property("interrupts-extended")?.value;
        pairs.chunks_exact(8).position(|pair| {
            let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| pair[at + n]));
            word(0) as usize == controller && word(4) == SUPERVISOR_EXTERNAL
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let version = sbi::spec_version();
        let (major, minor) = (version >> 24, version & 0xff_ffff);
        let ram = self.ram();
        write!(
            f,
            "SBI {major}.{minor} of implementation {:#x}",
            sbi::implementation()
        )?;
        match self.harts().count() {
            1 => f.write_str(", 1 hart")?,
            count => write!(f, ", {count} harts")?,
        }
        write!(f, ", RAM {:#x} to {:#x}", ram.start, ram.end)?;
        write!(f, ", UART {:#x}, timer ", uart::base())?;
        f.write_str(if self.timer().sstc {
            "stimecmp"
        } else {
            "by SBI"
        })
    }
}

/// The first range of a node's registers.
fn registers(node: FdtNode<'_, 'static>) -> Option<Range<usize>> {
    let region = node.reg()?.next()?;
    let start = region.starting_address as usize;
    Some(start..start + region.size?)
}

/// Whether an ISA string such as `rv64imac_zicsr_sstc` names `extension`: a single letter stands
/// in the first word, anything longer is a word of its own.
fn isa_has(isa: &str, extension: &str) -> bool {
    let mut words = isa.split('_');
    let letters = words
        .next()
        .and_then(|first| first.strip_prefix("rv64"))
        .unwrap_or("");
    match extension.len() {
        1 => letters.contains(extension),
        _ => words.any(|word| word == extension),
    }
}
