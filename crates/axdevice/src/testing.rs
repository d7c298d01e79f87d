//! What the tests put at the far ends of devices.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;
use spin::Mutex;

use crate::{CharBackend, CpuInterrupts, InterruptController, IrqLine};

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
