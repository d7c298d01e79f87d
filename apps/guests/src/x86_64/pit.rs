//! The 8254 interval timer.

use crate::arch::port;

/// Ticks of its clock in a second.
pub const FREQUENCY: u64 = 1_193_182;
/// The line of channel 0 at the interrupt controllers.
pub const IRQ: u8 = 0;

const COMMAND: u16 = 0x43;
/// Bit 0: gate of channel 2; bit 1: the speaker listens to it; bit 5: output of channel 2.
const SPEAKER: u16 = 0x61;

/// A channel that guests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Its output is an interrupt line.
    Zero = 0,
    /// Gate and output are in port 0x61.
    Two = 2,
}

impl Channel {
    fn port(self) -> u16 {
        0x40 + self as u16
    }

    /// Starts counting down from `count` (0 for 65,536) in one of the modes 0 to 5.
    pub fn start(self, mode: u8, count: u16) {
        port::write(COMMAND, (self as u8) << 6 | 0b11 << 4 | mode << 1);
        for byte in count.to_le_bytes() {
            port::write(self.port(), byte);
        }
    }

    /// The count, latched.
    pub fn count(self) -> u16 {
        port::write(COMMAND, (self as u8) << 6);
        self.bytes()
    }

    /// Status and count, both latched by one read-back command.
    pub fn read_back(self) -> (u8, u16) {
        port::write(COMMAND, 0b1100_0000_u8 | 2 << self as u8);
        (port::read(self.port()), self.bytes())
    }

    fn bytes(self) -> u16 {
        let low = port::read(self.port());
        u16::from_le_bytes([low, port::read(self.port())])
    }
}

/// Opens or closes the gate of channel 2; the speaker stays silent.
pub fn set_gate(open: bool) {
    let others = port::read::<u8>(SPEAKER) & 0b1100;
    port::write(SPEAKER, others | u8::from(open));
}

/// The output of channel 2.
pub fn output() -> bool {
    port::read::<u8>(SPEAKER) & 1 << 5 != 0
}

/// Waits for a number of ticks, up to 65,535, by polling the output of channel 2.
pub fn wait(ticks: u16) {
    set_gate(false);
    Channel::Two.start(0, ticks);
    set_gate(true);
    while !output() {
        core::hint::spin_loop();
    }
}
