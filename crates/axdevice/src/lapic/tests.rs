//! Tests of the local APICs: every register in both modes, who gets which message, and comparisons with models that are as plain as
//! the manual.

mod command;
mod hostile;
mod kept;
mod model;
mod priority;
mod registers;
mod timer;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use super::{
    ApicBus, Delivery, Destination, EndOfInterrupt, ExternalInterrupts, LocalApic, Message,
    TriggerMode,
};
use crate::testing::{Event, Events, TestClock};
use crate::{AccessFault, Device, InterruptController, LocalInterrupts};

/// The frequency of the clock.
const HZ: u64 = 1_600_000_000;

const BASE: u32 = 0x1b;
const BASE_BSP: u64 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
const ADDRESS: u64 = 0xfee0_0000;

const ID: u32 = 0x02;
const VERSION: u32 = 0x03;
const TPR: u32 = 0x08;
const APR: u32 = 0x09;
const PPR: u32 = 0x0a;
const EOI: u32 = 0x0b;
const LDR: u32 = 0x0d;
const DFR: u32 = 0x0e;
const SVR: u32 = 0x0f;
const ISR: u32 = 0x10;
const TMR: u32 = 0x18;
const IRR: u32 = 0x20;
const ESR: u32 = 0x28;
const ICR: u32 = 0x30;
const ICR_HIGH: u32 = 0x31;
const LVT_TIMER: u32 = 0x32;
const LVT_LINT0: u32 = 0x35;
const LVT_LINT1: u32 = 0x36;
const LVT_ERROR: u32 = 0x37;
const INITIAL_COUNT: u32 = 0x38;
const CURRENT_COUNT: u32 = 0x39;
const DIVIDE: u32 = 0x3e;
const SELF_IPI: u32 = 0x3f;

/// An I/O APIC and 8259s that only remember.
#[derive(Default)]
struct Neighbours {
    ended: Mutex<Vec<u8>>,
    acknowledged: Mutex<u32>,
}

impl EndOfInterrupt for Neighbours {
    fn end_of_interrupt(&self, vector: u8) {
        self.ended.lock().push(vector);
    }
}

impl ExternalInterrupts for Neighbours {
    fn acknowledge(&self) -> u8 {
        *self.acknowledged.lock() += 1;
        0x33
    }
}

/// The local APICs of some vCPUs, and everything around them.
struct Bench {
    clock: Arc<TestClock>,
    events: Arc<Events>,
    neighbours: Arc<Neighbours>,
    bus: Arc<ApicBus>,
    apics: Vec<Arc<LocalApic>>,
}

impl Bench {
    /// As after power-on.
    fn cold(cpus: u32) -> Self {
        let clock = TestClock::new(HZ);
        let events = Events::new();
        let bus = ApicBus::new(cpus, clock.clone(), events.clone());
        let neighbours = Arc::new(Neighbours::default());
        let weak = Arc::downgrade(&neighbours);
        bus.connect_io_apic(weak.clone());
        bus.connect_ext_int(weak);
        let apics = (0..cpus as usize).map(|cpu| bus.local(cpu).unwrap());
        Self {
            clock,
            events,
            neighbours,
            apics: apics.collect(),
            bus,
        }
    }

    /// Switched on by software.
    fn xapic(cpus: u32) -> Self {
        let bench = Self::cold(cpus);
        for cpu in 0..cpus as usize {
            bench.write(cpu, SVR, 0x1ff);
        }
        bench
    }

    /// In x2APIC mode, and switched on by software.
    fn x2apic(cpus: u32) -> Self {
        let bench = Self::cold(cpus);
        for cpu in 0..cpus as usize {
            bench.to_x2apic(cpu);
            bench.wrmsr(cpu, SVR, 0x1ff).unwrap();
        }
        bench
    }

    fn to_x2apic(&self, cpu: usize) {
        self.apics[cpu]
            .write_msr(BASE, ADDRESS | BASE_ENABLE | BASE_X2APIC)
            .unwrap();
    }

    /// Reads a register of the page.
    fn read(&self, cpu: usize, register: u32) -> u32 {
        let value = self.apics[cpu].read(u64::from(register) << 4, AccessWidth::Dword);
        u32::try_from(value.unwrap()).unwrap()
    }

    fn write(&self, cpu: usize, register: u32, value: u32) {
        self.apics[cpu]
            .write(u64::from(register) << 4, AccessWidth::Dword, value.into())
            .unwrap();
    }

    /// Reads a register by its MSR.
    fn rdmsr(&self, cpu: usize, register: u32) -> Result<u64, AccessFault> {
        self.apics[cpu].read_msr(0x800 + register)
    }

    fn wrmsr(&self, cpu: usize, register: u32, value: u64) -> Result<(), AccessFault> {
        self.apics[cpu]
            .write_msr(0x800 + register, value)
            .map(|_| ())
    }

    fn pending(&self, cpu: usize) -> Option<u8> {
        self.apics[cpu].pending()
    }

    fn acknowledge(&self, cpu: usize) -> Option<u8> {
        self.apics[cpu].acknowledge()
    }

    /// The vCPUs that something waits for.
    fn interrupted(&self) -> Vec<usize> {
        let all = 0..self.apics.len();
        all.filter(|cpu| self.pending(*cpu).is_some()).collect()
    }

    fn set_lint0(&self, level: LineLevel) {
        self.bus.set_line(0, level);
    }

    fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    fn take_ended(&self) -> Vec<u8> {
        core::mem::take(&mut self.neighbours.ended.lock())
    }
}
