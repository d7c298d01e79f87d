//! Between the interrupt controllers of a PC and its vCPUs.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use axaddrspace::{GuestPhysAddr, SharedPage};
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

/// What of a local APIC the hardware keeps in a page while its guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// The task priority. Where the guest lowers it is seen only if an interrupt is [held back](LocalInterrupts::held_back).
    TaskPriority,
    /// The registers too: the guest reads them in the page, and its writes arrive there [before](LocalInterrupts::written) they are known here.
    Registers,
    /// What is requested and in service as well: it chooses the interrupts, and ends them.
    Everything,
}

/// How the guest reaches its local APIC's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicMode {
    /// Not at all: it is as if there were none.
    Disabled,
    /// In memory: an xAPIC.
    XApic,
    /// By MSRs: an x2APIC.
    X2Apic,
}

/// What a local APIC that the hardware keeps is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How the guest reaches it.
    pub mode: ApicMode,
    /// The most urgent vector that is requested, 0 for none.
    pub requested: u8,
    /// The most urgent vector in service, 0 for none.
    pub served: u8,
    /// The vectors, 64 in each word, whose end must be [told](LocalInterrupts::ended).
    pub levels: [u64; 4],
}

/// What the hardware that keeps a local APIC must be told before the guest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// Nothing.
    Nothing,
    /// More is requested; this vector is the most urgent of that.
    Requests(u8),
    /// Anything may be different.
    All(Standing),
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

    /// From now on the hardware keeps what `keeps` says in `page`, as long as the guest runs. The vCPU looks at it on its own pCPU alone.
    fn keep_in(&self, _page: SharedPage, _keeps: Keeps) {}

    /// Brings the page up to date. Where the hardware keeps [everything](Keeps::Everything), what others have requested moves there; what an 8259 has
    /// does not.
    fn hand_over(&self) -> HandOver {
        HandOver::Nothing
    }

    /// Whether an interrupt waits that no priority holds back, also if the hardware keeps it.
    fn is_deliverable(&self) -> bool {
        self.flag().is_raised()
    }

    /// The class of the interrupt that only the task priority holds back, which the hardware keeps.
    fn held_back(&self) -> Option<u8> {
        None
    }

    /// The guest has written the page, which the hardware keeps, at this offset.
    fn written(&self, _offset: u16) -> Schedule {
        Schedule::Kept
    }

    /// The hardware has ended the interrupt `vector`, one of [`Standing::levels`].
    fn ended(&self, _vector: u8) {}

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
