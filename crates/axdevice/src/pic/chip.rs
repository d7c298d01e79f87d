//! One 8259A.

use axvcpu::LineLevel;

/// ICW1, among the writes with A0 low.
const ICW1: u8 = 1 << 4;
const ICW1_NEEDS_ICW4: u8 = 1 << 0;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const ICW4_FULLY_NESTED: u8 = 1 << 4;
/// OCW3, among the others.
const OCW3: u8 = 1 << 3;
const OCW3_POLL: u8 = 1 << 2;
/// A poll found something.
const POLL_FOUND: u8 = 1 << 7;

/// What the next write with A0 high is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Icw2 { icw3: bool, icw4: bool },
    Icw3 { icw4: bool },
    Icw4,
    Mask,
}

/// What a read with A0 low answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Requests,
    InService,
}

#[derive(Debug)]
pub(super) struct Chip {
    /// The levels of the inputs.
    lines: u8,
    /// Edges that were not acknowledged.
    edges: u8,
    in_service: u8,
    mask: u8,
    /// Inputs that ask by their level, and those that may.
    level_triggered: u8,
    level_capable: u8,
    /// Inputs where another one is.
    cascades: u8,
    vector_base: u8,
    /// The input of the lowest priority. The one after it has the highest.
    lowest: u8,
    expects: Expects,
    status: Status,
    poll: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    fully_nested: bool,
}

impl Chip {
    /// Initialized and masked.
    pub(super) fn new(vector_base: u8, level_capable: u8, cascades: u8) -> Self {
        Self {
            lines: 0,
            edges: 0,
            in_service: 0,
            mask: 0xff,
            level_triggered: 0,
            level_capable,
            cascades,
            vector_base,
            lowest: 7,
            expects: Expects::Mask,
            status: Status::Requests,
            poll: false,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_mask: false,
            fully_nested: false,
        }
    }

    pub(super) fn set_line(&mut self, input: u8, level: LineLevel) {
        let bit = 1 << (input & 7);
        match level {
            LineLevel::High => {
                self.edges |= bit & !self.lines;
                self.lines |= bit;
            }
            LineLevel::Low => self.lines &= !bit,
        }
    }

    /// IRR.
    fn requests(&self) -> u8 {
        let by_level = self.level_triggered | self.cascades;
        self.edges & !by_level | self.lines & by_level
    }

    /// Of some inputs, the one with the highest priority.
    fn first_of(&self, inputs: u8) -> Option<u8> {
        if inputs == 0 {
            return None;
        }
        let start = (self.lowest + 1) & 7;
        let distance = inputs.rotate_right(start.into()).trailing_zeros() as u8;
        Some((distance + start) & 7)
    }

