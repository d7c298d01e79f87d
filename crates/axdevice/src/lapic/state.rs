//! The registers of one local APIC, and what follows from them.

use axvcpu::LineLevel;

use super::icr::{self, Command};
use super::kept::Unseen;
use super::lvt::{Entry, LocalDelivery, Lvt};
use super::message::{Acceptance, Delivery, Destination, Message, TriggerMode};
use super::mode::Mode;
use super::page::RegisterPage;
use super::registers::{self as reg, Register};
use super::timer::Timer;
use super::vectors::VectorSet;
use crate::{AccessFault, SharedClock};

/// What has to be done elsewhere, once the lock is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Effect {
    Nothing,
    Send(Message),
    /// A level-triggered interrupt was served.
    EndOfLevel(u8),
}

/// What waits to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    Vector(u8),
    /// What an 8259 has.
    ExtInt,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) id: u32,
    pub(super) mode: Mode,
    pub(super) task_priority: u8,
    logical: u32,
    destination_format: u32,
    spurious: u32,
    pub(super) in_service: VectorSet,
    pub(super) trigger_mode: VectorSet,
    /// Where hardware keeps everything, what it does not know of yet.
    pub(super) request: VectorSet,
    /// The errors that the register shows, and those since it was written.
    errors: u32,
    new_errors: u32,
    pub(super) command: u64,
    lvt: Lvt,
    timer: Timer,
    lint0: LineLevel,
    lint1: LineLevel,
    /// A message of an I/O APIC said that an 8259 has something.
    pub(super) ext_int: bool,
    /// Where hardware keeps some of this, if it does, and what is not there yet.
    pub(super) page: Option<RegisterPage>,
    pub(super) unseen: Unseen,
    /// Whether the page shows what is requested and in service, which is here.
    pub(super) mirrors: bool,
}

impl State {
    /// The local APIC of vCPU `id` as firmware leaves it. Its timer's period is at least `min_period` ticks.
    pub(super) fn new(id: u32, min_period: u64) -> Self {
        let mut lvt = Lvt::new();
        if id == 0 {
            lvt.wire_ext_int();
        }
        Self {
            id,
            mode: Mode::XApic,
            task_priority: 0,
            logical: 0,
            destination_format: u32::MAX,
            spurious: 0xff,
            in_service: VectorSet::default(),
            trigger_mode: VectorSet::default(),
            request: VectorSet::default(),
            errors: 0,
            new_errors: 0,
            command: 0,
            lvt,
            timer: Timer::new(min_period),
            lint0: LineLevel::Low,
            lint1: LineLevel::Low,
            ext_int: false,
            page: None,
            unseen: Unseen::Nothing,
            mirrors: false,
        }
    }

    /// Power-on: all but the levels of the pins.
    pub(super) fn reset(&mut self) {
        self.init();
        self.mode = Mode::XApic;
        self.follow_mode();
    }

