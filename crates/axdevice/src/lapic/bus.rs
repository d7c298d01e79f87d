//! The bus between the local APICs of a VM, its I/O APIC and its 8259s: who gets a message (Intel SDM volume 3, 12.6.2).

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use axvcpu::LineLevel;
use spin::Once;

use super::LocalApic;
use super::message::{Acceptance, Delivery, Message, TriggerMode};
use super::shared::{News, Shared};
use super::state::{Effect, State};
use crate::{Clock, CpuEvents, InterruptController};

/// Who must hear that a level-triggered interrupt was served: an I/O APIC.
pub(crate) trait EndOfInterrupt: Send + Sync {
    /// A vCPU ended its interrupt `vector`. No local APIC's lock is held.
    fn end_of_interrupt(&self, vector: u8);
}

/// Who knows the vector of an external interrupt: a pair of 8259s.
pub(crate) trait ExternalInterrupts: Send + Sync {
    /// The interrupt acknowledge cycle. No local APIC's lock is held.
    fn acknowledge(&self) -> u8;
}

/// The local APICs of a VM. The ID of each is the number of its vCPU.
///
/// As an [`InterruptController`], its input `n` is the pin LINT0 of vCPU `n`.
pub struct ApicBus {
    apics: Box<[Arc<Shared>]>,
    clock: Arc<dyn Clock>,
    events: Arc<dyn CpuEvents>,
    level_listener: Once<Weak<dyn EndOfInterrupt>>,
    ext_int: Once<Weak<dyn ExternalInterrupts>>,
}

impl ApicBus {
    /// The local APICs of vCPUs `0 .. cpus`, as firmware leaves them. vCPU 0 starts first.
    #[must_use]
    pub fn new(cpus: u32, clock: Arc<dyn Clock>, events: Arc<dyn CpuEvents>) -> Arc<Self> {
        // A timer that goes on by itself must leave time to run the guest between its interrupts.
        let min_period = clock.frequency_hz() / super::MAX_PERIODIC_HZ;
        let apic = |cpu| Arc::new(Shared::new(State::new(cpu, min_period)));
        Arc::new(Self {
            apics: (0..cpus).map(apic).collect(),
            clock,
            events,
            level_listener: Once::new(),
            ext_int: Once::new(),
        })
    }

    /// The local APIC of vCPU `cpu`.
    #[must_use]
    pub fn local(self: &Arc<Self>, cpu: usize) -> Option<Arc<LocalApic>> {
        let apic = self.apics.get(cpu)?;
        Some(Arc::new(LocalApic::new(
            cpu,
            Arc::clone(apic),
            Arc::clone(self),
        )))
    }

    /// Connects the I/O APIC. There is one.
    pub(crate) fn connect_io_apic(&self, listener: Weak<dyn EndOfInterrupt>) {
        self.level_listener.call_once(|| listener);
    }

