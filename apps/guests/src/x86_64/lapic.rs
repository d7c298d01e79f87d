//! The CPU's own APIC: by memory (xAPIC) or by MSR (x2APIC), as `IA32_APIC_BASE` says.

use crate::arch::msr;

/// Address of the registers.
pub const BASE: usize = 0xfee0_0000;

/// Registers, by their offset from [`BASE`].
pub mod register {
    #![allow(missing_docs, reason = "the names are the manuals'")]
    pub const ID: u32 = 0x20;
    pub const VERSION: u32 = 0x30;
    pub const TPR: u32 = 0x80;
    pub const PPR: u32 = 0xa0;
    pub const EOI: u32 = 0xb0;
    pub const LDR: u32 = 0xd0;
    pub const DFR: u32 = 0xe0;
    pub const SVR: u32 = 0xf0;
    /// The first of eight, each 16 bytes from the next.
    pub const ISR: u32 = 0x100;
    /// The first of eight, each 16 bytes from the next.
    pub const IRR: u32 = 0x200;
    pub const ESR: u32 = 0x280;
    pub const ICR: u32 = 0x300;
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}

/// Bit of a local vector table's entry: masked.
pub const MASKED: u32 = 1 << 16;
/// Bit of the timer's entry: periodic.
pub const PERIODIC: u32 = 1 << 17;
/// Bit of the timer's entry: waits for `IA32_TSC_DEADLINE`.
pub const DEADLINE: u32 = 1 << 18;
/// Delivery mode, in a local vector table's entry: the vector comes from the 8259.
pub const EXTINT: u32 = 7 << 8;
/// For the divide configuration: the timer counts every tick.
pub const EVERY_TICK: u32 = 0b1011;

/// Commands for [`send`]; a fixed interrupt is its vector alone.
pub mod command {
    #![allow(missing_docs, reason = "the names are the manuals'")]
    pub const NMI: u32 = 4 << 8;
    pub const INIT: u32 = 5 << 8 | ASSERT;
    pub const STARTUP: u32 = 6 << 8 | ASSERT;
    pub const LOGICAL: u32 = 1 << 11;
    pub const PENDING: u32 = 1 << 12;
    pub const ASSERT: u32 = 1 << 14;
    pub const SELF: u32 = 1 << 18;
    pub const ALL: u32 = 2 << 18;
    pub const OTHERS: u32 = 3 << 18;
}

/// The vector that stands for "nothing, after all".
pub const SPURIOUS: u8 = 0xff;
/// `SVR`: the APIC is on.
const SVR_ENABLE: u32 = 1 << 8;

/// How the registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// By memory.
    Xapic,
    /// By MSR.
    X2apic,
}

/// `IA32_APIC_BASE`: x2APIC.
pub const BASE_X2APIC: u64 = 1 << 10;
/// `IA32_APIC_BASE`: the APIC is there.
pub const BASE_ENABLE: u64 = 1 << 11;

/// How this CPU reaches its APIC.
pub fn mode() -> Mode {
    let base = msr::read(msr::APIC_BASE);
    match (base & BASE_ENABLE, base & BASE_X2APIC) {
        (0, _) => Mode::Off,
        (_, 0) => Mode::Xapic,
        _ => Mode::X2apic,
    }
}

/// The MSR that is an x2APIC's register.
pub fn msr_of(register: u32) -> u32 {
    msr::X2APIC + register / 16
}

/// Reads a register.
pub fn read(register: u32) -> u32 {
    match mode() {
        // SAFETY: memory there is the APIC.
        Mode::Off | Mode::Xapic => unsafe {
            ((BASE + register as usize) as *const u32).read_volatile()
        },
        Mode::X2apic => msr::read(msr_of(register)) as u32,
    }
}

/// Writes a register.
pub fn write(register: u32, value: u32) {
    match mode() {
        // SAFETY: memory there is the APIC, which writes to no other.
        Mode::Off | Mode::Xapic => unsafe {
            ((BASE + register as usize) as *mut u32).write_volatile(value);
        },
        // SAFETY: the APIC writes to no memory.
        Mode::X2apic => unsafe { msr::write(msr_of(register), value.into()) },
    }
}

/// This CPU's id.
pub fn id() -> u32 {
    let id = read(register::ID);
    match mode() {
        Mode::Off | Mode::Xapic => id >> 24,
        Mode::X2apic => id,
    }
}

/// Turns the APIC on, with everything in its local vector table masked.
pub fn enable() {
    use register::{LVT_ERROR, LVT_LINT0, LVT_LINT1, LVT_TIMER, SVR};
    write(SVR, SVR_ENABLE | u32::from(SPURIOUS));
    for entry in [LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        write(entry, MASKED);
    }
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(register::EOI, 0);
}

/// Sends a command to the CPU `destination`, and waits until it has left.
pub fn send(destination: u32, command: u32) {
    match mode() {
        Mode::Off | Mode::Xapic => {
            write(register::ICR_HIGH, destination << 24);
            write(register::ICR, command);
            while read(register::ICR) & command::PENDING != 0 {
                core::hint::spin_loop();
            }
        }
        Mode::X2apic => {
            let command = u64::from(destination) << 32 | u64::from(command);
            // SAFETY: the commands start CPUs only where this program's code awaits them.
            unsafe { msr::write(msr_of(register::ICR), command) }
        }
    }
}

/// Whether a vector's bit is set in one of the registers of 256 bits.
pub fn has(register: u32, vector: u8) -> bool {
    let word = u32::from(vector / 32);
    read(register + 16 * word) >> (vector % 32) & 1 == 1
}
