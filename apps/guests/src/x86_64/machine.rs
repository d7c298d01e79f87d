//! What the loader, the ACPI tables and CPUID say about the machine.

use core::fmt::{self, Display, Formatter};
use core::slice;

use crate::acpi::{Acpi, IoApicEntry};
use crate::arch::ioapic::IoApic;
use crate::arch::{Request, Timer, cpu, lapic, pic, uart};
use crate::memory::Memory;
use crate::multiboot::Info;
use crate::options::Options;
use crate::report::Host;

/// Physical memory, which is mapped to itself.
#[derive(Clone, Copy, Debug)]
pub struct Physical;

impl Memory<'static> for Physical {
    fn bytes(self, address: u64, len: usize) -> Option<&'static [u8]> {
        /// Above that are devices.
        const END: u64 = 0xc000_0000;
        let end = address.checked_add(len as u64)?;
        // SAFETY: every byte there is RAM or firmware, or reads as something; what is looked for,
        // the tables of firmware and loader, is never written.
        (address != 0 && end <= END)
            .then(|| unsafe { slice::from_raw_parts(address as *const u8, len) })
    }
}

/// The machine, as its boot CPU found it.
#[derive(Debug)]
pub struct Machine {
    /// The boot CPU's APIC id.
    pub apic_id: u32,
    /// The time stamp counter at the first instruction.
    pub started: u64,
    info: Option<Info<Physical>>,
    acpi: Option<Acpi<Physical>>,
    timer: Timer,
}

impl Machine {
    /// Turns the boot CPU's APIC on, masks the old interrupt controllers, takes COM1 for the
    /// console and reads the tables.
    ///
    /// # Safety
    /// A Multiboot loader has passed `magic` and `info`. Call this once.
    pub(super) unsafe fn new(magic: u32, info: u32, started: u64) -> &'static Self {
        static mut MACHINE: Option<Machine> = None;
        uart::init();
        pic::init();
        lapic::enable();
        let machine = Self {
            apic_id: lapic::id(),
            started,
            info: Info::new(Physical, magic, info),
            acpi: Acpi::find(Physical),
            timer: Timer::new(),
        };
        // SAFETY: by contract this runs once, before anyone else knows of `MACHINE`.
        unsafe {
            let place = &raw mut MACHINE;
            (*place).insert(machine)
        }
    }

    /// How the guest calls the CPU it booted on.
    pub fn name(&self) -> impl Display {
        struct Name(u32);
        impl Display for Name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "CPU {}", self.0)
            }
        }
        Name(self.apic_id)
    }

    /// What CPUID gives away about the host.
    pub fn host(&self) -> Host {
        match cpu::hypervisor() {
            // QEMU says so even where it is the machine itself.
            None | Some(QEMU) => Host::Native,
            Some(_) => Host::Hypervisor,
        }
    }

    /// The options on the command line.
    pub fn options(&self) -> Options<'static> {
        Options::new(self.info.map_or("", |info| info.command_line()))
    }

    /// The APIC ids of all CPUs.
    pub fn cpus(&self) -> impl Iterator<Item = u32> {
        let listed = self.acpi.map(|acpi| acpi.cpus());
        let only = self.acpi.is_none().then_some(self.apic_id);
        listed.into_iter().flatten().chain(only)
    }

    /// Where the RAM above 1 MiB ends.
    pub fn ram_end(&self) -> Option<usize> {
        self.info?.ram_end()?.try_into().ok()
    }

    /// Whether the loader says that there is RAM at `address`.
    pub fn has_ram_at(&self, address: usize) -> bool {
        let end = |info: Info<Physical>| info.mapped_end(address as u64);
        self.info.and_then(end).is_some()
    }

    /// The CPUs' timer.
    pub fn timer(&self) -> Timer {
        self.timer
    }

    /// The port of the power management timer.
    pub fn pm_timer(&self) -> Option<u16> {
        self.acpi?.pm_timer()
    }

    /// The first I/O APIC.
    pub fn io_apic(&self) -> Option<IoApic> {
        let entry: IoApicEntry = self.acpi?.io_apic()?;
        // SAFETY: the tables say so, and everything below 4 GiB is mapped to itself.
        Some(unsafe { IoApic::new(entry) })
    }

    /// The input of the first I/O APIC where a line of the ISA bus arrives.
    pub fn io_apic_input(&self, irq: u8) -> Option<u8> {
        self.io_apic()?.input(self.acpi?.isa_route(irq).gsi)
    }
}

/// The signature of QEMU's emulated CPUs.
const QEMU: [u8; 12] = *b"TCGTCGTCGTCG";

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match cpu::hypervisor() {
            Some(signature) => write!(f, "hypervisor {}, ", signature.escape_ascii())?,
            None => f.write_str("no hypervisor, ")?,
        }
        match self.cpus().count() {
            1 => f.write_str("1 CPU")?,
            count => write!(f, "{count} CPUs")?,
        }
        f.write_str(", RAM to ")?;
        match self.ram_end() {
            Some(end) => write!(f, "{end:#x}")?,
            None => f.write_str("somewhere")?,
        }
        let mhz = self.timer.ticks_per_second() / 1_000_000;
        write!(f, ", TSC {mhz} MHz, timer by ")?;
        f.write_str(match self.timer.request {
            Request::Deadline => "TSC deadline",
            Request::Count => "count",
        })
    }
}
