//! Two CPUs.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use guests::arch::context::reg::{R8, RBX, RDI, RSI, RSP};
use guests::arch::context::{Code, Context, Regs};
use guests::arch::lapic::{BASE, Mode, mode, register};
use guests::arch::segment::with_handler;
use guests::arch::{CpuStart, Machine};
use guests::code;
use guests::measure::Count;

use super::{HANDLER, Stack, handled, interrupted};

/// Of the interrupt to the second CPU, and of its answer.
const THERE: u8 = 0x91;
const BACK: u8 = 0x92;

static SECOND: CpuStart = CpuStart::new(second);
/// Whom the second CPU answers; and whether it is ready to.
static FIRST: AtomicUsize = AtomicUsize::new(0);
static READY: AtomicUsize = AtomicUsize::new(0);

/// The registers for sending `vector` to a CPU, and for ending an interrupt.
fn sending(vector: u8, apic_id: usize) -> Regs {
    Regs::ZERO
        .with(RSI, BASE + register::ICR as usize)
        .with(RDI, vector.into())
        .with(RBX, apic_id << 24)
        .with(R8, BASE + register::EOI as usize)
}

/// What the second CPU does: sleeps until an interrupt comes, and sends one back. The handler is
/// where [`handled!`] has it.
fn answer() -> Code {
    code!(
        "jmp 4f",
        ".balign 16, 0xcc",
        "add rsp, 40",
        "mov dword ptr [r8], 0",
        "mov [rsi + 16], ebx",
        "mov [rsi], edi",
        "4: sti",
        "hlt",
        "jmp 4b",
    )
}

extern "C" fn second() -> ! {
    static STACK: Stack = Stack(UnsafeCell::new([0; 4096]));
    READY.store(1, Ordering::Release);
    let regs = sending(BACK, FIRST.load(Ordering::Relaxed)).with(RSP, STACK.0.get().addr() + 4096);
    Context::new(&answer(), regs).run();
    panic!("the second CPU was disturbed");
}

/// An interrupt there and one back, each to a CPU that sleeps.
pub(crate) fn ipi_round_trip(machine: &Machine) -> Option<Count> {
    const ROUNDS: u64 = 1000;
    (mode() == Mode::Xapic).then_some(())?;
    let other = machine.cpus().find(|&id| id != machine.apic_id)?;
    FIRST.store(machine.apic_id as usize, Ordering::Relaxed);
    with_handler(THERE, answer().start + HANDLER, || {
        SECOND.launch(&machine.timer(), other);
        while READY.load(Ordering::Acquire) == 0 {
            core::hint::spin_loop();
        }
        let code = handled!(
            start: [],
            each: ["mov [rsi + 16], ebx", "mov [rsi], edi", "sti"],
            wait: ["hlt"],
            handler: ["mov dword ptr [r8], 0"]
        );
        interrupted(&code, BACK, sending(THERE, other as usize), ROUNDS)
    })
}