    /// How far behind the highest priority an input is.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest + 1) & 7
    }

    /// The request that may interrupt what is in service.
    fn deliverable(&self) -> Option<u8> {
        if self.expects != Expects::Mask {
            return None;
        }
        let best = self.first_of(self.requests() & !self.mask)?;
        let mut holding_back = self.in_service;
        if self.special_mask {
            holding_back &= !self.mask;
        }
        // In special fully nested mode the chip at a cascade may interrupt itself.
        if self.fully_nested && self.cascades & 1 << best != 0 {
            holding_back &= !self.cascades;
        }
        match self.first_of(holding_back) {
            Some(served) if self.rank(served) <= self.rank(best) => None,
            Some(_) | None => Some(best),
        }
    }

    /// The level of the pin INT.
    pub(super) fn output(&self) -> LineLevel {
        match self.deliverable() {
            Some(_) => LineLevel::High,
            None => LineLevel::Low,
        }
    }

    /// Takes the request in service that the output stands for, if it still does.
    pub(super) fn acknowledge(&mut self) -> Option<u8> {
        let input = self.deliverable()?;
        let bit = 1 << input;
        self.edges &= !bit;
        if !self.auto_eoi {
            self.in_service |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    /// The vector of an acknowledged input, or for none that of input 7.
    pub(super) fn vector(&self, input: Option<u8>) -> u8 {
        self.vector_base | input.unwrap_or(7)
    }

    /// Reads with A0 low; `None`: a poll was asked for, and is to be answered.
    #[inline(always)]
    pub(super) fn peek_status(&self) -> Option<u8> {
        let status = match self.status {
            Status::Requests => self.requests(),
            Status::InService => self.in_service,
        };
        (!self.poll).then_some(status)
    }

    /// The same with A0 high: the mask.
    #[inline(always)]
    pub(super) fn peek_data(&self) -> Option<u8> {
        (!self.poll).then_some(self.mask)
    }

    /// Answers a poll: takes the request in service.
    pub(super) fn read_poll(&mut self) -> u8 {
        self.poll = false;
        self.acknowledge().map_or(0, |input| POLL_FOUND | input)
    }

    pub(super) fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.start_initialization(value);
        } else if value & OCW3 != 0 {
            self.control(value);
        } else {
            self.end_of_interrupt(value >> 5, value & 7);
        }
    }

    pub(super) fn write_data(&mut self, value: u8) {
        self.expects = match self.expects {
            Expects::Mask => {
                self.mask = value;
                Expects::Mask
            }
            Expects::Icw2 { icw3, icw4 } => {
                self.vector_base = value & 0xf8;
                match (icw3, icw4) {
                    (true, icw4) => Expects::Icw3 { icw4 },
                    (false, true) => Expects::Icw4,
                    (false, false) => Expects::Mask,
                }
            }
            // How the two are wired is known.
            Expects::Icw3 { icw4: true } => Expects::Icw4,
            Expects::Icw3 { icw4: false } => Expects::Mask,
            Expects::Icw4 => {
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                self.fully_nested = value & ICW4_FULLY_NESTED != 0;
                Expects::Mask
            }
        };
    }

    /// ICW1: back to the start, but for the wiring and the levels of the inputs. An edge is needed again.
    fn start_initialization(&mut self, icw1: u8) {
        *self = Self {
            lines: self.lines,
            level_triggered: self.level_triggered,
            mask: 0,
            expects: Expects::Icw2 {
                icw3: icw1 & ICW1_SINGLE == 0,
                icw4: icw1 & ICW1_NEEDS_ICW4 != 0,
            },
            ..Self::new(self.vector_base, self.level_capable, self.cascades)
        };
    }

    /// OCW3.
    fn control(&mut self, value: u8) {
        match value >> 5 & 3 {
            2 => self.special_mask = false,
            3 => self.special_mask = true,
            _ => {}
        }
        if value & OCW3_POLL != 0 {
            self.poll = true;
            return;
        }
        match value & 3 {
            2 => self.status = Status::Requests,
            3 => self.status = Status::InService,
            _ => {}
        }
    }

    /// OCW2. In special mask mode, what is masked is not ended by a command that names no input.
    fn end_of_interrupt(&mut self, command: u8, input: u8) {
        let hidden = if self.special_mask { self.mask } else { 0 };
        let served = self.first_of(self.in_service & !hidden);
        let (ended, lowest) = match command & 7 {
            0b000 => {
                self.rotate_on_auto_eoi = false;
                (None, None)
            }
            0b001 => (served, None),
            0b010 => (None, None),
            0b011 => (Some(input), None),
            0b100 => {
                self.rotate_on_auto_eoi = true;
                (None, None)
            }
            0b101 => (served, served),
            0b110 => (None, Some(input)),
            _ => (Some(input), Some(input)),
        };
        if let Some(ended) = ended {
            self.in_service &= !(1 << ended);
        }
        if let Some(lowest) = lowest {
            self.lowest = lowest;
        }
    }

    pub(super) fn edge_level(&self) -> u8 {
        self.level_triggered
    }

    pub(super) fn set_edge_level(&mut self, value: u8) {
        self.level_triggered = value & self.level_capable;
    }
}
