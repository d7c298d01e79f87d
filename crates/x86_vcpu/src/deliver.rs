//! What comes to the guest from outside: its timers, its controllers' interrupts, NMIs, and the end of its waits.

use axdevice::{Keeps, Schedule};
use axvcpu::{AxVCpuExitReason, AxVCpuHal};

use crate::{
    backend::{Alarm, VendorVcpu, Window},
    event::Event,
    exit::Next,
    vcpu::{Activity, VCpu},
};

/// Never.
pub(crate) const NEVER: u64 = u64::MAX;

/// How long before a timer is due, in ticks of [`now`](AxVCpuHal::now), the guest is left for it: about what the way to the handler takes, so that the handler
/// runs when the timer is due and not after all that. What is left then is waited for, right before the entry.
const LEAD: u64 = 700;

/// When the guest is left for a timer that is due at `deadline`.
pub(crate) const fn alarm(deadline: u64) -> u64 {
    match deadline {
        NEVER => NEVER,
        _ => deadline.saturating_sub(LEAD),
    }
}

impl<H: AxVCpuHal, V: VendorVcpu> VCpu<H, V> {
    /// Runs the timers that are due, and has the host come back for the next.
    #[inline]
    pub(crate) fn advance_timers(&mut self) {
        let now = H::now();
        let mut next = NEVER;
        for timed in self.timed.iter() {
            let mut deadline = timed.deadline();
            if alarm(deadline) <= now {
                if now < deadline {
                    self.events.hold_until(deadline);
                }
                deadline = timed.advance(now.max(deadline));
            }
            next = next.min(deadline);
        }
        if next != self.armed {
            self.armed = next;
            let alarm = alarm(next);
            match self.backend.set_deadline(alarm) {
                Alarm::Hardware => {}
                Alarm::Host => H::set_guest_timer(alarm),
            }
        }
    }

    /// The deadline that the hardware was told has come.
    pub(crate) fn deadline_came(&mut self) {
        self.armed = NEVER;
        self.advance_timers();
    }

    /// An access to the vCPU's own local APIC has changed what the host's timer and CR8 must follow, or has not.
    #[inline]
    pub(crate) fn follow(&mut self, schedule: Schedule) {
        match schedule {
            Schedule::Kept => {}
            Schedule::Changed => self.follow_local(),
        }
    }

    pub(crate) fn follow_local(&mut self) {
        self.advance_timers();
        self.backend.set_task_priority(self.local.task_priority());
    }

    pub(crate) fn next_deadline(&self) -> u64 {
        let deadlines = self.timed.iter().map(|timed| timed.deadline());
        deadlines.min().unwrap_or(NEVER)
    }

    /// A halted guest goes on only if something has come for it.
    #[inline]
    pub(crate) fn wake(&mut self) -> Next {
        if let Activity::Halted { takes_interrupts } = self.activity {
            if !self.wakes(takes_interrupts) {
                return self.leave(AxVCpuExitReason::Halt);
            }
            self.activity = Activity::Active;
        }
        Next::Resume
    }

    /// Whether something waits that ends a wait.
    pub(crate) fn wakes(&self, takes_interrupts: bool) -> bool {
        !self.events.is_empty()
            || takes_interrupts
                && match self.keeps {
                    None => self.flag.is_raised(),
                    Some(_) => self.local.is_deliverable(),
                }
    }

    /// Gives the guest the first of what waits for it that it can take, and asks for an exit where something is left.
    #[inline(always)]
    pub(crate) fn deliver(&mut self) {
        let waits = self.flag.is_raised();
        if !waits && !self.awaits_interrupts && self.events.is_idle() {
            return;
        }
        match self.keeps {
            None => self.deliver_waiting(waits, |vcpu| vcpu.flag.is_raised()),
            Some(keeps) => self.deliver_kept(keeps),
        }
        self.await_due();
    }

    /// A timer that ran early is due when the guest goes on. That is at most [`LEAD`] away; a clock that stands still is not waited for.
    #[inline(always)]
    fn await_due(&mut self) {
        if let Some(due) = self.events.take_due() {
            for _ in 0..LEAD {
                if due <= H::now() {
                    break;
                }
            }
        }
    }

    /// The same, where the hardware keeps the local APIC.
    #[inline(never)]
    fn deliver_kept(&mut self, keeps: Keeps) {
        match keeps {
            Keeps::TaskPriority | Keeps::Registers
                if self.events.is_empty() && self.backend.is_open(Window::Interrupt) =>
            {
                // Most often what waits can be taken, and then nothing is left to be told.
                self.inject_interrupt_now();
                let waits = self.still_waits(keeps);
                self.await_interrupts(waits);
            }
            Keeps::TaskPriority | Keeps::Registers | Keeps::Everything => {
                let waits = self.still_waits(keeps);
                self.deliver_waiting(waits, |vcpu| vcpu.still_waits(keeps));
            }
        }
    }

    /// `waits`: whether an interrupt does, that is to be injected; `still_waits` looks again.
    #[inline(always)]
    fn deliver_waiting(&mut self, mut waits: bool, still_waits: impl Fn(&mut Self) -> bool) {
        if let Some(event) = self.events.take_forced() {
            self.backend.inject(event);
        } else if self.events.has_nmi() && self.backend.is_open(Window::Nmi) {
            self.events.take_nmi();
            self.backend.inject(Event::Nmi);
        } else if waits && self.backend.is_open(Window::Interrupt) {
            self.inject_interrupt_now();
            waits = still_waits(self);
        }
        if self.events.has_nmi() {
            self.backend.await_open(Window::Nmi);
        }
        self.await_interrupts(waits);
    }

    /// The guest takes the interrupt that waits, if one does that may be taken.
    #[inline(always)]
    fn inject_interrupt_now(&mut self) {
        if let Some(vector) = self.local.acknowledge() {
            self.backend.inject(Event::Interrupt(vector));
        }
    }

    #[inline(always)]
    fn await_interrupts(&mut self, waits: bool) {
        if waits != self.awaits_interrupts {
            if waits {
                self.backend.await_open(Window::Interrupt);
            } else {
                self.backend.ignore(Window::Interrupt);
            }
            self.awaits_interrupts = waits;
        }
    }

    /// Brings the hardware that keeps the local APIC up to date, and says whether something is left to be injected.
    fn still_waits(&mut self, keeps: Keeps) -> bool {
        if self.flag.is_raised() {
            return self.hand_over(keeps);
        }
        self.backend.hold_back(0);
        false
    }

    fn hand_over(&mut self, keeps: Keeps) -> bool {
        self.backend.take_over(self.local.hand_over());
        match keeps {
            // What an 8259 has.
            Keeps::Everything => self.flag.is_raised(),
            Keeps::TaskPriority | Keeps::Registers => {
                let class = self.local.held_back();
                self.backend.hold_back(class.unwrap_or(0));
                class.is_none() && self.flag.is_raised()
            }
        }
    }

    /// The window that was awaited is open: the vendor has closed it again.
    pub(crate) fn window_opened(&mut self) {
        self.awaits_interrupts = false;
    }

    /// No window is awaited any more.
    pub(crate) fn forget_windows(&mut self) {
        self.backend.ignore(Window::Interrupt);
        self.backend.ignore(Window::Nmi);
        self.awaits_interrupts = false;
    }
}
