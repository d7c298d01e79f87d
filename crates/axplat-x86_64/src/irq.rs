//! Interrupts: vectors, devices' lines, the kick, and calls of other CPUs.
//!
//! ArceOS knows interrupts by their vector, and the vectors are divided once for all: exceptions below 0x20; the 8259s, which are masked but may
//! still speak up, from there; then the global system interrupts, which are the I/O APICs' inputs; at the top the CPUs' own.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use axplat::{
    irq::{HandlerTable, IpiTarget, IrqHandler, IrqIf},
    percpu::this_cpu_id,
};
use kernel_guard::NoPreemptIrqSave;
use spin::Once;
use x86::io::outb;

use crate::{
    acpi::madt::Trigger,
    config::devices::{IPI_IRQ, TIMER_IRQ},
    ioapic,
    lapic::{self, Command},
    machine,
    redirection::Gate,
    timer,
};

const PIC_FIRST: usize = 0x20;
const GSI_FIRST: usize = 0x30;
const GSI_LAST: usize = TIMER_IRQ - 1;
/// The vector of [`run_on`].
const CALL: usize = IPI_IRQ + 1;

const _: () = assert!(TIMER_IRQ > GSI_FIRST && IPI_IRQ == TIMER_IRQ + 1 && CALL < 0xfe);

static HANDLERS: HandlerTable<256> = HandlerTable::new();

/// The CPUs that take interrupts, a bit each.
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Silences the interrupt controllers that are not used. On the boot CPU.
pub(crate) fn init() {
    mask_pics();
    ioapic::init();
}

/// Lets the current CPU take its interrupts; its local APIC is on.
pub(crate) fn init_current() {
    ONLINE.fetch_or(1 << this_cpu_id(), Ordering::AcqRel);
}

/// Gives the 8259s vectors that are no exceptions', and masks them (Intel 8259A data sheet, "Initialization Command Words").
fn mask_pics() {
    const MASTER: u16 = 0x20;
    const SLAVE: u16 = 0xa0;
    let words = |first_vector, cascade| [0x11, first_vector, cascade, 0x01, 0xff];
    for (port, words) in [
        (MASTER, words(PIC_FIRST as u8, 1 << 2)),
        (SLAVE, words(PIC_FIRST as u8 + 8, 2)),
    ] {
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: the ports are the 8259s', where there are any; nothing uses them.
            unsafe { outb(port + u16::from(index > 0), word) };
        }
    }
}

/// Interrupts pCPU `cpu`: it leaves its guest, or its sleep. Nothing is allocated, locked or logged.
pub fn kick(cpu: usize) {
    if let Some(cpu) = machine().cpus().get(cpu) {
        let vector = IPI_IRQ as u8;
        lapic::send(cpu.apic_id, Command::Fixed { vector });
    }
}

/// Lets interrupts in and sleeps until one has been served. With interrupts off none is lost: what came since then ends the sleep at once.
pub fn sleep_with_interrupts_on() {
    // SAFETY: the instruction after STI is still executed with interrupts off, so none can come between the two.
    unsafe { core::arch::asm!("sti", "hlt", options(nomem, nostack)) };
}

/// A call that [`run_on`] makes: one at a time.
struct Call {
    is_taken: AtomicBool,
    function: AtomicPtr<()>,
    /// The CPUs that have not made it yet, a bit each.
    waiting: AtomicU64,
}

static CALLS: Call = Call {
    is_taken: AtomicBool::new(false),
    function: AtomicPtr::new(core::ptr::null_mut()),
    waiting: AtomicU64::new(0),
};

/// Runs `f` on those CPUs of a set, in which bit n is CPU n, that take interrupts, this one too, and returns when all have done so. Elsewhere it runs in an interrupt: a CPU leaves
/// its guest for it. Nothing is allocated. Whoever calls holds no lock for which another CPU may wait with interrupts off.
pub fn run_on(cpus: u64, f: fn()) {
    let _guard = NoPreemptIrqSave::new();
    // Two CPUs may want to call: the one that waits answers the other.
    while CALLS
        .is_taken
        .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        CALLS.answer();
        core::hint::spin_loop();
    }
    let (these, this) = (ONLINE.load(Ordering::Acquire) & cpus, 1 << this_cpu_id());
    let others = these & !this;
    CALLS.function.store(f as *mut (), Ordering::Relaxed);
    CALLS.waiting.store(others, Ordering::Release);
    for (id, cpu) in machine().cpus().iter().enumerate() {
        if others & 1 << id != 0 {
            let vector = CALL as u8;
            lapic::send(cpu.apic_id, Command::Fixed { vector });
        }
    }
    if these & this != 0 {
        f();
    }
    while CALLS.waiting.load(Ordering::Acquire) != 0 {
        core::hint::spin_loop();
    }
    CALLS.is_taken.store(false, Ordering::Release);
}

impl Call {
    /// Makes the call, if this CPU has not yet. With interrupts off.
    fn answer(&self) {
        let this = 1 << this_cpu_id();
        if self.waiting.load(Ordering::Acquire) & this != 0 {
            let function = self.function.load(Ordering::Relaxed);
            // SAFETY: only `run_on` stores here, and it stores a `fn()` before it sets a bit of `waiting`.
            let function = unsafe { core::mem::transmute::<*mut (), fn()>(function) };
            function();
            self.waiting.fetch_and(!this, Ordering::Release);
        }
    }
}

/// Whether there is a vector for a global system interrupt.
pub(crate) fn has_vector(gsi: u32) -> bool {
    vector_of_gsi(gsi).is_some()
}

