//! What only an x86 machine has to say.

/// An x86 machine. What its CPUs can do, they say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct X86Machine {
    /// The time of day when the host's counter showed zero, in seconds since 1970.
    pub epoch_s: u64,
}
