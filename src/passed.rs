//! The machine's devices that VMs have: who hears of their interrupts, and the way to their ports.

use alloc::{collections::BTreeMap, sync::Arc};

use axdevice::{AccessFault, Arrival, HostDevices, NotLed};
use axvcpu::AccessWidth;
use kspin::SpinNoIrq;

use crate::arch::{self, platform::irq};

/// Who hears, by the interrupt's number. Interrupts look here, so that nobody waits with the lock held.
static ARRIVALS: SpinNoIrq<BTreeMap<u32, Arrival>> = SpinNoIrq::new(BTreeMap::new());

/// Listens. Once, before the first VM starts.
pub(crate) fn init() {
    irq::on_passed(|number| {
        if let Some(arrival) = ARRIVALS.lock().get(&number) {
            arrival();
        }
    });
}

/// This machine's.
pub(crate) struct MachineDevices;

impl HostDevices for MachineDevices {
    fn open_interrupt(&self, number: u32, pcpu: usize, arrival: Arrival) -> Result<(), NotLed> {
        let before = ARRIVALS.lock().insert(number, arrival);
        drop(before);
        if irq::pass(number, pcpu) {
            Ok(())
        } else {
            forget(number);
            Err(NotLed { pcpu })
        }
    }

    fn interrupt_served(&self, number: u32) {
        irq::served(number);
    }

    fn close_interrupt(&self, number: u32) {
        irq::take_back(number);
        forget(number);
    }

    fn read_port(&self, port: u16, width: AccessWidth) -> Result<u64, AccessFault> {
        arch::read_port(port, width).ok_or(AccessFault)
    }

    fn write_port(&self, port: u16, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        arch::write_port(port, width, data).ok_or(AccessFault)
    }
}

/// What listened goes where the lock is not held: it may be the last to know of a VM's part.
fn forget(number: u32) {
    let arrival: Option<Arc<_>> = ARRIVALS.lock().remove(&number);
    drop(arrival);
}
