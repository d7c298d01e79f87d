//! What of the machine's addresses is nobody's to give away.

use super::{Machine, Unusable, read::cells};

/// Addresses that are the hypervisor's or the firmware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The first.
    pub start: usize,
    /// How many.
    pub size: usize,
    /// What is there.
    pub what: &'static str,
}

/// Each hart or group of harts may have devices of the firmware's.
const MAX: usize = 32;

/// Registers, kept without a heap.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnedList {
    list: [Owned; MAX],
    len: usize,
}

impl OwnedList {
    pub(super) const fn new() -> Self {
        let none = Owned {
            start: 0,
            size: 0,
            what: "",
        };
        Self {
            list: [none; MAX],
            len: 0,
        }
    }

    pub(super) fn add(
        &mut self,
        start: usize,
        size: usize,
        what: &'static str,
    ) -> Result<(), Unusable> {
        let slot = self.list.get_mut(self.len);
        *slot.ok_or(Unusable::TooManyDevices)? = Owned { start, size, what };
        self.len += 1;
        Ok(())
    }

    fn as_slice(&self) -> &[Owned] {
        self.list.get(..self.len).unwrap_or(&[])
    }
}

/// Properties of the console's node (Devicetree Specification 0.4, 2.4.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConsoleInterrupts {
    /// `interrupts`
    pub(super) plain: &'static [u8],
    /// `interrupts-extended`
    pub(super) extended: &'static [u8],
}

impl Machine {
    /// What no VM can have: RAM, and what the hypervisor and the firmware drive.
    pub fn owned(&self) -> impl Iterator<Item = Owned> {
        let memory = [
            (&self.ram, "RAM"),
            (&self.reserved, "memory that the firmware keeps"),
        ];
        let memory = memory.into_iter().flat_map(|(ranges, what)| {
            let ranges = ranges.as_slice().iter();
            ranges.map(move |&(start, size)| Owned { start, size, what })
        });
        memory.chain(self.owned.as_slice().iter().copied())
    }

    /// Whether a PLIC source is the console's, which the hypervisor drives, or the firmware for it.
    #[must_use]
    pub fn is_console_source(&self, source: u32) -> bool {
        let ConsoleInterrupts { plain, extended } = self.console_interrupts;
        // After each controller there is one of its interrupts.
        let mut sources = cells(plain).chain(cells(extended).skip(1).step_by(2));
        sources.any(|of_console| of_console == source)
    }
}
