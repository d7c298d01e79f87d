//! The I/O APICs: from a device's interrupt line to a vector of a pCPU (Intel 82093AA data sheet).

use axplat::mem::{PhysAddr, phys_to_virt};
use kspin::SpinNoIrq;

use crate::{
    acpi::madt::Signal,
    io_apics::IoApic,
    machine,
    redirection::{self, Entry, Gate},
};

/// Two accesses make one, and all go through here.
static ACCESS: SpinNoIrq<()> = SpinNoIrq::new(());

/// The last CPU that an input can lead to: eight bits, of which all ones mean every CPU.
pub(crate) const MAX_DESTINATION: u32 = 0xfe;

const VERSION: u32 = 1;
const FIRST_REDIRECTION: u32 = 0x10;

impl IoApic {
    fn register(&self, offset: usize) -> *mut u32 {
        phys_to_virt(PhysAddr::from_usize(self.address + offset))
            .as_mut_ptr()
            .cast()
    }

    fn select(&self, index: u32) -> *mut u32 {
        // SAFETY: the MADT names an I/O APIC there, it is mapped, and the caller holds the lock.
        unsafe { self.register(0).write_volatile(index) };
        self.register(0x10)
    }

    fn read(&self, index: u32) -> u32 {
        // SAFETY: as above.
        unsafe { self.select(index).read_volatile() }
    }

    fn write(&self, index: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.select(index).write_volatile(value) };
    }

    /// How many inputs it has.
    fn inputs(&self) -> u32 {
        (self.read(VERSION) >> 16 & 0xff) + 1
    }
}

/// An input, while the lock is held.
struct Input<'a> {
    apic: &'a IoApic,
    number: u32,
}

impl Entry for Input<'_> {
    fn low(&self) -> u32 {
        self.apic.read(FIRST_REDIRECTION + 2 * self.number)
    }

    fn set_low(&self, value: u32) {
        self.apic.write(FIRST_REDIRECTION + 2 * self.number, value);
    }

    fn set_high(&self, value: u32) {
        self.apic
            .write(FIRST_REDIRECTION + 2 * self.number + 1, value);
    }
}

/// Masks every input: firmware may have left some open.
pub(crate) fn init() {
    let _access = ACCESS.lock();
    for apic in machine().io_apics() {
        for number in 0..apic.inputs() {
            let gsi = apic.first_gsi.saturating_add(number);
            redirection::reset(&Input { apic, number }, machine().signal_of_gsi(gsi));
        }
    }
}

/// How many inputs an I/O APIC has.
pub(crate) fn inputs(apic: &IoApic) -> u32 {
    let _access = ACCESS.lock();
    apic.inputs()
}

/// Where a global system interrupt comes in. With the lock held.
fn input(gsi: u32) -> Option<Input<'static>> {
    machine().io_apics().iter().find_map(|apic| {
        let number = gsi.checked_sub(apic.first_gsi)?;
        (number < apic.inputs()).then_some(Input { apic, number })
    })
}

/// Leads a global system interrupt to `vector` of pCPU `cpu`. Says whether there is such an interrupt, and it can lead there.
pub(crate) fn route(gsi: u32, cpu: usize, vector: u8, signal: Signal, gate: Gate) -> bool {
    let _access = ACCESS.lock();
    let cpu = machine().cpus().get(cpu);
    let cpu = cpu.filter(|cpu| cpu.apic_id <= MAX_DESTINATION);
    let (Some(input), Some(cpu)) = (input(gsi), cpu) else {
        return false;
    };
    redirection::route(&input, cpu.apic_id, vector, signal, gate);
    true
}

/// Opens or closes a global system interrupt that leads somewhere.
pub(crate) fn set_gate(gsi: u32, gate: Gate) {
    let _access = ACCESS.lock();
    if let Some(input) = input(gsi) {
        redirection::set_gate(&input, gate);
    }
}
