//! The interrupt lines of a PC's old devices, each of which leads to an input of the 8259s and to a pin of the I/O APIC.

use alloc::sync::Arc;

use axvcpu::LineLevel;

use crate::{InterruptController, IoApic, IrqLine, Pic8259};

/// The sixteen lines, as an [`InterruptController`] whose input `n` is line `n`.
///
/// The guest chooses who passes an interrupt on to it, by masking the other one.
pub struct IsaLines {
    pic: Arc<Pic8259>,
    io_apic: Arc<IoApic>,
}

impl IsaLines {
    /// The interval timer's.
    pub const TIMER: u32 = 0;

    /// The first serial port's.
    pub const COM1: u32 = 4;

    /// ACPI's, which is a level.
    pub const SCI: u32 = 9;

    /// The real-time clock's.
    pub const RTC: u32 = 8;

    /// Lines to both.
    #[must_use]
    pub fn new(pic: Arc<Pic8259>, io_apic: Arc<IoApic>) -> Arc<Self> {
        Arc::new(Self { pic, io_apic })
    }

    /// The wire to line `irq`.
    #[must_use]
    pub fn wire(self: &Arc<Self>, irq: u32) -> IrqLine {
        let controller: Arc<dyn InterruptController> = self.clone();
        IrqLine::new(controller, irq)
    }

    /// The pin of the I/O APIC (ACPI: the global system interrupt) of line `irq`. It is another one for the timer, of which the MADT has to
    /// say so.
    #[must_use]
    pub const fn pin(irq: u32) -> u32 {
        match irq {
            Self::TIMER => 2,
            irq => irq,
        }
    }
}

impl InterruptController for IsaLines {
    fn set_line(&self, source: u32, level: LineLevel) {
        // There is no line 2: the pin is the timer's, and the input the second 8259's.
        if source == 2 || source >= 16 {
            return;
        }
        self.pic.set_line(source, level);
        self.io_apic.set_line(Self::pin(source), level);
    }
}
