//! The high precision event timer at its usual place, and the serial port COM2.
//!
//! Options: `hpet` reads the timer's counter; `com2` has the serial port keep a byte and send itself others.

use guests::arch::{Machine, port};
use guests::println;

/// Registers (IA-PC HPET specification 1.0a, 2.3).
mod hpet {
    pub(super) const BASE: usize = 0xfed0_0000;
    pub(super) const CAPABILITIES: usize = 0x00;
    pub(super) const CONFIGURATION: usize = 0x10;
    pub(super) const COUNTER: usize = 0xf0;
    /// Of the configuration: the counter runs.
    pub(super) const ENABLE: u32 = 1 << 0;
}

/// Registers (PC16550D data sheet).
mod com2 {
    pub(super) const BASE: u16 = 0x2f8;
    pub(super) const DATA: u16 = BASE;
    pub(super) const MODEM_CONTROL: u16 = BASE + 4;
    pub(super) const LINE_STATUS: u16 = BASE + 5;
    pub(super) const SCRATCH: u16 = BASE + 7;
    pub(super) const LOOP: u8 = 1 << 4;
    pub(super) const DATA_READY: u8 = 1 << 0;
}

pub(crate) fn drive(machine: &Machine) -> Result<(), &'static str> {
    let options = machine.options();
    if options.has("hpet") {
        count()?;
    }
    if options.has("com2") {
        talk_to_itself()?;
    }
    Ok(())
}

fn read(register: usize) -> u32 {
    // SAFETY: the timer's registers are there, as who gave the option says.
    unsafe { ((hpet::BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as in `read`; the timer writes to no memory.
    unsafe { ((hpet::BASE + register) as *mut u32).write_volatile(value) }
}

fn count() -> Result<(), &'static str> {
    let (capabilities, period_fs) = (read(hpet::CAPABILITIES), read(hpet::CAPABILITIES + 4));
    if capabilities == u32::MAX || period_fs == 0 {
        return Err("there is no HPET");
    }
    println!(
        "passed: an HPET whose ticks take {} ns",
        period_fs / 1_000_000
    );
    write(
        hpet::CONFIGURATION,
        read(hpet::CONFIGURATION) | hpet::ENABLE,
    );
    let first = read(hpet::COUNTER);
    while read(hpet::COUNTER) == first {}
    println!("passed: it counts");
    Ok(())
}

fn talk_to_itself() -> Result<(), &'static str> {
    for byte in [0x5a_u8, 0xa5] {
        port::write(com2::SCRATCH, byte);
        if port::read::<u8>(com2::SCRATCH) != byte {
            return Err("there is no UART at COM2");
        }
    }
    port::write(com2::MODEM_CONTROL, com2::LOOP);
    for byte in *b"AxHV" {
        port::write(com2::DATA, byte);
        while port::read::<u8>(com2::LINE_STATUS) & com2::DATA_READY == 0 {}
        if port::read::<u8>(com2::DATA) != byte {
            return Err("COM2 hears another byte than it said");
        }
    }
    port::write(com2::MODEM_CONTROL, 0_u8);
    println!("passed: COM2 hears itself");
    Ok(())
}
