//! Interrupts, from their cause to the handler.

use guests::arch::context::Regs;
use guests::arch::context::reg::{R8, RBX, RDI, RSI};
use guests::arch::ioapic::MASKED;
use guests::arch::lapic::{BASE, Mode, command, mode, msr_of, register};
use guests::arch::{Machine, uart};
use guests::measure::Count;

use super::cpu::x2apic_on;
use super::{MANY, added_up, handled, interrupted};

const VECTOR: u8 = 0x90;

/// From the write to ICR to the end of the interrupt.
pub(crate) fn ipi_self(_: &Machine) -> Option<Count> {
    (mode() == Mode::Xapic).then_some(())?;
    let code = handled!(
        start: [],
        each: ["sti", "mov [rsi], edi"],
        wait: [],
        handler: ["mov dword ptr [r8], 0"]
    );
    let regs = Regs::ZERO
        .with(RSI, BASE + register::ICR as usize)
        .with(RDI, (command::SELF | u32::from(VECTOR)) as usize)
        .with(R8, BASE + register::EOI as usize);
    interrupted(&code, VECTOR, regs, MANY)
}

pub(crate) fn x2apic_ipi_self(_: &Machine) -> Option<Count> {
    x2apic_on()?;
    let code = handled!(
        start: [],
        each: ["sti", "mov ecx, esi", "mov eax, edi", "xor edx, edx", "wrmsr"],
        wait: [],
        handler: ["mov ecx, r8d", "xor eax, eax", "xor edx, edx", "wrmsr"]
    );
    let regs = Regs::ZERO
        .with(RSI, msr_of(register::ICR) as usize)
        .with(RDI, (command::SELF | u32::from(VECTOR)) as usize)
        .with(R8, msr_of(register::EOI) as usize);
    interrupted(&code, VECTOR, regs, MANY)
}

/// The UART's, whose transmitter is empty, through the I/O APIC: from the write that enables it to
/// the handler. Ending it is not counted.
pub(crate) fn device(machine: &Machine) -> Option<Count> {
    const ROUNDS: u64 = 1000;
    (mode() == Mode::Xapic).then_some(())?;
    let (io_apic, input) = (machine.io_apic()?, machine.io_apic_input(uart::IRQ)?);
    let destination = u64::from(machine.apic_id) << 56;
    io_apic.set_entry(input, destination | u64::from(VECTOR));
    let code = handled!(
        start: [],
        each: [
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov rdi, rax",
            "sti",
            "mov edx, ebx",
            "mov eax, esi",
            "out dx, al" // IER: the transmitter is empty
        ],
        wait: [],
        handler: [
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "sub rax, rdi",
            "add rbp, rax",
            "lea edx, [ebx + 1]",
            "in al, dx", // IIR
            "mov edx, ebx",
            "xor eax, eax",
            "out dx, al",
            "mov dword ptr [r8], 0"
        ]
    );
    let regs = Regs::ZERO
        .with(RBX, usize::from(uart::BASE + uart::IER))
        .with(RSI, uart::IER_THRE.into())
        .with(R8, BASE + register::EOI as usize);
    let count = added_up(&code, VECTOR, regs, ROUNDS);
    io_apic.set_entry(input, MASKED);
    count
}
