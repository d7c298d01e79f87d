//! Interrupt lines: from a device to its controller, and from a controller to a vCPU.

use alloc::sync::Arc;
use core::fmt;

use axvcpu::LineLevel;

/// The side of an interrupt controller that devices see.
pub trait InterruptController: Send + Sync {
    /// Sets the level of the line of `source`. A source that the controller does not have is ignored.
    ///
    /// Devices call this with their own lock held, so that the levels arrive in the order in which they came about.
    fn set_line(&self, source: u32, level: LineLevel);
}

/// The wire from a device to an input of an interrupt controller. Each input has one wire.
#[derive(Clone)]
pub struct IrqLine {
    controller: Arc<dyn InterruptController>,
    source: u32,
}

impl IrqLine {
    /// The wire to input `source` of `controller`.
    #[must_use]
    pub fn new(controller: Arc<dyn InterruptController>, source: u32) -> Self {
        Self { controller, source }
    }

    /// The input that this leads to.
    #[must_use]
    pub fn source(&self) -> u32 {
        self.source
    }

    /// Sets the level of the wire.
    pub fn set(&self, level: LineLevel) {
        self.controller.set_line(self.source, level);
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqLine")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What an interrupt controller drives: the external interrupt lines of the vCPUs.
pub trait CpuInterrupts: Send + Sync {
    /// Sets the level of the external interrupt line of vCPU `cpu`.
    ///
    /// Called on a change only, and with the controller's lock held: of two changes at once the one that came about last must also
    /// arrive last. So this only posts the level where the vCPU looks, and kicks it; it never waits and never calls the controller.
    fn set_line(&self, cpu: usize, level: LineLevel);
}
