//! Tests of the I/O APIC: registers, edges, levels, and where messages go.

use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;

use super::IoApic;
use crate::lapic::{ApicBus, LocalApic};
use crate::testing::{Event, Events, TestClock, WIDTHS, any_width};
use crate::{Device, InterruptController, LocalInterrupts};

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;
const LOGICAL: u32 = 1 << 11;

/// An I/O APIC and some local APICs, switched on.
struct Bench {
    events: Arc<Events>,
    io_apic: Arc<IoApic>,
    apics: Vec<Arc<LocalApic>>,
}

impl Bench {
    fn new(cpus: u32) -> Self {
        let events = Events::new();
        let bus = ApicBus::new(cpus, TestClock::new(1_000_000_000), events.clone());
        let io_apic = IoApic::new("ioapic", bus.clone());
        let apics: Vec<_> = (0..cpus as usize)
            .map(|cpu| bus.local(cpu).unwrap())
            .collect();
        for apic in &apics {
            apic.write(0xf0, AccessWidth::Dword, 0x1ff).unwrap();
        }
        Self {
            events,
            io_apic,
            apics,
        }
    }

    fn read(&self, register: u8) -> u32 {
        let dword = AccessWidth::Dword;
        self.io_apic.write(0, dword, register.into()).unwrap();
        self.io_apic.read(0x10, dword).unwrap() as u32
    }

    fn write(&self, register: u8, value: u32) {
        let dword = AccessWidth::Dword;
        self.io_apic.write(0, dword, register.into()).unwrap();
        self.io_apic.write(0x10, dword, value.into()).unwrap();
    }

    /// Sets the redirection entry of `pin`.
    fn redirect(&self, pin: u8, destination: u32, low: u32) {
        self.write(0x11 + 2 * pin, destination << 24);
        self.write(0x10 + 2 * pin, low);
    }

    fn entry(&self, pin: u8) -> u32 {
        self.read(0x10 + 2 * pin)
    }

    fn raise(&self, pin: u32) {
        self.io_apic.set_line(pin, LineLevel::High);
    }

    fn lower(&self, pin: u32) {
        self.io_apic.set_line(pin, LineLevel::Low);
    }

    fn take(&self, cpu: usize) -> Option<u8> {
        self.apics[cpu].acknowledge()
    }

    fn end(&self, cpu: usize) {
        self.apics[cpu].write(0xb0, AccessWidth::Dword, 0).unwrap();
    }
}

#[test]
fn registers_after_power_on_and_after_a_reset() {
    let bench = Bench::new(1);
    let check = || {
        assert_eq!(bench.io_apic.read(0, AccessWidth::Dword), Ok(0));
        for register in 0..=0xff {
            let expected = match register {
                1 => 0x0017_0020,
                0x10..=0x3f if register % 2 == 0 => MASKED,
                _ => 0,
            };
            assert_eq!(bench.read(register), expected, "{register:#x}");
        }
    };
    check();
    for register in 0..=0xff {
        bench.write(register, u32::MAX);
    }
    bench.io_apic.reset();
    check();
}

#[test]
fn what_can_be_written_is_kept() {
    let bench = Bench::new(1);
    for register in 0..=0xff {
        bench.write(register, u32::MAX);
        let expected = match register {
            0 => 0x0f00_0000,
            1 => 0x0017_0020,
            2 => 0x0f00_0000,
            0x10..=0x3f if register % 2 == 0 => 0x0001_afff,
            0x10..=0x3f => 0xff00_0000,
            _ => 0,
        };
        assert_eq!(bench.read(register), expected, "{register:#x}");
    }
}

#[test]
fn the_window_answers_words_only() {
    let bench = Bench::new(1);
    for offset in 0..0x100 {
        for width in WIDTHS {
            let answers = match offset {
                0 => matches!(width, AccessWidth::Byte | AccessWidth::Dword),
                0x10 | 0x40 => width == AccessWidth::Dword,
                _ => false,
            };
            assert_eq!(bench.io_apic.read(offset, width).is_ok(), answers);
            assert_eq!(bench.io_apic.write(offset, width, 0).is_ok(), answers);
        }
    }
}

#[test]
fn an_edge_is_sent_when_it_comes() {
    let bench = Bench::new(2);
    bench.redirect(4, 1, 0x44);
    bench.raise(4);
    assert_eq!(bench.events.take(), [Event::Notify(1)]);
    assert_eq!(bench.take(1), Some(0x44));
    assert_eq!(bench.entry(4), 0x44);
    bench.end(1);
    bench.raise(4);
    assert_eq!(bench.take(1), None);
    bench.lower(4);
    bench.raise(4);
    assert_eq!(bench.take(1), Some(0x44));
}

#[test]
fn an_edge_at_a_masked_pin_is_lost() {
    let bench = Bench::new(1);
    bench.redirect(4, 0, MASKED | 0x44);
    bench.raise(4);
    bench.redirect(4, 0, 0x44);
    assert_eq!(bench.take(0), None);
}

#[test]
fn a_level_comes_again_until_it_falls() {
    let bench = Bench::new(1);
    bench.redirect(9, 0, LEVEL | 0x59);
    bench.raise(9);
    assert_eq!(bench.entry(9), REMOTE_IRR | LEVEL | 0x59);
    assert_eq!(bench.take(0), Some(0x59));
    // On its way until it was served.
    bench.lower(9);
    bench.raise(9);
    assert_eq!(bench.apics[0].pending(), None);
    bench.end(0);
    assert_eq!(bench.take(0), Some(0x59));
    bench.lower(9);
    bench.end(0);
    assert_eq!((bench.take(0), bench.entry(9)), (None, LEVEL | 0x59));
}

