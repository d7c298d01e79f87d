//! The machine's real-time clock, at ports 0x70 and 0x71, which is read once: from then on the TSC tells the time.

use mc146818::Registers;
use x86::io::{inb, outb};

/// Its registers. Only the boot CPU, before there are others, reads them.
struct Cmos;

impl Registers for Cmos {
    fn read(&mut self, index: usize) -> u8 {
        const INDEX: u16 = 0x70;
        const DATA: u16 = 0x71;
        // SAFETY: the ports are the clock's on every PC. Choosing a register and reading one changes nothing else, but for register C, which
        // nobody waits for; the highest bit of the first port, which holds back NMIs, stays clear.
        unsafe {
            outb(INDEX, (index & 0x7f) as u8);
            inb(DATA)
        }
    }
}

/// The time of day in seconds since 1970, if there is a clock that tells it. `century` is the register that the FADT names.
pub(crate) fn time(century: Option<u8>) -> Option<u64> {
    mc146818::time(&mut Cmos, century.map(usize::from))
}
