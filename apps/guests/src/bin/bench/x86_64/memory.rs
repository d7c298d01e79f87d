//! Accesses to memory: devices', and RAM's first touch.

use guests::arch::Machine;
use guests::arch::context::Regs;
use guests::arch::context::reg::{RBX, RDI, RSI};
use guests::arch::lapic::{BASE, Mode, mode, register};
use guests::measure::Count;

use super::{MANY, counted, once, rounds};

const PAGE: usize = 4096;
/// Where pages are that nothing has touched: behind this program, before whatever a loader leaves at
/// the end.
const UNTOUCHED: usize = 12 << 20;
const UNTOUCHED_PAGES: u64 = 2048;
const LAZY_PAGES: u64 = 256;

/// The register that selects another.
pub(crate) fn io_apic_read(machine: &Machine) -> Option<Count> {
    let address = machine.io_apic()?.select();
    let code = counted!("mov eax, [rdi]");
    rounds(&code, Regs::ZERO.with(RDI, address), MANY)
}

pub(crate) fn io_apic_write(machine: &Machine) -> Option<Count> {
    let address = machine.io_apic()?.select();
    let code = counted!("mov [rdi], ebx");
    rounds(&code, Regs::ZERO.with(RDI, address), MANY)
}

/// The version.
pub(crate) fn lapic_read(_: &Machine) -> Option<Count> {
    (mode() == Mode::Xapic).then_some(())?;
    let address = BASE + register::VERSION as usize;
    let code = counted!("mov eax, [rdi]");
    rounds(&code, Regs::ZERO.with(RDI, address), MANY)
}

pub(crate) fn ram_first_touch(machine: &Machine) -> Option<Count> {
    let pages = UNTOUCHED_PAGES as usize * PAGE;
    (UNTOUCHED + pages <= machine.ram_end()?).then_some(())?;
    touch(UNTOUCHED, UNTOUCHED_PAGES)
}

/// Where the option says that RAM is filled on first touch.
pub(crate) fn lazy_first_touch(machine: &Machine) -> Option<Count> {
    let start = machine.options().number("lazy").ok()??;
    touch(start as usize, LAZY_PAGES)
}

fn touch(start: usize, pages: u64) -> Option<Count> {
    let code = counted!(
        start: [],
        each: ["mov byte ptr [rdi], 0", "add rdi, rsi"],
        until: ["cmp rdi, rbx", "jne 2b"]
    );
    let regs = Regs::ZERO
        .with(RDI, start)
        .with(RSI, PAGE)
        .with(RBX, start + pages as usize * PAGE);
    once(&code, regs, pages)
}
