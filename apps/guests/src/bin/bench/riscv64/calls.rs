//! Calls to the SBI that concern only the hart that makes them.

use guests::arch::Machine;
use guests::arch::context::Regs;
use guests::arch::context::reg::S6;
use guests::arch::sbi;
use guests::measure::Count;

use super::{MANY, counted, own_hart, rounds};

pub(crate) fn base_version(machine: &Machine) -> Option<Count> {
    let code = counted!(
        "li a7, 0x10",
        "li a6, 0",
        "li a0, 0",
        "li a1, 0",
        "li a2, 0",
        "ecall"
    );
    rounds(machine, &code, Regs::ZERO, MANY)
}

/// Of TIME.
pub(crate) fn base_probe(machine: &Machine) -> Option<Count> {
    let code = counted!("li a7, 0x10", "li a6, 3", "li a0, 0x54494d45", "ecall");
    rounds(machine, &code, Regs::ZERO, MANY)
}

/// For never: no interrupt comes of it.
pub(crate) fn set_timer(machine: &Machine) -> Option<Count> {
    is_there(sbi_spec::time::EID_TIME)?;
    let code = counted!("li a7, 0x54494d45", "li a6, 0", "li a0, -1", "ecall");
    rounds(machine, &code, Regs::ZERO, MANY)
}

pub(crate) fn fence_i(machine: &Machine) -> Option<Count> {
    is_there(sbi_spec::rfnc::EID_RFNC)?;
    let (_, base) = own_hart(machine);
    let code = counted!(
        "li a7, 0x52464e43",
        "li a6, 0",
        "li a0, 1",
        "mv a1, s6",
        "ecall"
    );
    rounds(machine, &code, Regs::ZERO.with(S6, base), MANY)
}

/// Of all addresses.
pub(crate) fn sfence_vma(machine: &Machine) -> Option<Count> {
    is_there(sbi_spec::rfnc::EID_RFNC)?;
    let (_, base) = own_hart(machine);
    let code = counted!(
        "li a7, 0x52464e43",
        "li a6, 1",
        "li a0, 1",
        "mv a1, s6",
        "li a2, 0",
        "li a3, -1",
        "ecall"
    );
    rounds(machine, &code, Regs::ZERO.with(S6, base), MANY)
}

/// Whether the SBI has an extension.
pub(super) fn is_there(extension: usize) -> Option<()> {
    (sbi::probe(extension) != sbi::ABSENT).then_some(())
}
