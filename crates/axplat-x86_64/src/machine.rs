//! What the machine is, read once from what bootloader and firmware left in memory.
//!
//! Nothing here allocates: it is read before there is a heap.

use core::ops::Range;

use axplat::mem::{PhysAddr, phys_to_virt};
use axplat_ranges::Ranges;
use raw_cpuid::CpuId;
use spin::Once;

use crate::{
    acpi::{
        Tables,
        fadt::{self, PmTimer, PowerOff},
        hpet,
        madt::{self, Entry, Polarity, Signal, Trigger},
        mcfg,
    },
    boot::MAPPED_AT_BOOT,
    bytes::Memory,
    clock,
    config::plat::MAX_CPU_NUM,
    cpus::{Cpu, Cpus},
    io_apics::{IoApic, IoApics, TooMany},
    ioapic,
    lapic::{self, NmiInputs},
    multiboot::{BootInfo, MemoryKind},
    power::stop,
    rtc,
};

const ISA_IRQS: usize = 16;

/// Where an ISA interrupt arrives.
#[derive(Clone, Copy, Debug)]
struct IsaLine {
    gsi: u32,
    signal: Signal,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    cpus: Cpus<MAX_CPU_NUM>,
    io_apics: IoApics,
    isa_lines: [IsaLine; ISA_IRQS],
    pub(crate) nmi_inputs: NmiInputs,
    pub(crate) ram: Ranges,
    /// All that is RAM, the firmware's too.
    pub(crate) memory: Ranges,
    pub(crate) reserved: Ranges,
    pub(crate) mmio: Ranges,
    pub(crate) power_off: Option<PowerOff>,
    /// The ports of ACPI's that do that and the like: first and number.
    pub(crate) power_ports: [Option<(u16, u16)>; 4],
    /// PCI's configuration space in memory.
    pub(crate) pci_config: Ranges,
    /// Where a table says that the high precision event timer is.
    pub(crate) hpet: Option<usize>,
    /// Ticks of the TSC a second.
    pub timebase_hz: u64,
    /// Ticks of a local APIC's timer a second.
    pub apic_timer_hz: u64,
    /// The time of day when the TSC showed zero, in seconds since 1970; 0 if there is no clock that tells it.
    pub epoch_s: u64,
    /// Physical addresses of what the bootloader handed over beside the image: the first module.
    pub initrd: Option<Range<usize>>,
    /// The bootloader's command line.
    pub bootargs: &'static str,
}

static MACHINE: Once<Machine> = Once::new();

/// The machine.
///
/// # Panics
/// Before it has been read, which is the first thing that the platform does.
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("the machine has not been read")
}

/// The machine, if it has been read.
pub(crate) fn found() -> Option<&'static Machine> {
    MACHINE.get()
}

/// The low memory that the boot tables map, to read what was left there.
struct LowMemory;

impl Memory for LowMemory {
    fn bytes(&self, address: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(address).ok().filter(|&start| start != 0)?;
        let end = start.checked_add(len)?;
        (end <= MAPPED_AT_BOOT).then(|| {
            let start = phys_to_virt(PhysAddr::from_usize(start)).as_ptr();
            // SAFETY: the boot tables map it, and while the machine is read nobody writes memory that is not the image's.
            unsafe { core::slice::from_raw_parts(start, len) }
        })
    }
}

/// Reads the machine, with the loader's information at physical address `boot_info`. Also turns this CPU's local APIC on, to measure its timer.
pub(crate) fn init(boot_info: usize) {
    MACHINE.call_once(|| {
        if !CpuId::new()
            .get_feature_info()
            .is_some_and(|features| features.has_apic())
        {
            stop("this CPU has no APIC");
        }
        let Some(info) = BootInfo::at(&LowMemory, boot_info as u64) else {
            stop("the bootloader handed over no information");
        };
        let Some(tables) = Tables::find(&LowMemory) else {
            stop("the firmware left no ACPI tables where a BIOS does");
        };
        let Some(madt) = tables.get(b"APIC") else {
            stop("the ACPI tables describe no APICs (no MADT)");
        };
        let mut machine = Machine::new();
        machine.read_boot_info(&info);
        machine.read_madt(madt);
        let fadt = tables.get(b"FACP");
        machine.power_off = fadt.and_then(|fadt| fadt::power_off(&tables, fadt));
        machine.power_ports = fadt.map_or([None; 4], fadt::power_ports);
        for (start, size) in tables.get(b"MCFG").into_iter().flat_map(mcfg::ranges) {
            keep(&mut machine.pci_config, start, size);
        }
        machine.hpet = tables.get(b"HPET").and_then(hpet::address);
        machine.measure(fadt.and_then(fadt::pm_timer));
        machine.read_clock(fadt.and_then(fadt::century));
        machine
    });
}

impl Machine {
    /// The CPUs, pCPU 0 (the boot CPU) first.
    #[must_use]
    pub fn cpus(&self) -> &[Cpu] {
        self.cpus.as_slice()
    }

    pub(crate) fn io_apics(&self) -> &[IoApic] {
        self.io_apics.as_slice()
    }

    /// Where an ISA interrupt arrives, as a global system interrupt.
    pub(crate) fn gsi_of_isa(&self, irq: usize) -> Option<u32> {
        self.isa_lines.get(irq).map(|line| line.gsi)
    }

    /// How a global system interrupt speaks: as the ISA line that it is, else as PCI's do.
    pub(crate) fn signal_of_gsi(&self, gsi: u32) -> Signal {
        let line = self.isa_lines.iter().find(|line| line.gsi == gsi);
        line.map_or(
            Signal {
                polarity: Polarity::ActiveLow,
                trigger: Trigger::Level,
            },
            |line| line.signal,
        )
    }

