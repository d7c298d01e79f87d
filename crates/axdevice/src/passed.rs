//! The machine's own devices, as a VM that is given some of them reaches them.
//!
//! Their registers in memory are mapped for the guest, and nothing here sees them. What is left are I/O ports, which are passed on, and
//! interrupts: the host takes one, keeps it from coming again, and the guest's interrupt controller has it; when the guest has served it
//! there, the host lets the next one come. So a device interrupts as often as its guest serves it, and not more.

#[cfg(test)]
mod tests;

use alloc::{string::String, sync::Arc};
use core::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

use axvcpu::{AccessWidth, LineLevel};

use crate::{AccessFault, Device, IrqLine};

/// What a host does when an interrupt that it was to [open](HostDevices::open_interrupt) has come. It is called in the midst of other
/// work, with interrupts off: it takes no lock.
pub type Arrival = Arc<dyn Fn() + Send + Sync>;

/// The machine cannot lead an interrupt to a pCPU: its interrupt controller serves others only, or does not have the interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLed {
    /// Where it was to go.
    pub pcpu: usize,
}

impl fmt::Display for NotLed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pcpu = self.pcpu;
        write!(
            f,
            "the machine's interrupt controller cannot lead it to pCPU {pcpu}, where vCPU 0 is"
        )
    }
}

/// The machine's devices, which are the host's to reach.
pub trait HostDevices: Send + Sync {
    /// Lets interrupt `irq` come, at `pcpu`, where `arrival` is called. Until it was [served](Self::interrupt_served), one that asks by its
    /// level does not come again.
    ///
    /// # Errors
    /// It cannot come there.
    fn open_interrupt(&self, irq: u32, pcpu: usize, arrival: Arrival) -> Result<(), NotLed>;

    /// Interrupt `irq`, which came, may come again. Called with the locks of the guest's interrupt controller held.
    fn interrupt_served(&self, irq: u32);

    /// Interrupt `irq` comes no more; that it came last is forgotten.
    fn close_interrupt(&self, irq: u32);

    /// Reads an I/O port.
    ///
    /// # Errors
    /// The machine has no ports, or none so wide.
    fn read_port(&self, port: u16, width: AccessWidth) -> Result<u64, AccessFault>;

    /// Writes an I/O port.
    ///
    /// # Errors
    /// As for [`read_port`](Self::read_port).
    fn write_port(&self, port: u16, width: AccessWidth, data: u64) -> Result<(), AccessFault>;
}

/// A machine that has none to give.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHostDevices;

impl HostDevices for NoHostDevices {
    fn open_interrupt(&self, _: u32, pcpu: usize, _: Arrival) -> Result<(), NotLed> {
        Err(NotLed { pcpu })
    }

    fn interrupt_served(&self, _: u32) {}

    fn close_interrupt(&self, _: u32) {}

    fn read_port(&self, _: u16, _: AccessWidth) -> Result<u64, AccessFault> {
        Err(AccessFault)
    }

    fn write_port(&self, _: u16, _: AccessWidth, _: u64) -> Result<(), AccessFault> {
        Err(AccessFault)
    }
}

/// How an interrupt of the machine's asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostTrigger {
    /// By a level, until it is served.
    Level,
    /// By an edge, each of which is one interrupt.
    Edge,
}

/// Hears when the guest has served an interrupt at its controller.
pub trait ServedInterrupt: Send + Sync {
    /// It has, and its line is low again. Called with the controller's lock held.
    fn served(&self);
}

/// It does not come: the VM does not run.
const CLOSED: u8 = 0;
/// It may come.
const OPEN: u8 = 1;
/// The host has taken it, and the guest's controller does not know yet.
const ARRIVED: u8 = 2;
/// The guest's controller has it.
const ASKED: u8 = 3;