    /// Connects the 8259s. There is one pair.
    pub(crate) fn connect_ext_int(&self, source: Weak<dyn ExternalInterrupts>) {
        self.ext_int.call_once(|| source);
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// vCPU `cpu` looks at its local APIC again.
    pub(super) fn notify(&self, cpu: usize) {
        self.events.notify(cpu);
    }

    #[inline(never)]
    pub(super) fn end_of_level(&self, vector: u8) {
        if let Some(listener) = self.level_listener.get().and_then(Weak::upgrade) {
            listener.end_of_interrupt(vector);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn acknowledge_ext_int(&self) -> Option<u8> {
        let source = self.ext_int.get()?.upgrade()?;
        Some(source.acknowledge())
    }

    /// Carries a message of an I/O APIC or a device to those whom it is for.
    pub fn send(&self, message: Message) -> Acceptance {
        self.carry(message, None)
    }

    /// Carries a message of vCPU `sender`, if it is one's.
    #[inline(never)]
    pub(super) fn carry(&self, message: Message, sender: Option<u32>) -> Acceptance {
        match message.delivery {
            Delivery::LowestPriority { vector, trigger } => {
                self.deliver_lowest(message, sender, vector, trigger)
            }
            Delivery::Fixed { .. }
            | Delivery::Nmi
            | Delivery::Init
            | Delivery::Startup { .. }
            | Delivery::ExtInt => self.deliver_all(message, sender),
        }
    }

    /// The vCPUs that `message` can be for, before their modes are known.
    fn candidates(&self, message: Message) -> impl Iterator<Item = (usize, &Shared)> {
        let (first, count) = match message.destination {
            super::message::Destination::Physical(id) => (id as usize, 1),
            super::message::Destination::Logical(_)
            | super::message::Destination::Everyone
            | super::message::Destination::Others => (0, usize::MAX),
        };
        let apics = self.apics.iter().enumerate();
        apics
            .skip(first)
            .take(count)
            .map(|(cpu, apic)| (cpu, &**apic))
    }

    fn deliver_all(&self, message: Message, sender: Option<u32>) -> Acceptance {
        let mut acceptance = Acceptance::Refused;
        for (cpu, apic) in self.candidates(message) {
            let (accepted, effects) = apic.with(|state| {
                if state.is_addressed(message.destination, sender) {
                    accept(state, message.delivery)
                } else {
                    Acceptance::Refused
                }
            });
            self.tell(cpu, effects.news);
            if accepted == Acceptance::Accepted {
                acceptance = accepted;
                match message.delivery {
                    Delivery::Nmi => self.events.nmi(cpu),
                    Delivery::Init => self.events.init(cpu),
                    Delivery::Startup { page } => self.events.startup(cpu, page),
                    Delivery::Fixed { .. } | Delivery::LowestPriority { .. } | Delivery::ExtInt => {
                    }
                }
            }
        }
        acceptance
    }

    /// Finds the one with the lowest processor priority; of several, the first.
    fn deliver_lowest(
        &self,
        message: Message,
        sender: Option<u32>,
        vector: u8,
        trigger: TriggerMode,
    ) -> Acceptance {
        let mut best: Option<(u8, usize, &Shared)> = None;
        for (cpu, apic) in self.candidates(message) {
            let priority = apic.look(|state| {
                let takes =
                    state.is_addressed(message.destination, sender) && state.is_arbitrating();
                takes.then(|| state.processor_priority())
            });
            if let Some(priority) = priority
                && best.is_none_or(|(lowest, _, _)| priority < lowest)
            {
                best = Some((priority, cpu, apic));
            }
        }
        let Some((_, cpu, apic)) = best else {
            return Acceptance::Refused;
        };
        let (acceptance, effects) = apic.with(|state| state.accept(vector, trigger));
        self.tell(cpu, effects.news);
        acceptance
    }

    /// Does what remains of an access by vCPU `cpu`: most often nothing.
    #[inline(always)]
    pub(super) fn perform(&self, effect: Effect, cpu: usize) {
        match effect {
            Effect::Nothing => {}
            Effect::Send(message) => {
                self.carry(message, u32::try_from(cpu).ok());
            }
            Effect::EndOfLevel(vector) => self.end_of_level(vector),
        }
    }

    /// Sets pin LINT1 of vCPU `cpu`, which guests use for NMIs.
    pub fn set_lint1(&self, cpu: usize, level: LineLevel) {
        self.set_pin(cpu, |state| state.set_lint1(level));
    }

    fn set_pin(&self, cpu: usize, set: impl FnOnce(&mut State) -> Effect) {
        let Some(apic) = self.apics.get(cpu) else {
            return;
        };
        let (effect, effects) = apic.with(set);
        self.tell(cpu, effects.news);
        self.perform(effect, cpu);
    }

    fn tell(&self, cpu: usize, news: News) {
        match news {
            News::Something => self.events.notify(cpu),
            News::Nothing => {}
        }
    }
}

impl InterruptController for ApicBus {
    fn set_line(&self, source: u32, level: LineLevel) {
        self.set_pin(source as usize, |state| state.set_lint0(level));
    }
}

/// What a message does at one of its destinations.
fn accept(state: &mut State, delivery: Delivery) -> Acceptance {
    match delivery {
        Delivery::Fixed { vector, trigger } | Delivery::LowestPriority { vector, trigger } => {
            return state.accept(vector, trigger);
        }
        Delivery::Init => state.init(),
        Delivery::ExtInt => state.accept_ext_int(),
        Delivery::Nmi | Delivery::Startup { .. } => {}
    }
    Acceptance::Accepted
}
