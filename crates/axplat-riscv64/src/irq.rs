//! Interrupts: the hart's own three, the PLIC's sources, those that guests have among them, and the kick.

use core::{
    num::NonZeroU32,
    ptr::NonNull,
    sync::atomic::{AtomicPtr, AtomicU16, Ordering},
};

use axplat::{
    irq::{HandlerTable, IpiTarget, IrqHandler, IrqIf},
    mem::{PhysAddr, phys_to_virt},
    percpu::this_cpu_id,
};
use kspin::SpinNoIrq;
use riscv::register::{sie, sip};
use riscv_plic::Plic;
use sbi_rt::HartMask;
use spin::{Lazy, Once};

use crate::{machine, timer};

/// The `Interrupt` bit of `scause`.
const INTERRUPT: usize = 1 << (usize::BITS - 1);
const SUPERVISOR_SOFT: usize = INTERRUPT | 1;
const SUPERVISOR_TIMER: usize = INTERRUPT | 5;
const SUPERVISOR_EXTERNAL: usize = INTERRUPT | 9;

/// The PLIC's sources are numbered below this (PLIC specification, "Interrupt Sources").
const SOURCES: usize = 1024;
/// Any priority above the threshold, which is 0, will do: sources are not ranked.
const PRIORITY: u32 = 1;

static HANDLERS: HandlerTable<SOURCES> = HandlerTable::new();
static SOFT_HANDLER: Slot = Slot::new();

static PLIC: Lazy<Option<SpinNoIrq<Plic>>> = Lazy::new(|| {
    let base = phys_to_virt(PhysAddr::from_usize(machine().plic?));
    let base = NonNull::new(base.as_mut_ptr())?;
    // SAFETY: the device tree names a PLIC there; it is mapped, and only this lock reaches it.
    Some(SpinNoIrq::new(unsafe { Plic::new(base.cast()) }))
});

/// Room for one handler.
struct Slot(AtomicPtr<()>);