/// An interrupt of the machine's, on its way to a guest.
pub struct PassedInterrupt {
    irq: u32,
    trigger: HostTrigger,
    host: Arc<dyn HostDevices>,
    line: IrqLine,
    state: AtomicU8,
}

impl PassedInterrupt {
    /// The machine's interrupt `irq`, which leads to `line`, and does not come yet.
    #[must_use]
    pub fn new(irq: u32, trigger: HostTrigger, host: Arc<dyn HostDevices>, line: IrqLine) -> Self {
        Self {
            irq,
            trigger,
            host,
            line,
            state: AtomicU8::new(CLOSED),
        }
    }

    /// The machine's number of it.
    #[must_use]
    pub fn irq(&self) -> u32 {
        self.irq
    }

    /// Lets it come, at `pcpu`. `tell` is called when it has; then somebody must [deliver](Self::deliver) it, who may take locks.
    ///
    /// # Errors
    /// It cannot come there.
    pub fn open(
        self: &Arc<Self>,
        pcpu: usize,
        tell: impl Fn() + Send + Sync + 'static,
    ) -> Result<(), NotLed> {
        // First: it may come before the call returns.
        self.state.store(OPEN, Ordering::SeqCst);
        let this = self.clone();
        let arrival = move || {
            if this.arrived() {
                tell();
            }
        };
        let opened = self.host.open_interrupt(self.irq, pcpu, Arc::new(arrival));
        if opened.is_err() {
            self.state.store(CLOSED, Ordering::SeqCst);
        }
        opened
    }

    /// It comes no more, and what of it the guest has not served is forgotten. The guest's controller is reset before it is opened again.
    pub fn close(&self) {
        if self.state.swap(CLOSED, Ordering::SeqCst) != CLOSED {
            self.host.close_interrupt(self.irq);
        }
    }

    /// The host has taken it. Whether there is something to deliver.
    fn arrived(&self) -> bool {
        let (seq, from) = (Ordering::SeqCst, OPEN);
        let came = self.state.compare_exchange(from, ARRIVED, seq, seq);
        // An edge before the last was delivered is one with it; after the end nobody listens.
        came.is_ok()
    }

    /// The guest's controller has it from now on, if it has come.
    pub fn deliver(&self) {
        let next = match self.trigger {
            HostTrigger::Level => ASKED,
            // The next may come; nobody says when an edge has been served.
            HostTrigger::Edge => OPEN,
        };
        let seq = Ordering::SeqCst;
        // First: it may be served before the call below returns.
        if self.state.compare_exchange(ARRIVED, next, seq, seq).is_ok() {
            self.line.set(LineLevel::High);
            match self.trigger {
                HostTrigger::Level => {}
                HostTrigger::Edge => self.line.set(LineLevel::Low),
            }
        }
    }
}

impl ServedInterrupt for PassedInterrupt {
    fn served(&self) {
        let seq = Ordering::SeqCst;
        // First: the next may come before the call returns.
        if self.state.compare_exchange(ASKED, OPEN, seq, seq).is_ok() {
            self.host.interrupt_served(self.irq);
        }
    }
}

/// I/O ports of the machine's.
pub struct PassedPorts {
    name: String,
    first: u16,
    host: Arc<dyn HostDevices>,
}

impl PassedPorts {
    /// The ports from `first` on.
    #[must_use]
    pub fn new(name: impl Into<String>, first: u16, host: Arc<dyn HostDevices>) -> Self {
        Self {
            name: name.into(),
            first,
            host,
        }
    }

    fn port(&self, offset: u64) -> Result<u16, AccessFault> {
        let offset = u16::try_from(offset).ok();
        let port = offset.and_then(|offset| self.first.checked_add(offset));
        port.ok_or(AccessFault)
    }
}

impl Device for PassedPorts {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        self.host.read_port(self.port(offset)?, width)
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        self.host.write_port(self.port(offset)?, width, data)
    }

    /// Nobody knows how: the guest finds the device as it was left.
    fn reset(&self) {}
}
