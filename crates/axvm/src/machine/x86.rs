//! What only an x86 machine has to say.

/// An x86 machine. What its CPUs can do, they say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct X86Machine {
    /// The time of day when the host's counter showed zero, in seconds since 1970.
    pub epoch_s: u64,
    /// The longest that a guest may run without an exit, in microseconds, where something demands one.
    pub longest_turn_us: Option<u32>,
}

/// The option of the command line.
const LONGEST_TURN: &str = "longest_turn_us=";

impl X86Machine {
    /// With what the hypervisor's command line says of the machine: `longest_turn_us=N`, for one that may hold the host's interrupts back from
    /// a guest that has its own off (Bochs). All else on the line is a bootloader's.
    ///
    /// # Errors
    /// The option, if its value is no number of microseconds.
    pub fn told(self, command_line: &str) -> Result<Self, &str> {
        let mut words = command_line.split_ascii_whitespace();
        let Some(word) = words.find(|word| word.starts_with(LONGEST_TURN)) else {
            return Ok(self);
        };
        let value = word.get(LONGEST_TURN.len()..).unwrap_or_default();
        match value.parse() {
            Ok(us) if us > 0 => Ok(Self {
                longest_turn_us: Some(us),
                ..self
            }),
            Ok(_) | Err(_) => Err(word),
        }
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
    use super::*;

    #[test]
    fn the_command_line_says_how_long_a_turn_may_be() {
        let turn = |line| {
            let told = X86Machine::default().told(line);
            told.map(|machine| machine.longest_turn(200_000_000))
        };
        for line in ["", "/boot/hv.elf", "nolongest_turn_us=3 quiet"] {
            assert_eq!(turn(line), Ok(u64::MAX), "{line}");
        }
        assert_eq!(
            turn("/boot/hv.elf  longest_turn_us=10000 quiet"),
            Ok(2_000_000)
        );
        for line in [
            "longest_turn_us=",
            "longest_turn_us=0",
            "longest_turn_us=1ms",
        ] {
            assert_eq!(turn(line), Err(line));
        }
    }
}
