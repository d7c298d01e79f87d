//! Which interrupt comes first, and whether it comes at all (Intel SDM volume 3, 12.8.3).

use super::kept::Unseen;
use super::message::TriggerMode;
use super::mode::Mode;
use super::page::{RegisterPage, Set};
use super::state::{Effect, State, Waiting};
use crate::Keeps;

/// The bits of a vector that are its class.
const CLASS: u8 = 0xf0;

impl State {
    /// The page, if hardware keeps everything there.
    #[inline]
    pub(super) fn everything(&self) -> Option<&RegisterPage> {
        let page = self.page.as_ref()?;
        match page.keeps() {
            Keeps::TaskPriority | Keeps::Registers => None,
            Keeps::Everything => Some(page),
        }
    }

    /// The mode, or what hardware keeps, is another: in x2APIC mode reads of what is requested and in service exit.
    pub(super) fn follow_mode(&mut self) {
        let keeps = self.page.as_ref().map(RegisterPage::keeps);
        self.mirrors = keeps == Some(Keeps::Registers) && self.mode == Mode::XApic;
    }

    /// `vector` was requested.
    #[cold]
    pub(super) fn show_request(&self, vector: u8, trigger: TriggerMode) {
        if let Some(page) = &self.page {
            page.insert(Set::Request, vector);
            match trigger {
                TriggerMode::Edge => page.remove(Set::TriggerMode, vector),
                TriggerMode::Level => page.insert(Set::TriggerMode, vector),
            }
        }
    }

    /// `vector` was taken.
    #[cold]
    fn show_taken(&self, vector: u8) {
        if let Some(page) = &self.page {
            page.remove(Set::Request, vector);
            page.insert(Set::InService, vector);
        }
    }

    /// The most urgent interrupt in service.
    #[inline]
    pub(super) fn served(&self) -> Option<u8> {
        match self.everything() {
            None => self.in_service.highest(),
            Some(page) => page.highest(Set::InService),
        }
    }

    /// The most urgent interrupt that is requested.
    #[inline]
    pub(super) fn requested(&self) -> Option<u8> {
        match self.everything() {
            None => self.request.highest(),
            Some(page) => self.request.highest().max(page.highest(Set::Request)),
        }
    }

    pub(super) fn in_service_register(&self, index: u8) -> u32 {
        match self.everything() {
            None => self.in_service.register(index),
            Some(page) => page.register(Set::InService, index),
        }
    }

    pub(super) fn request_register(&self, index: u8) -> u32 {
        let handed = |page: &RegisterPage| page.register(Set::Request, index);
        self.request.register(index) | self.everything().map_or(0, handed)
    }

    /// What the vCPU must look at before it goes on: without a page, what the processor should take now.
    #[inline(never)]
    pub(super) fn asks(&self) -> Waiting {
        if let Some(page) = &self.page {
            return self.asks_beside(page.keeps());
        }
        if self.has_ext_int() {
            return Waiting::ExtInt;
        }
        match self.request.highest() {
            Some(vector) if vector >> 4 > self.own_priority() >> 4 => Waiting::Vector(vector),
            Some(_) | None => Waiting::Nothing,
        }
    }

    /// PPR without a page.
    #[inline(always)]
    fn own_priority(&self) -> u8 {
        greater(self.task_priority, self.in_service.highest())
    }

    /// What the processor should take now, with a page. What hardware keeps it takes by itself.
    #[cold]
    pub(super) fn waiting_beside(&self) -> Waiting {
        if self.has_ext_int() {
            return Waiting::ExtInt;
        }
        match (self.request.highest(), self.everything()) {
            (Some(vector), None) if vector >> 4 > self.processor_priority() >> 4 => {
                Waiting::Vector(vector)
            }
            (_, _) => Waiting::Nothing,
        }
    }

    /// Takes what waits: a vector goes from IRR to ISR.
    #[inline(always)]
    pub(super) fn take(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Nothing => {}
            Waiting::Vector(vector) => {
                self.request.remove(vector);
                self.in_service.insert(vector);
                if self.mirrors {
                    self.show_taken(vector);
                }
            }
            Waiting::ExtInt => self.ext_int = false,
        }
    }

    /// Whether an interrupt waits that no priority holds back.
    pub(super) fn is_deliverable(&self) -> bool {
        let requested = self.requested().unwrap_or(0);
        self.has_ext_int() || requested >> 4 > self.processor_priority() >> 4
    }

    #[inline]
    pub(super) fn task_priority(&self) -> u8 {
        match &self.page {
            None => self.task_priority,
            Some(page) => page.task_priority(),
        }
    }

    pub(super) fn set_task_priority(&mut self, priority: u8) {
        match &self.page {
            None => self.task_priority = priority,
            Some(page) => page.set_task_priority(priority),
        }
    }

    /// PPR: the urgency of what the processor does.
    #[inline]
    pub(super) fn processor_priority(&self) -> u8 {
        greater(self.task_priority(), self.served())
    }

    /// APR, which also counts what waits.
    pub(super) fn arbitration_priority(&self) -> u8 {
        let waits = self.requested().unwrap_or(0) & CLASS;
        let served = self.served().unwrap_or(0) & CLASS;
        let task = self.task_priority();
        if task >> 4 >= waits >> 4 && task >> 4 > served >> 4 {
            task
        } else {
            (task & CLASS).max(waits).max(served)
        }
    }

    /// Ends the most urgent interrupt in service.
    #[inline]
    pub(super) fn end_of_interrupt(&mut self) -> Effect {
        if self.page.is_some() {
            return self.end_of_interrupt_beside();
        }
        let Some(vector) = self.in_service.highest() else {
            return Effect::Nothing;
        };
        self.in_service.remove(vector);
        self.ended(vector)
    }

    /// The same, with a page.
    #[cold]
    fn end_of_interrupt_beside(&mut self) -> Effect {
        let Some(vector) = self.served() else {
            return Effect::Nothing;
        };
        self.in_service.remove(vector);
        if let Some(page) = &self.page
            && (self.mirrors || page.keeps() == Keeps::Everything)
        {
            page.remove(Set::InService, vector);
        }
        if self.everything().is_some() {
            self.leaves_unseen(Unseen::Registers);
        }
        self.ended(vector)
    }
}

/// The task priority, or the class of what is in service.
#[inline(always)]
fn greater(task: u8, served: Option<u8>) -> u8 {
    let served = served.unwrap_or(0) & CLASS;
    if task >> 4 >= served >> 4 {
        task
    } else {
        served
    }
}