    fn new() -> Self {
        Self {
            cpus: Cpus::new(),
            io_apics: IoApics::new(),
            isa_lines: core::array::from_fn(|irq| IsaLine {
                gsi: irq as u32,
                signal: Signal::ISA,
            }),
            nmi_inputs: NmiInputs::default(),
            ram: Ranges::new(),
            memory: Ranges::new(),
            reserved: Ranges::new(),
            mmio: Ranges::new(),
            power_off: None,
            power_ports: [None; 4],
            pci_config: Ranges::new(),
            hpet: None,
            timebase_hz: 0,
            apic_timer_hz: 0,
            epoch_s: 0,
            initrd: None,
            bootargs: "",
        }
    }

    fn read_boot_info(&mut self, info: &BootInfo<'_, LowMemory>) {
        for entry in info.memory_map() {
            let (Ok(start), Ok(size)) = (usize::try_from(entry.start), usize::try_from(entry.size))
            else {
                continue;
            };
            match entry.kind {
                // One can do without the last of very many pieces.
                MemoryKind::Available => drop(self.ram.add_inward(start, size)),
                MemoryKind::Firmware | MemoryKind::Reserved => {
                    keep(&mut self.reserved, start, size);
                }
            }
            match entry.kind {
                MemoryKind::Available | MemoryKind::Firmware => {
                    keep(&mut self.memory, start, size);
                }
                MemoryKind::Reserved => {}
            }
        }
        // What is both is neither's.
        self.ram = self.ram.without(&self.reserved);
        if self.ram.total() == 0 {
            stop("the bootloader handed over no memory map");
        }
        for (start, end) in info.modules() {
            let (start, end) = (start as usize, end as usize);
            if start < end {
                keep(&mut self.reserved, start, end - start);
                self.initrd.get_or_insert(start..end);
            }
        }
        self.bootargs = keep_command_line(info);
    }

    fn read_madt(&mut self, madt: &[u8]) {
        const PAGE: usize = 4096;
        let local_apic = madt::local_apic_address(madt)
            .and_then(|address| usize::try_from(address).ok())
            .unwrap_or(0);
        lapic::choose_mode(local_apic);
        let (boot_cpu, ids) = (lapic::id_from_cpuid(), lapic::ids());
        if boot_cpu > ioapic::MAX_DESTINATION {
            stop("the boot CPU has an APIC id above 254, to which no I/O APIC can send");
        }
        self.cpus = Cpus::choose(boot_cpu, ids, madt::entries(madt));
        if let Some(left_out) = self.cpus.left_out() {
            axplat::console_println!("axhv: {left_out}");
        }
        for entry in madt::entries(madt) {
            match entry {
                Entry::Cpu { .. } | Entry::IoApic { .. } => {}
                Entry::Override {
                    isa_irq,
                    gsi,
                    signal,
                } => {
                    if let Some(line) = self.isa_lines.get_mut(usize::from(isa_irq)) {
                        *line = IsaLine { gsi, signal };
                    }
                }
                Entry::LocalNmi { lint: 0 } => self.nmi_inputs.lint0 = true,
                Entry::LocalNmi { .. } => self.nmi_inputs.lint1 = true,
                Entry::LocalApicAddress(_) => {}
            }
        }
        self.io_apics = IoApics::from_entries(madt::entries(madt)).unwrap_or_else(|TooMany| {
            stop("the ACPI tables describe more I/O APICs than this image can keep in mind")
        });
        if self.io_apics.as_slice().is_empty() {
            stop("the ACPI tables describe no I/O APIC");
        }
        for apic in self.io_apics.as_slice() {
            keep(&mut self.mmio, apic.address, PAGE);
        }
        if lapic::is_xapic() {
            keep(&mut self.mmio, local_apic, PAGE);
        }
    }

    fn measure(&mut self, pm_timer: Option<PmTimer>) {
        lapic::enable_current(self.nmi_inputs);
        let Some(rates) = clock::measure(pm_timer) else {
            stop("no clock of this machine runs: neither the ACPI timer nor the 8254");
        };
        self.timebase_hz = rates.tsc_hz;
        self.apic_timer_hz = rates.apic_timer_hz;
    }

    fn read_clock(&mut self, century: Option<u8>) {
        match rtc::time(century) {
            Some(now) => {
                self.epoch_s = now.saturating_sub(clock::tsc() / self.timebase_hz.max(1));
            }
            None => axplat::console_println!(
                "axhv: this machine has no clock that tells the time of day: it is 1970"
            ),
        }
    }
}

/// Adds what must not be forgotten.
pub(crate) fn keep(ranges: &mut Ranges, start: usize, size: usize) {
    if ranges.add_outward(start, size).is_err() {
        stop("the firmware's memory map has more reserved ranges than this image can keep in mind");
    }
}

/// The command line, in memory of our own; what is too long or no text is cut off.
fn keep_command_line(info: &BootInfo<'_, LowMemory>) -> &'static str {
    const MAX: usize = 1024;
    static COPY: Once<([u8; MAX], usize)> = Once::new();
    let (copy, len) = COPY.call_once(|| {
        let line = info.command_line(MAX);
        let mut copy = [0; MAX];
        for (to, from) in copy.iter_mut().zip(line) {
            *to = *from;
        }
        (copy, line.len().min(MAX))
    });
    let line = copy.get(..*len).unwrap_or(&[]);
    let text = line.utf8_chunks().next();
    text.map_or("", |chunk| chunk.valid())
}
