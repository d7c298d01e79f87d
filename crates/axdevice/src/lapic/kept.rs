//! What a local APIC does where hardware keeps its registers while the guest runs (Intel SDM volume 3, chapter 30 "APIC Virtualization and
//! Virtual Interrupts").
//!
//! The page is the vCPU's own: only [`hand_over`](State::hand_over), and what the vCPU itself does, write to it. What others request waits here until then, and
//! so does what they change. But where the page only mirrors what is requested, which hardware then reads and never writes, others write that at once.

use core::mem;

use super::lvt::Entry;
use super::mode::Mode;
use super::page::{COMMAND_HIGH, COMMAND_LOW, Levels, RegisterPage, Set};
use super::registers::Register;
use super::state::{Effect, State, Waiting};
use super::vectors::VectorSet;
use crate::{HandOver, Keeps, SharedClock, Standing};

/// What the page does not show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unseen {
    Nothing,
    /// Registers changed, or what follows from the mode.
    Registers,
    /// A reset.
    Reset,
}

/// A vector that no interrupt has: nothing is to be taken, but the page has to be told more.
const NEWS: Waiting = Waiting::Vector(1);

/// The registers that are in the page for the guest to read, and that hardware does not change by itself.
const SHOWN: [Register; 16] = [
    Register::Id,
    Register::Version,
    Register::LogicalDestination,
    Register::DestinationFormat,
    Register::SpuriousVector,
    Register::ErrorStatus,
    Register::CommandLow,
    Register::CommandHigh,
    Register::Lvt(Entry::Timer),
    Register::Lvt(Entry::Thermal),
    Register::Lvt(Entry::Performance),
    Register::Lvt(Entry::Lint0),
    Register::Lvt(Entry::Lint1),
    Register::Lvt(Entry::Error),
    Register::InitialCount,
    Register::DivideConfiguration,
];

impl State {
    /// Hardware keeps the registers in `page` from now on.
    pub(super) fn keep_in(&mut self, page: RegisterPage) {
        self.page = Some(page);
        self.unseen = Unseen::Reset;
        self.follow_mode();
    }

    /// The page has to be told more, if there is one.
    pub(super) fn leaves_unseen(&mut self, unseen: Unseen) {
        if self.page.is_some() {
            self.unseen = self.unseen.max(unseen);
        }
    }

