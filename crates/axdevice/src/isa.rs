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

    /// The wire to line `irq`: 0 to 15, but not 2. Any other leads nowhere.
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

#[cfg(test)]
mod tests {
    use axvcpu::AccessWidth;

    use super::*;
    use crate::testing::{Events, TestClock};
    use crate::{ApicBus, Device, LocalInterrupts};

    #[test]
    fn each_line_leads_to_both() {
        let apics = ApicBus::new(1, TestClock::new(1), Events::new());
        let pic = Pic8259::new("pic", &apics);
        let io_apic = IoApic::new("ioapic", apics.clone());
        let lines = IsaLines::new(pic.clone(), io_apic.clone());
        let local = apics.local(0).unwrap();
        let dword = AccessWidth::Dword;
        local.write(0xf0, dword, 0x1ff).unwrap();
        for pin in 0..24 {
            io_apic.write(0, dword, 0x10 + 2 * pin).unwrap();
            io_apic.write(0x10, dword, 0x40 + pin).unwrap();
        }
        for port in [0x21, 0xa1] {
            pic.write(port, AccessWidth::Byte, 0).unwrap();
        }
        for irq in 0..20 {
            lines.wire(irq).set(LineLevel::High);
            lines.wire(irq).set(LineLevel::Low);
            let exists = irq != 2 && irq < 16;
            let input = match irq {
                8.. => 0x70 + irq - 8,
                _ => 8 + irq,
            };
            let expected = exists.then_some(input as u8);
            let by_pic = local.acknowledge();
            assert_eq!(by_pic, expected, "{irq}");
            for port in [0xa0, 0x20] {
                pic.write(port, AccessWidth::Byte, 0x20).unwrap();
            }
            let expected = exists.then_some(0x40 + IsaLines::pin(irq) as u8);
            assert_eq!(local.acknowledge(), expected, "{irq}");
            local.write(0xb0, dword, 0).unwrap();
        }
    }
}