fn vector_of_gsi(gsi: u32) -> Option<usize> {
    let vector = GSI_FIRST.checked_add(gsi as usize)?;
    (vector <= GSI_LAST).then_some(vector)
}

/// Opens or closes the line that a vector stands for. Says whether there is such a line.
fn set_line(vector: usize, gate: Gate) -> bool {
    let gsi = vector
        .checked_sub(GSI_FIRST)
        .filter(|_| vector <= GSI_LAST)
        .map(|gsi| gsi as u32);
    gsi.is_some_and(|gsi| lead(gsi, vector, 0, gate))
}

fn lead(gsi: u32, vector: usize, cpu: usize, gate: Gate) -> bool {
    ioapic::route(gsi, cpu, vector as u8, machine().signal_of_gsi(gsi), gate)
}

/// The vectors whose global system interrupt a guest has.
static PASSED: [AtomicBool; 256] = [const { AtomicBool::new(false) }; 256];

/// Who hears that one of those has come.
static PASSED_HANDLER: Once<fn(u32)> = Once::new();

/// Has `handler` hear of the interrupts that were [passed](pass). It is called in the midst of an interrupt. Once.
pub fn on_passed(handler: fn(u32)) {
    PASSED_HANDLER.call_once(|| handler);
}

/// Lets a global system interrupt come to pCPU `cpu`, for a guest. One that asks by its level does not come again until it was [served].
/// Says whether that can be.
#[must_use]
pub fn pass(gsi: u32, cpu: usize) -> bool {
    let Some(vector) = vector_of_gsi(gsi) else {
        return false;
    };
    PASSED[vector].store(true, Ordering::Release);
    let led = lead(gsi, vector, cpu, Gate::Open);
    if !led {
        PASSED[vector].store(false, Ordering::Release);
    }
    led
}

/// The guest has served an interrupt that was [passed](pass).
pub fn served(gsi: u32) {
    if passed(gsi).is_some() {
        ioapic::set_gate(gsi, Gate::Open);
    }
}

/// No guest has the interrupt any more.
pub fn take_back(gsi: u32) {
    if let Some(vector) = passed(gsi) {
        ioapic::set_gate(gsi, Gate::Closed);
        PASSED[vector].store(false, Ordering::Release);
    }
}

/// The vector of an interrupt that a guest has.
fn passed(gsi: u32) -> Option<usize> {
    vector_of_gsi(gsi).filter(|&vector| PASSED[vector].load(Ordering::Acquire))
}

/// Serves a global system interrupt that a guest has, if it is one.
fn serve_passed(vector: usize) -> bool {
    let gsi = (vector - GSI_FIRST) as u32;
    if passed(gsi).is_none() {
        return false;
    }
    match machine().signal_of_gsi(gsi).trigger {
        // It would come again as soon as this ends.
        Trigger::Level => ioapic::set_gate(gsi, Gate::Closed),
        // It would be lost while the gate is closed.
        Trigger::Edge => {}
    }
    if let Some(handler) = PASSED_HANDLER.get() {
        handler(gsi);
    }
    true
}

/// The vector of an ISA interrupt.
pub(crate) fn vector_of_isa(irq: usize) -> Option<usize> {
    vector_of_gsi(machine().gsi_of_isa(irq)?)
}

struct IrqIfImpl;

#[impl_plat_interface]
impl IrqIf for IrqIfImpl {
    /// Opens or closes a device's line, named by its vector; the CPUs' own interrupts are always on.
    fn set_enable(vector: usize, enabled: bool) {
        set_line(vector, if enabled { Gate::Open } else { Gate::Closed });
    }

    /// Registers a handler: of a device's line (which is then opened), of the timer, or of the kick.
    fn register(vector: usize, handler: IrqHandler) -> bool {
        match vector {
            TIMER_IRQ => timer::TICK_HANDLER.set(handler),
            IPI_IRQ => HANDLERS.register_handler(vector, handler),
            GSI_FIRST..=GSI_LAST => {
                HANDLERS.register_handler(vector, handler) && set_line(vector, Gate::Open)
            }
            _ => false,
        }
    }

    /// Takes a handler back.
    fn unregister(vector: usize) -> Option<IrqHandler> {
        match vector {
            IPI_IRQ => HANDLERS.unregister_handler(vector),
            GSI_FIRST..=GSI_LAST => {
                set_line(vector, Gate::Closed);
                HANDLERS.unregister_handler(vector)
            }
            // The scheduler never gives its tick back.
            _ => None,
        }
    }

    /// Serves the interrupt of that vector.
    fn handle(vector: usize) -> Option<usize> {
        match vector {
            TIMER_IRQ => timer::serve(),
            CALL => CALLS.answer(),
            GSI_FIRST..=GSI_LAST if serve_passed(vector) => {}
            IPI_IRQ | GSI_FIRST..=GSI_LAST => {
                HANDLERS.handle(vector);
            }
            // Nobody waits for the end of what was never in service.
            lapic::SPURIOUS_VECTOR => return None,
            _ if vector < GSI_FIRST => return None,
            _ => {
                if let Some(error) = lapic::take_error(vector) {
                    log::warn!("local APIC of pCPU {}: error {error:#x}", this_cpu_id());
                }
            }
        }
        lapic::end_of_interrupt();
        Some(vector)
    }

    /// Sends an interrupt to other CPUs.
    fn send_ipi(_vector: usize, target: IpiTarget) {
        match target {
            IpiTarget::Current { cpu_id } | IpiTarget::Other { cpu_id } => kick(cpu_id),
            IpiTarget::AllExceptCurrent { cpu_id, cpu_num } => {
                (0..cpu_num).filter(|&cpu| cpu != cpu_id).for_each(kick);
            }
        }
    }
}
