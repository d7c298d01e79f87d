//! Motorola's MC146818A (data sheet), the real-time clock of PCs, as software sees it: registers, and how they show dates and times.
//!
//! The machine's clock is read at boot ([`time`]), and each VM has one that is emulated: both find here what they have in common.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod calendar;
mod read;

pub use calendar::{DateTime, Encoding, Field};
pub use read::{Registers, time};

/// The registers' numbers.
pub mod register {
    /// Seconds.
    pub const SECONDS: usize = 0x00;
    /// Seconds of the alarm.
    pub const SECONDS_ALARM: usize = 0x01;
    /// Minutes.
    pub const MINUTES: usize = 0x02;
    /// Minutes of the alarm.
    pub const MINUTES_ALARM: usize = 0x03;
    /// Hours.
    pub const HOURS: usize = 0x04;
    /// Hours of the alarm.
    pub const HOURS_ALARM: usize = 0x05;
    /// Day of the week; 1 is Sunday.
    pub const WEEKDAY: usize = 0x06;
    /// Day of the month.
    pub const DAY: usize = 0x07;
    /// Month.
    pub const MONTH: usize = 0x08;
    /// Year of the century.
    pub const YEAR: usize = 0x09;
    /// Register A: divider, and whether the time is changing.
    pub const A: usize = 0x0a;
    /// Register B: formats and interrupts.
    pub const B: usize = 0x0b;
    /// Register C: why there was an interrupt.
    pub const C: usize = 0x0c;
    /// Register D: whether the battery is good.
    pub const D: usize = 0x0d;
    /// Where a PC's BIOS keeps the century, in the clock's memory. ACPI's FADT says whether it does.
    pub const CENTURY: usize = 0x32;
}

/// Register A: an update is in progress, or will be within 244 µs.
pub const A_UPDATING: u8 = 1 << 7;
/// Register B: numbers are binary; else each digit has four bits.
pub const B_BINARY: u8 = 1 << 2;
/// Register B: hours count to 24; else to 12, twice.
pub const B_24_HOURS: u8 = 1 << 1;