    /// Whether the page has to be told more.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.unseen != Unseen::Nothing
    }

    /// What the vCPU must look at before it goes on, with a page.
    #[cold]
    pub(super) fn asks_beside(&self, keeps: Keeps) -> Waiting {
        if self.has_ext_int() {
            return Waiting::ExtInt;
        }
        let served = || self.served().unwrap_or(0) >> 4;
        match (self.request.highest(), keeps) {
            (Some(vector), Keeps::Everything) => Waiting::Vector(vector),
            // The task priority may change unseen: it does not count before the vCPU looks at it.
            (Some(vector), Keeps::TaskPriority | Keeps::Registers) if vector >> 4 > served() => {
                Waiting::Vector(vector)
            }
            (_, _) if self.has_news() => NEWS,
            (_, _) => Waiting::Nothing,
        }
    }

    /// The class of the interrupt that the task priority alone holds back.
    pub(super) fn held_back(&self) -> Option<u8> {
        match self.asks() {
            NEWS | Waiting::Nothing | Waiting::ExtInt => None,
            Waiting::Vector(vector) => {
                Some(vector >> 4).filter(|&class| class <= self.task_priority() >> 4)
            }
        }
    }

    /// The page, if the guest reads its registers there.
    fn shown(&self) -> Option<&RegisterPage> {
        let page = self.page.as_ref()?;
        match page.keeps() {
            Keeps::TaskPriority => None,
            Keeps::Registers | Keeps::Everything => Some(page),
        }
    }

    /// Brings the page up to date, and says what else the hardware must be told.
    pub(super) fn hand_over(&mut self, clock: &SharedClock) -> HandOver {
        let news = match self.unseen {
            Unseen::Nothing => None,
            Unseen::Registers | Unseen::Reset => self.show_all(clock),
        };
        match (news, self.everything()) {
            (None, None) => HandOver::Nothing,
            (Some(mode), None) => HandOver::All(Standing {
                mode,
                requested: 0,
                served: 0,
                levels: [0; 4],
            }),
            (news, Some(page)) => {
                let highest = self.request.highest();
                let levels = match highest {
                    Some(_) => page.request(&self.request, &self.trigger_mode),
                    None => Levels::Kept,
                };
                let answer = match (news, levels, highest) {
                    (None, Levels::Kept, None) => HandOver::Nothing,
                    (None, Levels::Kept, Some(highest)) => HandOver::Requests(highest),
                    (None, Levels::Changed, _) | (Some(_), _, _) => HandOver::All(Standing {
                        mode: self.mode,
                        requested: page.highest(Set::Request).unwrap_or(0),
                        served: page.highest(Set::InService).unwrap_or(0),
                        levels: page.levels(),
                    }),
                };
                self.request = VectorSet::default();
                answer
            }
        }
    }

    /// The page shows all that it does not yet. The answer: the mode, if registers are shown at all.
    #[cold]
    fn show_all(&mut self, clock: &SharedClock) -> Option<Mode> {
        self.command = self.present_command();
        let unseen = mem::replace(&mut self.unseen, Unseen::Nothing);
        let page = self.page.as_ref()?;
        let is_reset = unseen == Unseen::Reset;
        if is_reset {
            page.reset_priority();
        }
        self.shown()?;
        // What is requested and in service is the hardware's from a reset to the next, or is shown as long as it is read in the page.
        if is_reset || page.keeps() == Keeps::Registers {
            let requests = match page.keeps() {
                Keeps::TaskPriority | Keeps::Registers => &self.request,
                // What has come since is handed over.
                Keeps::Everything => &VectorSet::default(),
            };
            page.fill(Set::Request, requests);
            page.fill(Set::InService, &self.in_service);
            page.fill(Set::TriggerMode, &self.trigger_mode);
        }
        SHOWN
            .into_iter()
            .for_each(|register| self.show_one(register, clock));
        Some(self.mode)
    }

    /// The guest has written the page at `offset`, where every bit of a register can be written. This is when that has its effect.
    pub(super) fn written(&mut self, offset: u16, clock: &SharedClock) -> Effect {
        let (index, within) = (offset >> 4, offset & 0xf);
        let register = match self.mode {
            Mode::Disabled => None,
            Mode::XApic => Register::of_xapic(index.into()),
            Mode::X2Apic => Register::of_x2apic(index.into()),
        };
        let (Some(page), Some(register)) = (self.shown(), register) else {
            return Effect::Nothing;
        };
        if within == 0 {
            let value = page.read(index).into();
            self.write(register, value, clock)
        } else {
            // No register takes a part of a word.
            self.show(register, clock);
            Effect::Nothing
        }
    }

    /// The command as it is now: the guest writes an xAPIC's upper half, and some commands to itself, in the page alone.
    pub(super) fn present_command(&self) -> u64 {
        match (self.shown(), self.mode) {
            (Some(page), Mode::XApic) if self.unseen != Unseen::Reset => {
                u64::from(page.read(COMMAND_HIGH)) << 32 | u64::from(page.read(COMMAND_LOW))
            }
            (Some(_) | None, Mode::XApic | Mode::X2Apic | Mode::Disabled) => self.command,
        }
    }

    /// A register was written: the page shows what became of it.
    pub(super) fn show(&self, register: Register, clock: &SharedClock) {
        match register {
            // They only have effects.
            Register::EndOfInterrupt | Register::SelfIpi => {}
            Register::CommandLow => {
                if let Some(page) = self.shown() {
                    page.write(COMMAND_LOW, self.command as u32);
                }
            }
            // Switching the local APIC off by it masks them.
            Register::SpuriousVector => SHOWN
                .into_iter()
                .filter(|shown| matches!(shown, Register::SpuriousVector | Register::Lvt(_)))
                .for_each(|shown| self.show_one(shown, clock)),
            register => self.show_one(register, clock),
        }
    }

    fn show_one(&self, register: Register, clock: &SharedClock) {
        let Some(page) = self.shown() else {
            return;
        };
        let value = match register {
            Register::TaskPriority
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::InService(_)
            | Register::TriggerMode(_)
            | Register::Request(_)
            | Register::CurrentCount => return,
            Register::CommandLow => self.command,
            Register::CommandHigh => self.command >> 32,
            Register::Id
            | Register::Version
            | Register::EndOfInterrupt
            | Register::RemoteRead
            | Register::LogicalDestination
            | Register::DestinationFormat
            | Register::SpuriousVector
            | Register::ErrorStatus
            | Register::Lvt(_)
            | Register::InitialCount
            | Register::DivideConfiguration
            | Register::SelfIpi => self.read(register, clock),
        };
        page.write(register.index(), value as u32);
    }
}