    /// INIT: as [`reset`](Self::reset), but IA32_APIC_BASE stays (SDM volume 3, 12.4.7.3).
    pub(super) fn init(&mut self) {
        *self = Self {
            mode: self.mode,
            lint0: self.lint0,
            lint1: self.lint1,
            unseen: match self.page {
                None => Unseen::Nothing,
                Some(_) => Unseen::Reset,
            },
            mirrors: self.mirrors,
            page: self.page.take(),
            ..Self::new(self.id, self.timer.min_period())
        };
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn base(&self) -> u64 {
        self.mode.base(self.id)
    }

    /// Writes IA32_APIC_BASE.
    pub(super) fn set_base(&mut self, base: u64) -> Result<(), AccessFault> {
        let next = self.mode.switched(base)?;
        if next == self.mode {
            return Ok(());
        }
        self.command = self.present_command();
        self.leaves_unseen(Unseen::Registers);
        match next {
            // What it held is lost.
            Mode::Disabled => {
                self.init();
                // There is nothing between the pin and the processor now.
                self.lvt.mask_all();
            }
            Mode::XApic => {}
            // The upper half, where the destination is, means something else now.
            Mode::X2Apic => self.command &= u64::from(u32::MAX),
        }
        self.mode = next;
        self.follow_mode();
        Ok(())
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.mode != Mode::Disabled
    }

    fn is_software_enabled(&self) -> bool {
        self.spurious & reg::SPURIOUS_ENABLE != 0
    }

    #[inline]
    pub(super) fn has_ext_int(&self) -> bool {
        // The pin first, which is low most of the time.
        self.ext_int || self.lint0 == LineLevel::High && self.is_lint0_ext_int()
    }

    /// Whether the pin LINT0 leads to the processor as it is.
    fn is_lint0_ext_int(&self) -> bool {
        match self.mode {
            Mode::Disabled => true,
            Mode::XApic | Mode::X2Apic => {
                !self.lvt.is_masked(Entry::Lint0)
                    && self.lvt.delivery(Entry::Lint0) == LocalDelivery::ExtInt
            }
        }
    }

    /// The logical ID. In x2APIC mode it follows from the ID (SDM volume 3, 12.12.10.2).
    fn logical_id(&self) -> u32 {
        match self.mode {
            Mode::X2Apic => (self.id & !0xf) << 12 | 1 << (self.id & 0xf),
            Mode::XApic | Mode::Disabled => self.logical,
        }
    }

    /// Whether a logical destination, without that for everyone, includes this one (SDM volume 3, 12.6.2.2 to 12.6.2.4).
    fn matches_logical(&self, destination: u32) -> bool {
        let logical = self.logical_id();
        match self.mode {
            Mode::Disabled => false,
            Mode::X2Apic => {
                logical >> 16 == destination >> 16 && logical & destination & 0xffff != 0
            }
            Mode::XApic => {
                let logical = logical >> 24;
                destination <= 0xff
                    && match self.destination_format >> 28 {
                        0xf => logical & destination != 0,
                        0 => logical >> 4 == destination >> 4 && logical & destination & 0xf != 0,
                        _ => false,
                    }
            }
        }
    }

    /// Whether a message of vCPU `sender` (if it is one's) for `destination` is for this one.
    pub(super) fn is_addressed(&self, destination: Destination, sender: Option<u32>) -> bool {
        self.is_enabled()
            && match destination {
                Destination::Physical(id) => id == self.id,
                Destination::Logical(bits) => self.matches_logical(bits),
                Destination::Everyone => true,
                Destination::Others => sender != Some(self.id),
            }
    }

    /// Whether it would take a vector.
    pub(super) fn is_arbitrating(&self) -> bool {
        self.is_enabled() && self.is_software_enabled()
    }

    /// Takes in the interrupt of a message, or of a source within the processor.
    #[inline]
    pub(super) fn accept(&mut self, vector: u8, trigger: TriggerMode) -> Acceptance {
        if !self.is_arbitrating() {
            return Acceptance::Refused;
        }
        if vector < 16 {
            self.log_error(reg::ERROR_RECEIVE_ILLEGAL_VECTOR);
            return Acceptance::Refused;
        }
        self.request.insert(vector);
        match trigger {
            TriggerMode::Edge => self.trigger_mode.remove(vector),
            TriggerMode::Level => self.trigger_mode.insert(vector),
        }
        if self.mirrors {
            self.show_request(vector, trigger);
        }
        Acceptance::Accepted
    }

    /// Takes in what an 8259 has, by a message.
    pub(super) fn accept_ext_int(&mut self) {
        self.ext_int = true;
    }

    /// Logs an error. Of several until the register is written, the first interrupts.
    #[cold]
    #[inline(never)]
    fn log_error(&mut self, error: u32) {
        let first = self.new_errors == 0;
        self.new_errors |= error;
        if first && !self.lvt.is_masked(Entry::Error) {
            self.accept(self.lvt.vector(Entry::Error), TriggerMode::Edge);
        }
    }

    /// The interrupt `vector` is not in service any more.
    #[inline(always)]
    pub(super) fn ended(&mut self, vector: u8) -> Effect {
        if self.trigger_mode.contains(vector) {
            self.level_ended(vector)
        } else {
            Effect::Nothing
        }
    }

    #[inline(never)]
    fn level_ended(&mut self, vector: u8) -> Effect {
        if self.lvt.get(Entry::Lint0) & super::lvt::REMOTE_IRR != 0
            && self.lvt.vector(Entry::Lint0) == vector
        {
            self.lvt.clear_remote_irr(Entry::Lint0);
            self.leaves_unseen(Unseen::Registers);
            self.look_at_level();
        }
        Effect::EndOfLevel(vector)
    }

    /// Sets the level of LINT0.
    pub(super) fn set_lint0(&mut self, level: LineLevel) -> Effect {
        let before = core::mem::replace(&mut self.lint0, level);
        if self.lvt.is_level(Entry::Lint0) {
            self.look_at_level();
            Effect::Nothing
        } else {
            self.pin_edge(Entry::Lint0, before, level)
        }
    }

    /// Sets the level of LINT1.
    pub(super) fn set_lint1(&mut self, level: LineLevel) -> Effect {
        let before = core::mem::replace(&mut self.lint1, level);
        self.pin_edge(Entry::Lint1, before, level)
    }

    fn pin_edge(&mut self, entry: Entry, before: LineLevel, level: LineLevel) -> Effect {
        if (before, level) != (LineLevel::Low, LineLevel::High)
            || !self.is_enabled()
            || self.lvt.is_masked(entry)
        {
            return Effect::Nothing;
        }
        let to_self = |delivery| {
            Effect::Send(Message {
                destination: Destination::Physical(self.id),
                delivery,
            })
        };
        match self.lvt.delivery(entry) {
            LocalDelivery::Fixed => {
                self.accept(self.lvt.vector(entry), TriggerMode::Edge);
                Effect::Nothing
            }
            LocalDelivery::Nmi => to_self(Delivery::Nmi),
            LocalDelivery::Init => to_self(Delivery::Init),
            // ExtINT lasts as long as the level does.
            LocalDelivery::ExtInt | LocalDelivery::Nothing => Effect::Nothing,
        }
    }

    /// Lets LINT0 ask by its level, unless it does already.
    fn look_at_level(&mut self) {
        let entry = Entry::Lint0;
        if self.lint0 == LineLevel::High
            && self.lvt.is_level(entry)
            && !self.lvt.is_masked(entry)
            && self.lvt.get(entry) & super::lvt::REMOTE_IRR == 0
            && self.accept(self.lvt.vector(entry), TriggerMode::Level) == Acceptance::Accepted
        {
            self.lvt.set_remote_irr(entry);
            self.leaves_unseen(Unseen::Registers);
        }
    }

    /// When the timer expires.
    pub(super) fn deadline(&self) -> u64 {
        self.timer.due()
    }

    pub(super) fn advance(&mut self, now: u64) {
        let expired = self.timer.expire(self.lvt.timer_mode(), now);
        if expired && !self.lvt.is_masked(Entry::Timer) {
            self.accept(self.lvt.vector(Entry::Timer), TriggerMode::Edge);
        }
    }

    pub(super) fn tsc_deadline(&self) -> u64 {
        self.timer.deadline(self.lvt.timer_mode())
    }

    pub(super) fn set_tsc_deadline(&mut self, deadline: u64) {
        self.timer.set_deadline(deadline, self.lvt.timer_mode());
    }

    /// A register that does not exist was accessed in memory.
    pub(super) fn illegal_register(&mut self) {
        self.log_error(reg::ERROR_ILLEGAL_REGISTER);
    }

    pub(super) fn read(&self, register: Register, clock: &SharedClock) -> u64 {
        u64::from(match register {
            Register::Id => match self.mode {
                Mode::X2Apic => self.id,
                Mode::XApic | Mode::Disabled => self.id << 24,
            },
            Register::Version => reg::VERSION,
            Register::TaskPriority => self.task_priority().into(),
            Register::ArbitrationPriority => self.arbitration_priority().into(),
            Register::ProcessorPriority => self.processor_priority().into(),
            Register::EndOfInterrupt | Register::RemoteRead | Register::SelfIpi => 0,
            Register::LogicalDestination => self.logical_id(),
            Register::DestinationFormat => self.destination_format,
            Register::SpuriousVector => self.spurious,
            Register::InService(index) => self.in_service_register(index),
            Register::TriggerMode(index) => self.trigger_mode.register(index),
            Register::Request(index) => self.request_register(index),
            Register::ErrorStatus => self.errors,
            Register::CommandLow => match self.mode {
                Mode::X2Apic => return self.command,
                Mode::XApic | Mode::Disabled => self.present_command() as u32,
            },
            Register::CommandHigh => (self.present_command() >> 32) as u32,
            Register::Lvt(entry) => self.lvt.get(entry),
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.current(self.lvt.timer_mode(), clock.now()),
            Register::DivideConfiguration => self.timer.divide(),
        })
    }

    /// Writes a register: all bits of `value` where it has 64, else the lower half. Bits that do not exist are ignored.
    #[inline(always)]
    pub(super) fn write(&mut self, register: Register, value: u64, clock: &SharedClock) -> Effect {
        if self.page.is_some() {
            return self.write_and_show(register, value, clock);
        }
        self.change(register, value, clock)
    }

    #[cold]
    fn write_and_show(&mut self, register: Register, value: u64, clock: &SharedClock) -> Effect {
        self.command = self.present_command();
        let effect = self.change(register, value, clock);
        self.show(register, clock);
        effect
    }

    #[inline(never)]
    fn change(&mut self, register: Register, value: u64, clock: &SharedClock) -> Effect {
        let word = value as u32;
        match register {
            Register::EndOfInterrupt => return self.end_of_interrupt(),
            Register::CommandLow => {
                let command = match self.mode {
                    Mode::X2Apic => value,
                    Mode::XApic | Mode::Disabled => self.command >> 32 << 32 | u64::from(word),
                };
                return self.command(command);
            }
            Register::CommandHigh => {
                self.command = u64::from(word) << 32 | self.command & u64::from(u32::MAX);
            }
            Register::TaskPriority => self.set_task_priority(word as u8),
            Register::LogicalDestination => self.logical = word & 0xff00_0000,
            Register::DestinationFormat => {
                self.destination_format = word | reg::DESTINATION_FORMAT_ONES;
            }
            Register::SpuriousVector => self.set_spurious(word),
            Register::ErrorStatus => self.errors = core::mem::take(&mut self.new_errors),
            Register::Lvt(entry) => self.set_lvt(entry, word),
            Register::InitialCount => self.set_initial_count(word, clock),
            Register::DivideConfiguration => self.set_divide(word, clock),
            Register::SelfIpi => self.interrupt_self(word as u8),
            // Read-only.
            Register::Id
            | Register::Version
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::RemoteRead
            | Register::InService(_)
            | Register::TriggerMode(_)
            | Register::Request(_)
            | Register::CurrentCount => {}
        }
        Effect::Nothing
    }

    #[inline(never)]
    fn set_initial_count(&mut self, count: u32, clock: &SharedClock) {
        let mode = self.lvt.timer_mode();
        self.timer.set_initial(count, mode, clock.now());
    }

    #[inline(never)]
    fn set_divide(&mut self, value: u32, clock: &SharedClock) {
        let mode = self.lvt.timer_mode();
        let divide = value & reg::DIVIDE_BITS;
        self.timer.set_divide(divide, mode, clock.now());
    }

    fn set_spurious(&mut self, value: u32) {
        self.spurious = value & reg::SPURIOUS_BITS;
        if !self.is_software_enabled() {
            self.lvt.mask_all();
        }
    }

    #[inline(never)]
    fn set_lvt(&mut self, entry: Entry, value: u32) {
        let timer_before = self.lvt.timer_mode();
        self.lvt.set(entry, value);
        if !self.is_software_enabled() {
            self.lvt.mask(entry);
        }
        match entry {
            Entry::Timer => self.timer.switch_mode(timer_before, self.lvt.timer_mode()),
            Entry::Lint0 => {
                if !self.lvt.is_level(entry) {
                    self.lvt.clear_remote_irr(entry);
                }
                self.look_at_level();
            }
            Entry::Thermal | Entry::Performance | Entry::Lint1 | Entry::Error => {}
        }
    }

    fn command(&mut self, command: u64) -> Effect {
        self.command = command & !icr::DELIVERY_STATUS;
        match Command::of(command, self.id, self.mode) {
            Command::Own(vector) => self.interrupt_self(vector),
            Command::Send(message) => return Effect::Send(message),
            Command::IllegalVector => self.log_error(reg::ERROR_SEND_ILLEGAL_VECTOR),
            Command::Nothing => {}
        }
        Effect::Nothing
    }

    #[inline]
    fn interrupt_self(&mut self, vector: u8) {
        if vector < 16 {
            self.log_error(reg::ERROR_SEND_ILLEGAL_VECTOR);
        } else {
            self.accept(vector, TriggerMode::Edge);
        }
    }
}
