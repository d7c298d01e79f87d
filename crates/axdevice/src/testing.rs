//! What the tests put at the far ends of devices.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;
use spin::Mutex;

use crate::{
    CharBackend, Clock, CpuEvents, CpuInterrupts, InterruptController, IrqLine, SystemPower,
};

pub(crate) const WIDTHS: [AccessWidth; 4] = [
    AccessWidth::Byte,
    AccessWidth::Word,
    AccessWidth::Dword,
    AccessWidth::Qword,
];

pub(crate) fn any_width() -> impl Strategy<Value = AccessWidth> {
    prop::sample::select(&WIDTHS[..])
}

/// Remembers every change of its lines, at either end of an interrupt controller, and that they are changes.
#[derive(Default)]
pub(crate) struct Lines {
    changes: Mutex<Vec<(usize, LineLevel)>>,
}

impl Lines {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A wire to line `number`.
    pub(crate) fn wire(self: &Arc<Self>, number: u32) -> IrqLine {
        IrqLine::new(Arc::clone(self) as Arc<dyn InterruptController>, number)
    }

    pub(crate) fn level(&self, number: usize) -> LineLevel {
        let changes = self.changes.lock();
        let last = changes.iter().rev().find(|(line, _)| *line == number);
        last.map_or(LineLevel::Low, |(_, level)| *level)
    }

    pub(crate) fn changes(&self) -> usize {
        self.changes.lock().len()
    }

    fn set(&self, number: usize, level: LineLevel) {
        assert_ne!(
            self.level(number),
            level,
            "line {number} was {level:?} already"
        );
        self.changes.lock().push((number, level));
    }
}

impl InterruptController for Lines {
    fn set_line(&self, source: u32, level: LineLevel) {
        self.set(source as usize, level);
    }
}

impl CpuInterrupts for Lines {
    fn set_line(&self, cpu: usize, level: LineLevel) {
        self.set(cpu, level);
    }
}

/// A backend with input and output queues, and room for as much output as the test says.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) input: Mutex<VecDeque<u8>>,
    pub(crate) output: Mutex<Vec<u8>>,
    pub(crate) room: Mutex<usize>,
    /// The number of calls.
    pub(crate) calls: Mutex<usize>,
}

impl Queues {
    pub(crate) fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Mutex::new(room),
            ..Self::default()
        })
    }

    pub(crate) fn type_in(&self, bytes: &[u8]) {
        self.input.lock().extend(bytes);
    }

    pub(crate) fn take_output(&self) -> Vec<u8> {
        core::mem::take(&mut self.output.lock())
    }
}

impl CharBackend for Queues {
    fn write(&self, bytes: &[u8]) -> usize {
        assert!(!bytes.is_empty(), "a call for nothing");
        *self.calls.lock() += 1;
        let mut room = self.room.lock();
        let taken = bytes.len().min(*room);
        *room -= taken;
        self.output.lock().extend(&bytes[..taken]);
        taken
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        assert!(!buf.is_empty(), "a call for nothing");
        *self.calls.lock() += 1;
        let mut input = self.input.lock();
        let count = buf.len().min(input.len());
        for (place, byte) in buf.iter_mut().zip(input.drain(..count)) {
            *place = byte;
        }
        count
    }
}

/// Counts what it is asked for.
#[derive(Default)]
pub(crate) struct Power {
    asked: Mutex<(u32, u32)>,
}

impl Power {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often it was powered off and reset since the last call.
    pub(crate) fn take(&self) -> (u32, u32) {
        core::mem::take(&mut self.asked.lock())
    }
}

impl SystemPower for Power {
    fn power_off(&self) {
        self.asked.lock().0 += 1;
    }

    fn reset(&self) {
        self.asked.lock().1 += 1;
    }
}

/// A clock that goes when the test says so.
pub(crate) struct TestClock {
    now: AtomicU64,
    frequency_hz: u64,
}

impl TestClock {
    pub(crate) fn new(frequency_hz: u64) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU64::new(0),
            frequency_hz,
        })
    }

    pub(crate) fn set(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    pub(crate) fn pass(&self, ticks: u64) {
        self.now.fetch_add(ticks, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn frequency_hz(&self) -> u64 {
        self.frequency_hz
    }
}

/// What a vCPU was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Notify(usize),
    Nmi(usize),
    Init(usize),
    Startup(usize, u8),
}

/// Remembers what vCPUs were told.
#[derive(Default)]
pub(crate) struct Events {
    events: Mutex<Vec<Event>>,
}

impl Events {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        core::mem::take(&mut self.events.lock())
    }
}

impl CpuEvents for Events {
    fn notify(&self, cpu: usize) {
        self.events.lock().push(Event::Notify(cpu));
    }

    fn nmi(&self, cpu: usize) {
        self.events.lock().push(Event::Nmi(cpu));
    }

    fn init(&self, cpu: usize) {
        self.events.lock().push(Event::Init(cpu));
    }

    fn startup(&self, cpu: usize, page: u8) {
        self.events.lock().push(Event::Startup(cpu, page));
    }
}