impl Slot {
    const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    fn set(&self, handler: IrqHandler) -> bool {
        let empty = core::ptr::null_mut();
        self.0
            .compare_exchange(
                empty,
                handler as *mut (),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    fn take(&self) -> Option<IrqHandler> {
        Self::as_handler(self.0.swap(core::ptr::null_mut(), Ordering::AcqRel))
    }

    fn call(&self) {
        if let Some(handler) = Self::as_handler(self.0.load(Ordering::Acquire)) {
            handler();
        }
    }

    fn as_handler(pointer: *mut ()) -> Option<IrqHandler> {
        // SAFETY: only `set` stores a pointer that is not null, and it stores an `IrqHandler`.
        (!pointer.is_null())
            .then(|| unsafe { core::mem::transmute::<*mut (), IrqHandler>(pointer) })
    }
}

/// Lets the current hart take its interrupts.
pub(crate) fn init_current() {
    if let (Some(plic), Some(context)) = (PLIC.as_ref(), current_context()) {
        plic.lock().init_by_context(context);
        // Another controller's interrupt could not be claimed, and would never end.
        // SAFETY: the trap vector is installed; handlers of what is not registered yet are empty.
        unsafe { sie::set_sext() };
    }
    // SAFETY: as above.
    unsafe {
        sie::set_ssoft();
        sie::set_stimer();
    }
}

fn current_context() -> Option<usize> {
    machine()
        .harts()
        .get(this_cpu_id())
        .and_then(|hart| hart.plic_context)
}

/// Interrupts pCPU `cpu`: it leaves its guest, or its sleep. Nothing is allocated, locked or logged.
pub fn kick(cpu: usize) {
    if let Some(hart) = machine().harts().get(cpu) {
        // It fails only for a hart that is not there.
        let _ = sbi_rt::send_ipi(HartMask::from_mask_base(1, hart.id));
    }
}

/// Sleeps until an interrupt, and lets it in. Called with interrupts off, which ends a race: one that is pending already ends the sleep at once.
pub fn sleep_with_interrupts_on() {
    // It returns for a pending interrupt even while they are off.
    riscv::asm::wfi();
    axcpu::asm::enable_irqs();
}

/// Forgets the guest-physical translations of all VMs on a set of pCPUs, in which bit n is pCPU n. They have done it when this returns.
///
/// # Panics
/// The firmware refuses: the pCPUs could go on reaching memory that is no longer the VMs'.
pub fn flush_nested_on(pcpus: u64) {
    /// The size that asks for the whole address space (SBI, "RFENCE Extension").
    const ALL: usize = usize::MAX;
    for (mask, base) in machine().hart_masks(pcpus) {
        // The call returns once the harts have done it (SBI, "RFENCE Extension"). A refusal would leave stale translations behind.
        let done = sbi_rt::remote_hfence_gvma(HartMask::from_mask_base(mask, base), 0, ALL);
        assert!(done.is_ok(), "the firmware refused a remote hfence.gvma");
    }
}

fn set_source(source: usize, enabled: bool) {
    let source = u32::try_from(source).ok().and_then(NonZeroU32::new);
    if let (Some(plic), Some(context), Some(source)) = (PLIC.as_ref(), current_context(), source) {
        let mut plic = plic.lock();
        if enabled {
            plic.set_priority(source, PRIORITY);
            plic.enable(source, context);
        } else {
            plic.disable(source, context);
        }
    }
}

/// For each source 0, or 1 + the context to which it leads while a guest has it: then its service ends when that says so.
static PASSED: [AtomicU16; SOURCES] = [const { AtomicU16::new(0) }; SOURCES];

/// Who hears that one of those has come.
static PASSED_HANDLER: Once<fn(u32)> = Once::new();

/// Has `handler` hear of the sources that were [passed](pass). It is called in the midst of an interrupt. Once.
pub fn on_passed(handler: fn(u32)) {
    PASSED_HANDLER.call_once(|| handler);
}

/// Lets `source` interrupt pCPU `cpu`, for a guest; until it was [served] it does not come again. Says whether that can be.
#[must_use]
pub fn pass(source: u32, cpu: usize) -> bool {
    let Some((plic, context, slot, number)) = passed(source, cpu) else {
        return false;
    };
    let Ok(leads_to) = u16::try_from(context + 1) else {
        return false;
    };
    let mut plic = plic.lock();
    slot.store(leads_to, Ordering::Release);
    plic.set_priority(number, PRIORITY);
    plic.enable(number, context);
    true
}

/// The guest has served `source`, which was [passed](pass).
pub fn served(source: u32) {
    if let Some((plic, number)) = PLIC.as_ref().zip(NonZeroU32::new(source))
        && let Some(context) = passed_context(source)
    {
        plic.lock().complete(context, number);
    }
}

/// No guest has `source` any more.
pub fn take_back(source: u32) {
    if let Some((plic, number)) = PLIC.as_ref().zip(NonZeroU32::new(source))
        && let Some(context) = passed_context(source)
    {
        let mut plic = plic.lock();
        // It interrupts nobody, but the gateway must not stay closed: only a context that has it enabled can open that.
        plic.set_priority(number, 0);
        plic.complete(context, number);
        plic.disable(number, context);
        if let Some(slot) = PASSED.get(source as usize) {
            slot.store(0, Ordering::Release);
        }
    }
}

/// What there is to know of a source that is to lead to a pCPU.
fn passed(
    source: u32,
    cpu: usize,
) -> Option<(
    &'static SpinNoIrq<Plic>,
    usize,
    &'static AtomicU16,
    NonZeroU32,
)> {
    let plic = PLIC.as_ref()?;
    let context = machine().harts().get(cpu)?.plic_context?;
    let slot = PASSED.get(source as usize)?;
    Some((plic, context, slot, NonZeroU32::new(source)?))
}

/// The context to which a source leads that a guest has.
fn passed_context(source: u32) -> Option<usize> {
    let leads_to = PASSED.get(source as usize)?.load(Ordering::Acquire);
    usize::from(leads_to).checked_sub(1)
}

fn serve_external() -> Option<usize> {
    let (plic, context) = (PLIC.as_ref()?, current_context()?);
    // The lock is not held while the handler runs: it may enable or disable sources.
    let source = plic.lock().claim(context)?;
    if passed_context(source.get()).is_some() {
        if let Some(handler) = PASSED_HANDLER.get() {
            handler(source.get());
        }
        return Some(source.get() as usize);
    }
    HANDLERS.handle(source.get() as usize);
    plic.lock().complete(context, source);
    Some(source.get() as usize)
}

struct IrqIfImpl;

#[impl_plat_interface]
impl IrqIf for IrqIfImpl {
    /// Enables or disables a PLIC source for the current hart; the hart's own interrupts are always on.
    fn set_enable(irq: usize, enabled: bool) {
        if irq & INTERRUPT == 0 {
            set_source(irq, enabled);
        }
    }

    /// Registers a handler: of a PLIC source (which is then enabled), or, with the high bit set as in `scause`, of the timer or software interrupt.
    fn register(irq: usize, handler: IrqHandler) -> bool {
        match irq {
            SUPERVISOR_TIMER => timer::TICK_HANDLER.set(handler),
            SUPERVISOR_SOFT => SOFT_HANDLER.set(handler),
            _ if irq & INTERRUPT == 0 && HANDLERS.register_handler(irq, handler) => {
                set_source(irq, true);
                true
            }
            _ => false,
        }
    }

    /// Takes a handler back.
    fn unregister(irq: usize) -> Option<IrqHandler> {
        match irq {
            SUPERVISOR_SOFT => SOFT_HANDLER.take(),
            _ if irq & INTERRUPT == 0 => {
                set_source(irq, false);
                HANDLERS.unregister_handler(irq)
            }
            // The scheduler never gives its tick back.
            _ => None,
        }
    }

    /// Serves the interrupt that `scause` names.
    fn handle(irq: usize) -> Option<usize> {
        match irq {
            SUPERVISOR_TIMER => timer::serve(),
            SUPERVISOR_SOFT => {
                // Cleared first: a kick that comes while the handler runs must be seen again.
                // SAFETY: clears only the pending bit of the interrupt being served.
                unsafe { sip::clear_ssoft() };
                SOFT_HANDLER.call();
            }
            SUPERVISOR_EXTERNAL => return serve_external(),
            _ => return None,
        }
        Some(irq)
    }

    /// Sends the software interrupt.
    fn send_ipi(_irq: usize, target: IpiTarget) {
        match target {
            IpiTarget::Current { cpu_id } | IpiTarget::Other { cpu_id } => kick(cpu_id),
            IpiTarget::AllExceptCurrent { cpu_id, cpu_num } => {
                (0..cpu_num).filter(|&cpu| cpu != cpu_id).for_each(kick);
            }
        }
    }
}