#[test]
fn a_masked_level_waits() {
    let bench = Bench::new(1);
    bench.redirect(9, 0, MASKED | LEVEL | 0x59);
    bench.raise(9);
    assert_eq!(bench.take(0), None);
    bench.redirect(9, 0, LEVEL | 0x59);
    assert_eq!(bench.take(0), Some(0x59));
    bench.redirect(9, 0, MASKED | LEVEL | 0x59);
    bench.end(0);
    assert_eq!(bench.entry(9), MASKED | LEVEL | 0x59);
    assert_eq!(bench.take(0), None);
}

#[test]
fn a_level_that_nobody_takes_is_tried_again() {
    let bench = Bench::new(1);
    bench.redirect(9, 7, LEVEL | 0x59);
    bench.raise(9);
    assert_eq!(bench.entry(9), LEVEL | 0x59);
    bench.redirect(9, 0, LEVEL | 0x59);
    assert_eq!(bench.take(0), Some(0x59));
}

#[test]
fn pins_that_share_a_vector_end_together() {
    let bench = Bench::new(1);
    bench.redirect(9, 0, LEVEL | 0x59);
    bench.redirect(10, 0, LEVEL | 0x59);
    bench.redirect(11, 0, LEVEL | 0x5a);
    for pin in [9, 10, 11] {
        bench.raise(pin);
        bench.lower(pin);
    }
    assert_eq!(bench.take(0), Some(0x5a));
    bench.end(0);
    assert_eq!(bench.take(0), Some(0x59));
    bench.end(0);
    for pin in [9, 10, 11] {
        assert_eq!(bench.entry(pin) & REMOTE_IRR, 0, "{pin}");
    }
}

#[test]
fn the_eoi_register_and_a_turn_as_an_edge_take_a_level_back() {
    let bench = Bench::new(1);
    bench.redirect(9, 0, LEVEL | 0x59);
    bench.raise(9);
    bench.lower(9);
    bench.io_apic.write(0x40, AccessWidth::Dword, 0x58).unwrap();
    assert_eq!(bench.entry(9), REMOTE_IRR | LEVEL | 0x59);
    bench.io_apic.write(0x40, AccessWidth::Dword, 0x59).unwrap();
    assert_eq!(bench.entry(9), LEVEL | 0x59);
    bench.raise(9);
    assert_eq!(bench.entry(9), REMOTE_IRR | LEVEL | 0x59);
    bench.redirect(9, 0, MASKED | 0x59);
    bench.redirect(9, 0, MASKED | LEVEL | 0x59);
    assert_eq!(bench.entry(9), MASKED | LEVEL | 0x59);
}

#[test]
fn destinations() {
    let bench = Bench::new(4);
    for (cpu, apic) in bench.apics.iter().enumerate() {
        apic.write(0xd0, AccessWidth::Dword, 1 << (24 + cpu))
            .unwrap();
    }
    let interrupted =
        || -> Vec<usize> { (0..4).filter(|cpu| bench.take(*cpu).is_some()).collect() };
    for (vector, destination, low, expected) in [
        (0x30, 2, 0, [2].as_slice()),
        (0x40, 0xff, 0, &[0, 1, 2, 3]),
        (0x50, 0b0110, LOGICAL, &[1, 2]),
        // vCPUs 1 and 2 serve something more urgent.
        (0x60, 0b1110, LOGICAL | 1 << 8, &[3]),
    ] {
        bench.redirect(4, destination, vector | low);
        bench.raise(4);
        assert_eq!(interrupted(), expected);
        bench.lower(4);
    }
}

#[test]
fn other_deliveries_are_edges() {
    let bench = Bench::new(2);
    for (mode, expected) in [
        (2, [].as_slice()),
        (3, &[]),
        (4, &[Event::Nmi(1)]),
        (5, &[Event::Init(1)]),
        (6, &[]),
        (7, &[Event::Notify(1)]),
    ] {
        bench.redirect(4, 1, LEVEL | mode << 8);
        bench.raise(4);
        assert_eq!(bench.events.take(), expected, "mode {mode}");
        assert_eq!(bench.entry(4) & REMOTE_IRR, 0);
        bench.raise(4);
        bench.lower(4);
        assert_eq!(bench.events.take(), []);
    }
}

#[test]
fn pins_that_do_not_exist_are_ignored() {
    let bench = Bench::new(1);
    for pin in [24, 25, 255, u32::MAX] {
        bench.raise(pin);
        bench.lower(pin);
    }
    assert_eq!(bench.events.take(), []);
}

proptest! {
    /// Nothing panics, and what is on its way is always a level of a fixed or lowest-priority entry.
    #[test]
    fn nothing_breaks(steps in prop::collection::vec((0u8..6, 0u64..0x50, any_width(), any::<u32>()), 1..300)) {
        let bench = Bench::new(2);
        for (what, offset, width, value) in steps {
            match what {
                0 => { let _ = bench.io_apic.read(offset, width); }
                1 => { let _ = bench.io_apic.write(offset, width, value.into()); }
                2 => bench.write(offset as u8, value),
                3 => bench.raise(value % 26),
                4 => bench.lower(value % 26),
                _ => {
                    bench.take(value as usize % 2);
                    bench.end(value as usize % 2);
                }
            }
            for pin in 0..24 {
                let entry = bench.entry(pin);
                prop_assert!(entry & REMOTE_IRR == 0 || entry & LEVEL != 0 && entry >> 8 & 7 < 2);
            }
        }
    }
}
