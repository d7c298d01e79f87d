//! What only an x86 machine has to say.

use axdevice::Keeps;

/// An x86 machine. What its CPUs can do, they say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct X86Machine {
    /// The time of day when the host's counter showed zero, in seconds since 1970.
    pub epoch_s: u64,
    /// The longest that a guest may run without an exit, in microseconds, where something demands one.
    pub longest_turn_us: Option<u32>,
    /// How much of guests' local APICs its CPUs may keep.
    pub local_apic: LocalApicLimit,
}

/// How much of guests' local APICs CPUs that can keep them may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalApicLimit {
    /// All that they can.
    #[default]
    None,
    /// No more than this.
    Most(Keeps),
    /// Nothing.
    Nothing,
}

impl LocalApicLimit {
    /// What of what they can.
    pub(crate) fn of(self, can: Option<Keeps>) -> Option<Keeps> {
        match self {
            Self::None => can,
            Self::Most(most) => can.min(Some(most)),
            Self::Nothing => None,
        }
    }
}

/// The options of the command line.
const LOCAL_APIC: &str = "apicv=";
const LONGEST_TURN: &str = "longest_turn_us=";

impl X86Machine {
    /// With what the hypervisor's command line says of the machine. All else on the line is a bootloader's. Each option whose value is none of
    /// these is passed to `refuse` with what it must be, and ignored.
    ///
    /// - `longest_turn_us=N`: for one that may hold the host's interrupts back from a guest that has its own off (Bochs).
    /// - `apicv=off`, `apicv=tpr`, `apicv=registers`, `apicv=on`: how much of guests' local APICs its CPUs may keep.
    #[must_use]
    pub fn with_options<'a>(
        mut self,
        command_line: &'a str,
        mut refuse: impl FnMut(&'a str, &'static str),
    ) -> Self {
        for word in command_line.split_ascii_whitespace() {
            if let Some(value) = word.strip_prefix(LONGEST_TURN) {
                match value.parse() {
                    Ok(us) if us > 0 => self.longest_turn_us = Some(us),
                    Ok(_) | Err(_) => refuse(word, "a number of microseconds above 0"),
                }
            } else if let Some(value) = word.strip_prefix(LOCAL_APIC) {
                match value {
                    "on" => self.local_apic = LocalApicLimit::None,
                    "registers" => self.local_apic = LocalApicLimit::Most(Keeps::Registers),
                    "tpr" => self.local_apic = LocalApicLimit::Most(Keeps::TaskPriority),
                    "off" => self.local_apic = LocalApicLimit::Nothing,
                    _ => refuse(word, "one of on, registers, tpr, off"),
                }
            }
        }
        self
    }

    /// The longest turn in ticks of a counter of this rate; [`u64::MAX`]: there is none.
    pub(crate) fn longest_turn(&self, hz: u64) -> u64 {
        self.longest_turn_us.map_or(u64::MAX, |us| {
            (u64::from(us).saturating_mul(hz) / 1_000_000).max(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    /// What of the command line is taken, and the options that are refused.
    fn told(line: &str) -> (X86Machine, Vec<&str>) {
        let mut refused = Vec::new();
        let machine = X86Machine::default().with_options(line, |option, _| refused.push(option));
        (machine, refused)
    }

    #[test]
    fn the_command_line_says_how_long_a_turn_may_be() {
        let turn = |line| {
            let (machine, refused) = told(line);
            assert!(refused.is_empty(), "{line}");
            machine.longest_turn(200_000_000)
        };
        for line in ["", "/boot/hv.elf", "nolongest_turn_us=3 quiet"] {
            assert_eq!(turn(line), u64::MAX, "{line}");
        }
        assert_eq!(turn("/boot/hv.elf  longest_turn_us=10000 quiet"), 2_000_000);
    }

    #[test]
    fn the_command_line_says_what_of_local_apics_is_kept() {
        let kept = |line| {
            let (machine, refused) = told(line);
            assert!(refused.is_empty(), "{line}");
            [
                Some(Keeps::Everything),
                Some(Keeps::Registers),
                Some(Keeps::TaskPriority),
                None,
            ]
            .map(|can| machine.local_apic.of(can))
        };
        let (all, priority) = (Some(Keeps::Everything), Some(Keeps::TaskPriority));
        let registers = Some(Keeps::Registers);
        for line in ["", "apicv=on", "apicv=off apicv=on", "xapicv=off"] {
            assert_eq!(kept(line), [all, registers, priority, None], "{line}");
        }
        assert_eq!(
            kept("apicv=registers"),
            [registers, registers, priority, None]
        );
        assert_eq!(
            kept("longest_turn_us=3 apicv=tpr"),
            [priority, priority, priority, None]
        );
        assert_eq!(kept("/boot/hv.elf apicv=off"), [None; 4]);
    }

    #[test]
    fn each_wrong_option_is_named_and_the_others_are_heeded() {
        let wrong = [
            "apicv=",
            "apicv=no",
            "longest_turn_us=",
            "longest_turn_us=0",
            "longest_turn_us=1ms",
        ];
        let line = format!("longest_turn_us=7 {} apicv=off", wrong.join(" "));
        let (machine, refused) = told(&line);
        assert_eq!(refused, wrong);
        assert_eq!(machine.longest_turn_us, Some(7));
        assert_eq!(machine.local_apic, LocalApicLimit::Nothing);
    }
}
