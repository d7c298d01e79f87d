//! Instructions that concern only the CPU.

use guests::arch::context::Regs;
use guests::arch::context::reg::{RDI, RSI};
use guests::arch::cpu::Feature;
use guests::arch::lapic::{BASE_ENABLE, BASE_X2APIC, Mode};
use guests::arch::{Machine, cpu, lapic, msr};
use guests::measure::Count;

use super::{MANY, completes, counted, rounds};

/// Keeps what is written, and no CPU of the last decades lacks it; a hypervisor keeps it itself.
const MISC_ENABLE: usize = 0x1a0;

/// The loop that every count includes.
pub(crate) fn bare_loop(_: &Machine) -> Option<Count> {
    rounds(&counted!(), Regs::ZERO, MANY)
}

pub(crate) fn rdtsc(_: &Machine) -> Option<Count> {
    rounds(&counted!("rdtsc"), Regs::ZERO, MANY)
}

pub(crate) fn cpuid(_: &Machine) -> Option<Count> {
    rounds(&counted!("xor eax, eax", "cpuid"), Regs::ZERO, MANY)
}

/// With a number that no hypervisor knows.
pub(crate) fn hypercall(_: &Machine) -> Option<Count> {
    let code = if cpu::cpuid(0, 0).b.to_le_bytes() == *b"Auth" {
        counted!("mov eax, edi", "vmmcall")
    } else {
        counted!("mov eax, edi", "vmcall")
    };
    rounds(&code, Regs::ZERO.with(RDI, 0x7fff_0000), MANY)
}

pub(crate) fn rdmsr(_: &Machine) -> Option<Count> {
    let code = counted!(start: ["mov ecx, edi"], each: ["rdmsr"]);
    rounds(&code, Regs::ZERO.with(RDI, MISC_ENABLE), MANY)
}

/// Of the value that it has.
pub(crate) fn wrmsr(_: &Machine) -> Option<Count> {
    let code = counted!(start: ["mov ecx, edi", "rdmsr"], each: ["wrmsr"]);
    rounds(&code, Regs::ZERO.with(RDI, MISC_ENABLE), MANY)
}

/// The version.
pub(crate) fn x2apic_read(_: &Machine) -> Option<Count> {
    x2apic_on()?;
    let version = lapic::msr_of(lapic::register::VERSION) as usize;
    let code = counted!(start: ["mov ecx, edi"], each: ["rdmsr"]);
    rounds(&code, Regs::ZERO.with(RDI, version), MANY)
}

/// Goes to x2APIC mode, if it is there; there is no need to come back.
pub(super) fn x2apic_on() -> Option<()> {
    (Feature::X2apic.is_there() && lapic::mode() != Mode::Off).then_some(())?;
    let base = msr::read(msr::APIC_BASE) | BASE_ENABLE | BASE_X2APIC;
    let write = guests::code!(
        "mov ecx, edi",
        "mov eax, esi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "wrmsr"
    );
    let regs = Regs::ZERO
        .with(RDI, msr::APIC_BASE as usize)
        .with(RSI, base as usize);
    completes(&write, regs)?;
    lapic::enable();
    Some(())
}
