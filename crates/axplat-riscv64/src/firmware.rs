//! What the firmware must do for us (RISC-V SBI).

use core::fmt;

use sbi_rt::{Fence, Hsm, Ipi, Timer, probe_extension};

use crate::Machine;

/// An SBI extension that the firmware does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MissingExtension {
    name: &'static str,
    purpose: &'static str,
}

impl fmt::Display for MissingExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, purpose } = self;
        write!(
            f,
            "the firmware has no SBI extension {name}, which is needed to {purpose}: use a newer firmware (OpenSBI 1.0 or later)"
        )
    }
}

/// The first extension that is missing, of those that there is no way around.
pub(crate) fn missing(machine: &Machine) -> Option<MissingExtension> {
    let one_hart = machine.harts().len() == 1;
    let needed = [
        (
            one_hart || probe_extension(Hsm).is_available(),
            "HSM",
            "start harts",
        ),
        (
            probe_extension(Ipi).is_available(),
            "IPI",
            "interrupt harts",
        ),
        (
            probe_extension(Fence).is_available(),
            "RFENCE",
            "take memory away from guests",
        ),
        (
            machine.has_extension("sstc") || probe_extension(Timer).is_available(),
            "TIME",
            "set timers on a CPU without Sstc",
        ),
    ];
    needed
        .into_iter()
        .find(|&(available, ..)| !available)
        .map(|(_, name, purpose)| MissingExtension { name, purpose })
}
