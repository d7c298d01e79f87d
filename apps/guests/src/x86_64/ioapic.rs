//! An I/O APIC.

use crate::acpi::IoApicEntry;

/// Identification register.
pub const ID: u8 = 0;
/// Version, and in bits 23:16 the number of the last input.
pub const VERSION: u8 = 1;

/// Bit of a redirection entry: level-triggered.
pub const LEVEL: u64 = 1 << 15;
/// Bit of a redirection entry: its input is masked.
pub const MASKED: u64 = 1 << 16;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApic(IoApicEntry);

impl IoApic {
    /// The one of a table's entry.
    ///
    /// # Safety
    /// It is there, and mapped to its own address.
    pub(super) unsafe fn new(entry: IoApicEntry) -> Self {
        Self(entry)
    }

    /// Address of the register that selects another.
    pub fn select(&self) -> usize {
        self.0.address as usize
    }

    /// Address of the window to the selected register.
    pub fn window(&self) -> usize {
        self.select() + 0x10
    }

    /// Reads a register.
    pub fn read(&self, register: u8) -> u32 {
        // SAFETY: by the contract of `new`.
        unsafe {
            (self.select() as *mut u32).write_volatile(register.into());
            (self.window() as *const u32).read_volatile()
        }
    }

    /// Writes a register.
    pub fn write(&self, register: u8, value: u32) {
        // SAFETY: by the contract of `new`.
        unsafe {
            (self.select() as *mut u32).write_volatile(register.into());
            (self.window() as *mut u32).write_volatile(value);
        }
    }

    /// How many inputs it has.
    pub fn inputs(&self) -> u8 {
        (self.read(VERSION) >> 16) as u8 + 1
    }

    /// The input of a global system interrupt.
    pub fn input(&self, gsi: u32) -> Option<u8> {
        let input = u8::try_from(gsi.checked_sub(self.0.first_gsi)?).ok()?;
        (input < self.inputs()).then_some(input)
    }

    /// The redirection entry of an input.
    pub fn entry(&self, input: u8) -> u64 {
        let low = self.read(0x10 + 2 * input);
        u64::from(self.read(0x11 + 2 * input)) << 32 | u64::from(low)
    }

    /// Sets the redirection entry of an input; the half with the mask comes last.
    pub fn set_entry(&self, input: u8, entry: u64) {
        self.write(0x11 + 2 * input, (entry >> 32) as u32);
        self.write(0x10 + 2 * input, entry as u32);
    }
}
