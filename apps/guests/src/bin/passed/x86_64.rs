//! The high precision event timer at its usual place, and the serial port COM2.
//!
//! Options: `hpet` reads the timer's counter, and with `hpet_irq=NUMBER` waits for its interrupt, a level at that pin of the I/O APIC; with
//! `again` the guest then takes one that it does not serve, starts its machine again, and finds the timer as it was. `com2` has the serial port keep a byte and send itself others, and with `com2_irq=NUMBER` waits for its interrupt, an edge of the ISA bus.

use guests::arch::context::{Context, Interrupts, Regs};
use guests::arch::ioapic::{self, IoApic};
use guests::arch::{Machine, lapic, port};
use guests::{code, println};

/// Registers (IA-PC HPET specification 1.0a, 2.3).
mod hpet {
    pub(super) const BASE: usize = 0xfed0_0000;
    pub(super) const CAPABILITIES: usize = 0x00;
    pub(super) const CONFIGURATION: usize = 0x10;
    pub(super) const STATUS: usize = 0x20;
    pub(super) const COUNTER: usize = 0xf0;
    pub(super) const TIMER: usize = 0x100;
    /// To which inputs of the I/O APIC it can lead.
    pub(super) const ROUTES: usize = 0x104;
    pub(super) const COMPARATOR: usize = 0x108;
    /// Of the timer: it asks by a level.
    pub(super) const LEVEL: u32 = 1 << 1;
    /// Of the timer: it interrupts.
    pub(super) const INTERRUPT: u32 = 1 << 2;
    pub(super) const ROUTE_SHIFT: u32 = 9;
    /// Of the configuration: the counter runs.
    pub(super) const ENABLE: u32 = 1 << 0;
}

/// Registers (PC16550D data sheet).
mod com2 {
    pub(super) const BASE: u16 = 0x2f8;
    pub(super) const DATA: u16 = BASE;
    pub(super) const INTERRUPT_ENABLE: u16 = BASE + 1;
    pub(super) const INTERRUPT_ID: u16 = BASE + 2;
    pub(super) const LINE_CONTROL: u16 = BASE + 3;
    pub(super) const EIGHT_BITS: u8 = 0b11;
    pub(super) const TRANSMITTER_EMPTY: u8 = 1 << 1;
    /// Of modem control: lets interrupts out.
    pub(super) const OUT2: u8 = 1 << 3;
    pub(super) const MODEM_CONTROL: u16 = BASE + 4;
    pub(super) const LINE_STATUS: u16 = BASE + 5;
    pub(super) const SCRATCH: u16 = BASE + 7;
    pub(super) const LOOP: u8 = 1 << 4;
    pub(super) const DATA_READY: u8 = 1 << 0;
}

/// How often each is waited for.
const TIMES: usize = 5;
const VECTOR: u8 = 0x51;

pub(crate) fn drive(machine: &Machine) -> Result<(), &'static str> {
    let options = machine.options();
    let number = |name| options.number(name).ok().flatten();
    if options.has("hpet") {
        count()?;
    }
    if let Some(irq) = number("hpet_irq") {
        let again = options.has("again");
        tick(machine, irq as u32, again)?;
    }
    if options.has("com2") {
        talk_to_itself()?;
    }
    if let Some(irq) = number("com2_irq") {
        send(machine, irq as u8)?;
    }
    Ok(())
}

/// Waits for the interrupt of an input, whose entry this is.
fn wait() -> Result<(), &'static str> {
    let wait = code!("2: hlt", "jmp 2b");
    let trap = Context::new(&wait, Regs::ZERO)
        .interrupts(Interrupts::On)
        .run();
    if trap.vector == usize::from(VECTOR) {
        Ok(())
    } else {
        Err("another interrupt came")
    }
}

/// Has the timer raise its level, and lower it when it was served; once not, so that it must come again.
fn tick(machine: &Machine, irq: u32, again: bool) -> Result<(), &'static str> {
    const AHEAD_NS: u64 = 2_000_000;
    let pins = machine.io_apic().ok_or("there is no I/O APIC")?;
    let pin = pins.input(irq).ok_or("the I/O APIC has no such pin")?;
    if read(hpet::ROUTES) >> irq & 1 == 0 {
        return Err("the timer cannot lead to this pin");
    }
    pins.set_entry(pin, ioapic::LEVEL | u64::from(VECTOR));
    let timer = irq << hpet::ROUTE_SHIFT | hpet::LEVEL | hpet::INTERRUPT;
    let period_fs = u64::from(read(hpet::CAPABILITIES + 4));
    let start = || {
        let ahead = (AHEAD_NS * 1_000_000 / period_fs) as u32;
        let at = read(hpet::COUNTER).wrapping_add(ahead);
        write(hpet::COMPARATOR, at);
        write(hpet::COMPARATOR + 4, 0);
        write(hpet::TIMER, timer);
    };
    let stop = || {
        write(hpet::TIMER, 0);
        write(hpet::STATUS, 1);
        lapic::end_of_interrupt();
    };
    let is_second_life = again && read(hpet::TIMER) & hpet::INTERRUPT != 0;
    if is_second_life {
        println!("passed: the timer was not reset");
        wait()?;
        stop();
        println!("passed: the tick of the former life came");
    }
    for time in 1..=TIMES {
        start();
        wait()?;
        if time == 1 {
            lapic::end_of_interrupt();
            wait()?;
        }
        stop();
        println!("passed: tick {time}");
    }
    if again && !is_second_life {
        start();
        wait()?;
        // Neither the timer nor the local APIC hears of it.
        println!("passed: starting again");
        const RESET_CONTROL: u16 = 0xcf9;
        const FULL_RESET: u8 = 0x06;
        port::write(RESET_CONTROL, FULL_RESET);
    }
    close(&pins, pin);
    Ok(())
}

/// Has the UART say that it has sent a byte: each time an edge.
fn send(machine: &Machine, irq: u8) -> Result<(), &'static str> {
    let pins = machine.io_apic().ok_or("there is no I/O APIC")?;
    let pin = machine.io_apic_input(irq).ok_or("there is no such line")?;
    pins.set_entry(pin, VECTOR.into());
    port::write(com2::MODEM_CONTROL, com2::OUT2);
    port::write(com2::INTERRUPT_ENABLE, com2::TRANSMITTER_EMPTY);
    for time in 1..=TIMES {
        wait()?;
        // Which of its reasons it is: reading that takes the request back.
        if port::read::<u8>(com2::INTERRUPT_ID) & 0xf != 2 {
            return Err("COM2 has another reason to interrupt");
        }
        lapic::end_of_interrupt();
        println!("passed: COM2 has sent {time}");
        port::write(com2::DATA, b'.');
    }
    wait()?;
    port::write(com2::INTERRUPT_ENABLE, 0_u8);
    lapic::end_of_interrupt();
    close(&pins, pin);
    Ok(())
}

fn close(pins: &IoApic, pin: u8) {
    pins.set_entry(pin, ioapic::MASKED);
}

fn read(register: usize) -> u32 {
    // SAFETY: the timer's registers are there, as who gave the option says.
    unsafe { ((hpet::BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as in `read`; nobody tells the timer to store its interrupts to memory, which it could (`Tn_FSB_EN_CNF`).
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
    port::write(com2::LINE_CONTROL, com2::EIGHT_BITS);
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
