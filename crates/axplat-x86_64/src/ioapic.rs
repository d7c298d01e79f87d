//! The I/O APICs: from a device's interrupt line to a vector of a pCPU (Intel 82093AA data sheet).

use axplat::mem::{PhysAddr, phys_to_virt};
use kspin::SpinNoIrq;

use crate::{
    acpi::madt::{Polarity, Signal, Trigger},
    machine,
};

/// One I/O APIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApic {
    pub(crate) address: usize,
    /// The global system interrupt of its first input.
    pub(crate) first_gsi: u32,
}

/// Two accesses make one, and all go through here.
static ACCESS: SpinNoIrq<()> = SpinNoIrq::new(());

/// The last CPU that an input can lead to: eight bits, of which all ones mean every CPU.
pub(crate) const MAX_DESTINATION: u32 = 0xfe;

const VERSION: u32 = 1;
const FIRST_REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;

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

/// Masks every input: firmware may have left some open.
pub(crate) fn init() {
    let _access = ACCESS.lock();
    for apic in machine().io_apics() {
        for input in 0..apic.inputs() {
            apic.write(FIRST_REDIRECTION + 2 * input, MASKED);
        }
    }
}

/// How many inputs an I/O APIC has.
pub(crate) fn inputs(apic: &IoApic) -> u32 {
    let _access = ACCESS.lock();
    apic.inputs()
}

/// Whether an interrupt comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Closed,
}

/// Leads a global system interrupt to `vector` of pCPU `cpu`. Says whether there is such an interrupt, and it can lead there.
pub(crate) fn route(gsi: u32, cpu: usize, vector: u8, signal: Signal, gate: Gate) -> bool {
    let _access = ACCESS.lock();
    let found = machine().io_apics().iter().find_map(|apic| {
        let input = gsi.checked_sub(apic.first_gsi)?;
        (input < apic.inputs()).then_some((apic, FIRST_REDIRECTION + 2 * input))
    });
    let cpu = machine().cpus().get(cpu);
    let cpu = cpu.filter(|cpu| cpu.apic_id <= MAX_DESTINATION);
    let (Some((apic, redirection)), Some(cpu)) = (found, cpu) else {
        return false;
    };
    let polarity = match signal.polarity {
        Polarity::ActiveHigh => 0,
        Polarity::ActiveLow => ACTIVE_LOW,
    };
    let trigger = match signal.trigger {
        Trigger::Edge => 0,
        Trigger::Level => LEVEL,
    };
    let mask = match gate {
        Gate::Open => 0,
        Gate::Closed => MASKED,
    };
    apic.write(redirection, MASKED);
    apic.write(redirection + 1, cpu.apic_id << 24);
    apic.write(redirection, u32::from(vector) | polarity | trigger | mask);
    true
}
