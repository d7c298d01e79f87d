//! Between the interrupt controllers of a PC and its vCPUs.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use axaddrspace::GuestPhysAddr;
use axvcpu::AccessWidth;

/// Whether an access changed [`task_priority`](LocalInterrupts::task_priority) or the controller's [`deadline`](crate::Timed::deadline).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Neither.
    Kept,
    /// One of them, or both.
    Changed,
}

/// Whether an interrupt waits to be taken: what [`LocalInterrupts::pending`] says, without asking.
#[derive(Debug, Default)]
pub struct InterruptFlag(AtomicBool);

impl InterruptFlag {
    /// Whether one does.
    #[inline]
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// One does, or none does any more.
    pub fn set(&self, raised: bool) {
        self.0.store(raised, Ordering::Release);
    }
}

/// What a vCPU sees of its interrupt controller. Only that vCPU calls.
///
/// Who accesses the registers here is told what else to look at; on a bus, where nobody can be told, the vCPU is [notified](CpuEvents::notify).
pub trait LocalInterrupts: Send + Sync {
    /// The vector of the interrupt that waits to be taken, if there is one. This is a single load.
    ///
    /// What an 8259 will answer is not known before it is asked: its interrupt, which no task priority holds back, stands as 0xff.
    fn pending(&self) -> Option<u8>;

    /// Where the controller shows whether there is one.
    fn flag(&self) -> Arc<InterruptFlag>;

    /// Takes the interrupt and says its vector: the interrupt acknowledge cycle. `None` if there is none any more, or the 8259 was wired to
    /// nothing.
    fn acknowledge(&self) -> Option<u8>;

    /// The class of interrupts that are held back, as CR8 shows it: 0 to 15.
    fn task_priority(&self) -> u8;

    /// Writes CR8, of which the low four bits count.
    fn set_task_priority(&self, class: u8);

    /// Loads from the controller's page; `None`: it does not answer, and nothing has happened.
    fn load(&self, _addr: GuestPhysAddr, _width: AccessWidth) -> Option<u64> {
        None
    }

    /// Stores to the controller's page; `None`: it does not answer, and nothing has happened.
    fn store(&self, _addr: GuestPhysAddr, _width: AccessWidth, _data: u64) -> Option<Schedule> {
        None
    }

    /// Reads a system register of the controller's; `None`: it does not answer, and nothing has happened.
    fn read_register(&self, _number: u32) -> Option<u64> {
        None
    }

    /// Writes a system register of the controller's; `None`: it does not answer, and nothing has happened.
    fn write_register(&self, _number: u32, _value: u64) -> Option<Schedule> {
        None
    }
}

/// What interrupt controllers and timers tell vCPUs, other than through [`LocalInterrupts`].
///
/// A call posts what it says where the vCPU looks, and kicks it; it never waits and never calls a device. Devices call with their locks held.
/// There is no vCPU behind a number that the VM does not have: such a call is ignored.
pub trait CpuEvents: Send + Sync {
    /// An interrupt waits for vCPU `cpu`, or a deadline that it keeps moved forward: it must look again.
    fn notify(&self, cpu: usize);

    /// A non-maskable interrupt.
    fn nmi(&self, cpu: usize);

    /// INIT: the vCPU goes back to its state after power-on and waits for a start-up IPI. Its local APIC has been reset already.
    fn init(&self, cpu: usize);

    /// A start-up IPI: a vCPU that waits for it starts in real mode at physical address `page << 12`.
    fn startup(&self, cpu: usize, page: u8);
}
