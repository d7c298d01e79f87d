//! Trees as QEMU's virt machine has them, and what other machines do differently.

mod memory;
mod owned;
mod uart;

use fdt::Fdt;
use vm_fdt::{FdtReserveEntry, FdtWriter};

use super::{MAX_RANGES, Machine, Uart, Unusable};
use crate::{config::plat::MAX_CPU_NUM, uart::Width};

/// Where the tree is.
const DTB: usize = 0x87e0_0123;
const MIB: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Isa {
    /// `riscv,isa-extensions`
    List(&'static [&'static str]),
    /// `riscv,isa`
    String(&'static str),
    Both(&'static [&'static str], &'static str),
}

#[derive(Clone, Debug)]
struct Cpu {
    id: u32,
    status: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Serial {
    base: u64,
    compatible: &'static str,
    status: Option<&'static str>,
    /// Further properties of one cell.
    numbers: Vec<(&'static str, u32)>,
    interrupts: Vec<u32>,
}

/// What there is to say of a machine.
#[derive(Clone, Debug)]
struct Tree {
    cpus: Vec<Cpu>,
    isa: Isa,
    timebase: Option<u32>,
    cpu_timebase: Option<u32>,
    /// One node each: start and size.
    ram: Vec<(u64, u64)>,
    /// Nodes of `/reserved-memory`.
    reserved: Vec<(u64, u64)>,
    /// The header's list.
    listed: Vec<(u64, u64)>,
    serials: Vec<Serial>,
    stdout: Option<&'static str>,
    aliases: Vec<(&'static str, &'static str)>,
    plic: Option<&'static str>,
    has_aia: bool,
    /// Further devices, with 4 KiB of registers: what they are, and where.
    others: Vec<(&'static str, u64)>,
    /// Devices likewise that lead to the first hart's supervisor external interrupt.
    at_harts: Vec<(&'static str, u64)>,
    /// A bridge to PCI likewise.
    pci: Option<(&'static str, u64)>,
    initrd: Option<(u64, u64)>,
}

const SERIAL: u64 = 0x1000_0000;
const PLIC: u64 = 0x0c00_0000;
const FINISHER: u64 = 0x0010_0000;

fn serial(base: u64) -> Serial {
    Serial {
        base,
        compatible: "ns16550a",
        status: None,
        numbers: vec![],
        interrupts: vec![10],
    }
}

/// QEMU's virt machine with these harts.
fn virt(harts: impl IntoIterator<Item = u32>) -> Tree {
    let cpu = |id| Cpu {
        id,
        status: Some("okay"),
    };
    Tree {
        cpus: harts.into_iter().map(cpu).collect(),
        isa: Isa::Both(&["i", "m", "h", "sstc"], "rv64imh_sstc"),
        timebase: Some(10_000_000),
        cpu_timebase: None,
        ram: vec![(0x8000_0000, 1024 * MIB)],
        reserved: vec![(0x8000_0000, 0x4_0000), (0x8004_0000, 0x4_0000)],
        listed: vec![],
        serials: vec![serial(SERIAL)],
        stdout: Some("/soc/serial@10000000"),
        aliases: vec![("serial0", "/soc/serial@10000000")],
        plic: Some("okay"),
        has_aia: false,
        others: vec![],
        at_harts: vec![],
        pci: None,
        initrd: Some((0x8800_0000, 0x8800_1234)),
    }
}

impl Tree {
    fn write(&self) -> Result<Vec<u8>, vm_fdt::Error> {
        let entry = |&(start, size)| FdtReserveEntry::new(start, size);
        let listed: Result<Vec<_>, _> = self.listed.iter().map(entry).collect();
        let mut fdt = FdtWriter::new_with_mem_reserv(&listed?)?;
        let root = fdt.begin_node("")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        self.write_chosen(&mut fdt)?;
        for &(start, size) in &self.ram {
            let node = fdt.begin_node(&format!("memory@{start:x}"))?;
            fdt.property_string("device_type", "memory")?;
            fdt.property_array_u64("reg", &[start, size])?;
            fdt.end_node(node)?;
        }
        let parent = fdt.begin_node("reserved-memory")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        for &(start, size) in &self.reserved {
            let node = fdt.begin_node(&format!("firmware@{start:x}"))?;
            fdt.property_array_u64("reg", &[start, size])?;
            fdt.property_null("no-map")?;
            fdt.end_node(node)?;
        }
        fdt.end_node(parent)?;
        self.write_cpus(&mut fdt)?;
        self.write_soc(&mut fdt)?;
        fdt.end_node(root)?;
        fdt.finish()
    }

    fn write_chosen(&self, fdt: &mut FdtWriter) -> Result<(), vm_fdt::Error> {
        let aliases = fdt.begin_node("aliases")?;
        for (name, path) in &self.aliases {
            fdt.property_string(name, path)?;
        }
        fdt.end_node(aliases)?;
        let chosen = fdt.begin_node("chosen")?;
        fdt.property_string("bootargs", "hello world")?;
        if let Some(path) = self.stdout {
            fdt.property_string("stdout-path", path)?;
        }
        if let Some((start, end)) = self.initrd {
            fdt.property_u32("linux,initrd-start", start as u32)?;
            fdt.property_u64("linux,initrd-end", end)?;
        }
        fdt.end_node(chosen)
    }

    fn write_cpus(&self, fdt: &mut FdtWriter) -> Result<(), vm_fdt::Error> {
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        if let Some(hz) = self.timebase {
            fdt.property_u32("timebase-frequency", hz)?;
        }
        for (cpu, phandle) in self.cpus.iter().zip(100..) {
            let node = fdt.begin_node(&format!("cpu@{:x}", cpu.id))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_u32("reg", cpu.id)?;
            if let Some(status) = cpu.status {
                fdt.property_string("status", status)?;
            }
            if let Some(hz) = self.cpu_timebase {
                fdt.property_u32("timebase-frequency", hz)?;
            }
            let (list, string) = match self.isa {
                Isa::List(list) => (Some(list), None),
                Isa::String(string) => (None, Some(string)),
                Isa::Both(list, string) => (Some(list), Some(string)),
            };
            if let Some(list) = list {
                let list = list.iter().map(|&name| name.to_owned()).collect();
                fdt.property_string_list("riscv,isa-extensions", list)?;
            }
            if let Some(string) = string {
                fdt.property_string("riscv,isa", string)?;
            }
            fdt.property_string("mmu-type", "riscv,sv57")?;
            fdt.property_u32("riscv,cboz-block-size", 64)?;
            let controller = fdt.begin_node("interrupt-controller")?;
            fdt.property_u32("#interrupt-cells", 1)?;
            fdt.property_null("interrupt-controller")?;
            fdt.property_phandle(phandle)?;
            fdt.end_node(controller)?;
            fdt.end_node(node)?;
        }
        // Linux's bindings put this among the CPUs.
        let map = fdt.begin_node("cpu-map")?;
        fdt.end_node(map)?;
        fdt.end_node(cpus)
    }

    fn write_soc(&self, fdt: &mut FdtWriter) -> Result<(), vm_fdt::Error> {
        let soc = fdt.begin_node("soc")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        let test = fdt.begin_node("test@100000")?;
        fdt.property_string_list(
            "compatible",
            ["sifive,test1", "sifive,test0", "syscon"]
                .map(String::from)
                .into(),
        )?;
        fdt.property_array_u64("reg", &[FINISHER, 0x1000])?;
        fdt.end_node(test)?;
        for serial in &self.serials {
            let node = fdt.begin_node(&format!("serial@{:x}", serial.base))?;
            fdt.property_string_list(
                "compatible",
                vec!["vendor,uart".into(), serial.compatible.into()],
            )?;
            fdt.property_array_u64("reg", &[serial.base, 0x100])?;
            if let Some(status) = serial.status {
                fdt.property_string("status", status)?;
            }
            for &(name, value) in &serial.numbers {
                fdt.property_u32(name, value)?;
            }
            fdt.property_array_u32("interrupts", &serial.interrupts)?;
            fdt.end_node(node)?;
        }
        if let Some(status) = self.plic {
            let plic = fdt.begin_node("plic@c000000")?;
            fdt.property_string_list(
                "compatible",
                vec!["sifive,plic-1.0.0".into(), "riscv,plic0".into()],
            )?;
            fdt.property_string("status", status)?;
            fdt.property_array_u64("reg", &[PLIC, 0x60_0000])?;
            // Machine and supervisor external interrupt of each hart.
            let contexts = (100..).take(self.cpus.len()).flat_map(|p| [p, 11, p, 9]);
            fdt.property_array_u32("interrupts-extended", &contexts.collect::<Vec<_>>())?;
            fdt.end_node(plic)?;
        }
        for (name, base) in &self.others {
            let other = fdt.begin_node(&format!("other@{base:x}"))?;
            fdt.property_string("compatible", name)?;
            fdt.property_string("status", "disabled")?;
            fdt.property_array_u64("reg", &[*base, 0x1000])?;
            fdt.property_array_u32("interrupts", &[33, 34])?;
            fdt.end_node(other)?;
        }
        for (name, base) in &self.at_harts {
            let node = fdt.begin_node(&format!("at-hart@{base:x}"))?;
            fdt.property_string("compatible", name)?;
            fdt.property_array_u64("reg", &[*base, 0x1000])?;
            fdt.property_array_u32("interrupts-extended", &[100, 9])?;
            fdt.end_node(node)?;
        }
        if let Some((name, base)) = self.pci {
            let node = fdt.begin_node(&format!("pcie@{base:x}"))?;
            fdt.property_string("compatible", name)?;
            fdt.property_string("device_type", "pci")?;
            fdt.property_array_u64("reg", &[base, 0x1000])?;
            fdt.end_node(node)?;
        }
        if self.has_aia {
            let aplic = fdt.begin_node("aplic@d000000")?;
            fdt.property_string("compatible", "riscv,aplic")?;
            fdt.end_node(aplic)?;
        }
        fdt.end_node(soc)
    }

    /// Reads it on the first hart.
    fn read(&self) -> Result<Machine, Unusable> {
        self.read_on(self.cpus.first().map_or(0, |cpu| cpu.id as usize))
    }

    fn read_on(&self, boot_hart: usize) -> Result<Machine, Unusable> {
        // Firmware's trees stay, too.
        let bytes: &'static [u8] = self.write().unwrap().leak();
        Machine::read(&Fdt::new(bytes).unwrap(), DTB, boot_hart)
    }

    fn size(&self) -> usize {
        self.write().unwrap().len()
    }
}

fn ids(machine: &Machine) -> Vec<usize> {
    machine.harts().iter().map(|hart| hart.id).collect()
}

fn contexts(machine: &Machine) -> Vec<Option<usize>> {
    machine
        .harts()
        .iter()
        .map(|hart| hart.plic_context)
        .collect()
}

#[test]
fn reads_virt_machines() {
    for harts in [1, 4, 8] {
        let tree = virt(0..harts);
        let machine = tree.read().unwrap();
        assert_eq!(ids(&machine), (0..harts as usize).collect::<Vec<_>>());
        assert_eq!(
            contexts(&machine),
            (0..harts as usize)
                .map(|hart| Some(2 * hart + 1))
                .collect::<Vec<_>>()
        );
        assert_eq!(machine.unused_harts, 0);
        assert_eq!(machine.missing(), None);
        assert_eq!(machine.timebase_hz, 10_000_000);
        assert_eq!(machine.ram.as_slice(), [(0x8000_0000, 0x4000_0000)]);
        let pages = (0x123 + tree.size()).next_multiple_of(4096);
        assert_eq!(
            machine.reserved.as_slice(),
            [
                (0x8000_0000, 0x8_0000),
                (0x87e0_0000, pages),
                (0x8800_0000, 0x2000)
            ]
        );
        assert_eq!(
            machine.mmio.as_slice(),
            [
                (FINISHER as usize, 0x1000),
                (PLIC as usize, 0x60_0000),
                (SERIAL as usize, 0x1000)
            ]
        );
        assert_eq!(
            machine.uart,
            Some(Uart {
                base: SERIAL as usize,
                stride: 1,
                width: Width::Byte,
                irq: Some(10)
            })
        );
        assert_eq!(machine.plic, Some(PLIC as usize));
        assert_eq!(machine.finisher, Some(FINISHER as usize));
        assert_eq!(machine.mmu_type, "riscv,sv57");
        assert_eq!(machine.cache_blocks, [None, Some(64)]);
        assert_eq!(machine.initrd, Some(0x8800_0000..0x8800_1234));
        assert_eq!(machine.bootargs, "hello world");
    }
}

#[test]
fn the_boot_hart_is_the_first_whatever_the_ids() {
    let machine = virt([1, 2, 4, 0x100]).read_on(4).unwrap();
    assert_eq!(ids(&machine), [4, 1, 2, 0x100]);
    assert_eq!(contexts(&machine), [Some(5), Some(1), Some(3), Some(7)]);
}

#[test]
fn a_boot_hart_that_is_not_in_the_tree_is_refused() {
    assert_eq!(virt(1..4).read_on(0).err(), Some(Unusable::NoBootHart(0)));
    assert_eq!(virt([]).read_on(0).err(), Some(Unusable::NoBootHart(0)));
}

#[test]
fn harts_that_are_not_in_order_stay_off() {
    let mut tree = virt(0..4);
    tree.cpus[0].status = Some("disabled");
    tree.cpus[1].status = None;
    tree.cpus[2].status = Some("fail-sss");
    tree.cpus[3].status = Some("ok");
    assert_eq!(ids(&tree.read_on(1).unwrap()), [1, 3]);
    // Whoever runs is in order.
    assert_eq!(ids(&tree.read_on(2).unwrap()), [2, 1, 3]);
}

#[test]
fn harts_past_the_most_are_counted() {
    let machine = virt(0..MAX_CPU_NUM as u32 + 3)
        .read_on(MAX_CPU_NUM + 1)
        .unwrap();
    assert_eq!(machine.harts().len(), MAX_CPU_NUM);
    assert_eq!(machine.harts()[0].id, MAX_CPU_NUM + 1);
    assert_eq!(machine.unused_harts, 3);
}

#[test]
fn pcpus_are_named_to_the_sbi_in_masks() {
    let masks = |harts: &[u32], pcpus| {
        let machine = virt(harts.iter().copied()).read().unwrap();
        machine.hart_masks(pcpus).collect::<Vec<_>>()
    };
    assert_eq!(masks(&[0, 1, 2, 3], u64::MAX), [(0b1111, 0)]);
    assert_eq!(masks(&[0, 1, 2, 3], 0b1010), [(0b101, 1)]);
    assert_eq!(masks(&[0, 1, 2, 3], 0b1_0000), []);
    assert_eq!(masks(&[0, 1, 2, 3], 0), []);
    // Ids that no one mask holds, and pCPUs that are not in the ids' order.
    assert_eq!(
        masks(&[70, 6, 7, 69, 500], u64::MAX),
        [(1 << 63 | 0b11, 6), (1, 70), (1, 500)]
    );
    assert_eq!(masks(&[70, 6, 7, 69, 500], 0b1_0001), [(1, 70), (1, 500)]);
}

#[test]
fn a_timebase_is_the_tree_s_word() {
    let mut tree = virt(0..2);
    tree.timebase = None;
    assert_eq!(tree.read().err(), Some(Unusable::NoTimebase));
    tree.cpu_timebase = Some(24_000_000);
    assert_eq!(tree.read().unwrap().timebase_hz, 24_000_000);
    tree.timebase = Some(1_000_000);
    assert_eq!(tree.read().unwrap().timebase_hz, 1_000_000);
    tree.timebase = Some(0);
    assert_eq!(tree.read().err(), Some(Unusable::NoTimebase));
}

#[test]
fn extensions_come_from_the_list_or_else_from_the_string() {
    let extensions = |isa| {
        let mut tree = virt(0..1);
        tree.isa = isa;
        tree.read().unwrap().extensions().collect::<Vec<_>>()
    };
    let list = Isa::List(&["i", "h", "zicsr", "sstc"]);
    assert_eq!(extensions(list), ["i", "h", "zicsr", "sstc"]);
    let string = Isa::String("rv64imh_zicsr_sstc");
    assert_eq!(extensions(string), ["i", "m", "h", "zicsr", "sstc"]);
    assert_eq!(extensions(Isa::String("rv64ih")), ["i", "h"]);
    let both = Isa::Both(&["i", "h"], "rv64imafd_sstc");
    assert_eq!(extensions(both), ["i", "h"]);
}

#[test]
fn a_machine_that_cannot_run_guests_is_refused() {
    let missing = |change: fn(&mut Tree)| {
        let mut tree = virt(0..1);
        change(&mut tree);
        tree.read().unwrap().missing()
    };
    assert_eq!(missing(|_| ()), None);
    // The letter, not a name that has it.
    assert_eq!(
        missing(|tree| tree.isa = Isa::String("rv64imafdc_zihpm_sh")),
        Some(Unusable::NoHypervisorExtension)
    );
    assert_eq!(missing(|tree| tree.isa = Isa::List(&["i", "h"])), None);
    assert_eq!(missing(|tree| tree.plic = None), Some(Unusable::NoPlic));
    assert_eq!(
        missing(|tree| tree.plic = Some("disabled")),
        Some(Unusable::NoPlic)
    );
    assert_eq!(
        missing(|tree| {
            tree.plic = None;
            tree.has_aia = true;
        }),
        Some(Unusable::OnlyAia)
    );
}

#[test]
fn refusals_are_one_line() {
    for why in [
        Unusable::NoDeviceTree,
        Unusable::NoBootHart(3),
        Unusable::NoTimebase,
        Unusable::NoRam,
        Unusable::TooManyRanges("reserved memory"),
        Unusable::NoHypervisorExtension,
        Unusable::OnlyAia,
        Unusable::NoPlic,
    ] {
        let line = why.to_string();
        assert!(!line.is_empty() && !line.contains('\n'));
    }
}
