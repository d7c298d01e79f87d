//! What only an x86 machine has to say.

use x86_vcpu::HltPolicy;

/// An x86 machine. What its CPUs can do, they say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct X86Machine {
    /// The time of day when the host's counter showed zero, in seconds since 1970.
    pub epoch_s: u64,
    /// What HLT does on a pCPU that one vCPU owns. On a shared one it exits.
    pub dedicated_hlt: HltPolicy,
}

impl X86Machine {
    /// With what the hypervisor's command line says of the machine: `hlt=exit`, for one whose CPUs do not leave a halted guest for every interrupt of the host's
    /// (Bochs). All else on the line is a bootloader's.
    ///
    /// # Errors
    /// The value of `hlt`, if it is another.
    pub fn told(self, command_line: &str) -> Result<Self, &str> {
        let mut words = command_line.split_ascii_whitespace();
        match words.find_map(|word| word.strip_prefix("hlt=")) {
            Some("exit") => Ok(Self {
                dedicated_hlt: HltPolicy::Exit,
                ..self
            }),
            Some(other) => Err(other),
            None => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_hlt_does() {
        let hlt = |line| X86Machine::default().told(line).map(|m| m.dedicated_hlt);
        for line in ["", "/boot/hv.elf", "nohlt=exit hlt"] {
            assert_eq!(hlt(line), Ok(HltPolicy::Untrapped), "{line}");
        }
        for line in ["hlt=exit", "/boot/hv.elf  hlt=exit quiet"] {
            assert_eq!(hlt(line), Ok(HltPolicy::Exit), "{line}");
        }
        assert_eq!(hlt("hlt=never"), Err("never"));
    }
}
