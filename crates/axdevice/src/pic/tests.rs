//! Tests of the 8259s: initialization, priorities, ends of interrupts, and the cascade.

use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;

use super::{Pic8259, Port, Which};
use crate::lapic::{ApicBus, ExternalInterrupts};
use crate::testing::{Events, Lines, TestClock, WIDTHS};
use crate::{AccessFault, AxVmDevices, Device, InterruptController, LocalInterrupts};

/// The pair with its output at line 0.
struct Bench {
    pic: Pic8259,
    lines: Arc<Lines>,
}

impl Bench {
    /// As after power-on.
    fn cold() -> Self {
        let lines = Lines::new();
        Self {
            pic: Pic8259::with_output("pic", lines.wire(0)),
            lines,
        }
    }

    /// As Linux initializes it, with vectors 0x30 to 0x3f, and nothing masked.
    fn new() -> Self {
        let bench = Self::cold();
        bench.initialize(0x01);
        bench
    }

    fn initialize(&self, icw4: u8) {
        for (port, base, wiring) in [(0x20, 0x30, 4), (0xa0, 0x38, 2)] {
            self.write(port, 0x11);
            self.write(port + 1, base);
            self.write(port + 1, wiring);
            self.write(port + 1, icw4);
        }
    }

    fn read(&self, port: u64) -> u8 {
        self.pic.read(port, AccessWidth::Byte).unwrap() as u8
    }

    fn write(&self, port: u64, value: u8) {
        self.pic
            .write(port, AccessWidth::Byte, value.into())
            .unwrap();
    }

    fn requests(&self, port: u64) -> u8 {
        self.write(port, 0x0a);
        self.read(port)
    }

    fn in_service(&self, port: u64) -> u8 {
        self.write(port, 0x0b);
        self.read(port)
    }

    fn raise(&self, input: u32) {
        self.pic.set_line(input, LineLevel::High);
    }

    fn lower(&self, input: u32) {
        self.pic.set_line(input, LineLevel::Low);
    }

    fn pulse(&self, input: u32) {
        self.raise(input);
        self.lower(input);
    }

    fn output(&self) -> bool {
        self.lines.level(0) == LineLevel::High
    }

    /// Takes the input that the output stands for, if any.
    fn take(&self) -> Option<u8> {
        self.output().then(|| self.pic.acknowledge() - 0x30)
    }
}

#[test]
fn the_pair_starts_masked_with_the_vectors_of_the_bios() {
    let bench = Bench::cold();
    for input in 0..16 {
        bench.pulse(input);
    }
    assert!(!bench.output());
    assert_eq!((bench.read(0x21), bench.read(0xa1)), (0xff, 0xff));
    bench.write(0x21, 0);
    bench.write(0xa1, 0);
    let mut vectors = Vec::new();
    while bench.output() {
        vectors.push(bench.pic.acknowledge());
        bench.write(0xa0, 0x20);
        bench.write(0x20, 0x20);
    }
    let expected = [8, 9].into_iter().chain(0x70..0x78).chain(0xb..0x10);
    assert_eq!(vectors, expected.collect::<Vec<u8>>());
}

#[test]
fn priorities_without_rotation() {
    let bench = Bench::new();
    for input in (0..16).filter(|input| *input != 2) {
        bench.pulse(input);
    }
    assert_eq!(bench.requests(0x20), 0xff);
    assert_eq!(bench.requests(0xa0), 0xff);
    for expected in [0, 1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7] {
        assert_eq!(bench.take(), Some(expected));
        assert!(!bench.output());
        if expected >= 8 {
            assert_eq!(bench.in_service(0xa0), 1 << (expected - 8));
            assert_eq!(bench.in_service(0x20), 4);
            bench.write(0xa0, 0x20);
        } else {
            assert_eq!(bench.in_service(0x20), 1 << expected);
        }
        bench.write(0x20, 0x20);
    }
    assert_eq!(bench.take(), None);
}

#[test]
fn the_more_urgent_interrupts_the_less_urgent() {
    let bench = Bench::new();
    bench.pulse(5);
    assert_eq!(bench.take(), Some(5));
    bench.pulse(6);
    bench.pulse(5);
    assert_eq!(bench.take(), None);
    bench.pulse(1);
    assert_eq!(bench.take(), Some(1));
    assert_eq!(bench.in_service(0x20), 0x22);
    // The most urgent one ends.
    bench.write(0x20, 0x20);
    assert_eq!(bench.in_service(0x20), 0x20);
    // And then a certain one.
    bench.write(0x20, 0x65);
    assert_eq!(bench.take(), Some(5));
}

#[test]
fn masks_hold_back_and_lose_nothing() {
    let bench = Bench::new();
    bench.write(0x21, 0x10);
    assert_eq!(bench.read(0x21), 0x10);
    bench.pulse(4);
    assert!(!bench.output());
    bench.write(0x21, 0);
    assert_eq!(bench.take(), Some(4));
    bench.write(0x20, 0x20);
    bench.write(0x21, 1 << 2);
    bench.pulse(8);
    assert!(!bench.output());
    bench.write(0x21, 0);
    assert_eq!(bench.take(), Some(8));
}

#[test]
fn levels_ask_until_they_fall() {
    let bench = Bench::new();
    bench.write(0x4d0, 0xff);
    bench.write(0x4d1, 0xff);
    assert_eq!((bench.read(0x4d0), bench.read(0x4d1)), (0xf8, 0xde));
    for input in [5, 9] {
        bench.raise(input);
        for _ in 0..2 {
            assert_eq!(bench.take(), Some(input as u8));
            bench.write(0xa0, 0x20);
            bench.write(0x20, 0x20);
        }
        bench.lower(input);
        assert_eq!(bench.take(), None);
    }
    bench.pulse(5);
    assert_eq!(bench.requests(0x20), 0);
}

#[test]
fn an_interrupt_that_went_away_is_that_of_input_7() {
    let bench = Bench::new();
    bench.write(0x4d0, 0xf8);
    bench.write(0x4d1, 0xde);
    bench.raise(5);
    bench.lower(5);
    assert_eq!(bench.pic.acknowledge(), 0x37);
    assert_eq!(bench.in_service(0x20), 0);
}

#[test]
fn automatic_ends() {
    let bench = Bench::cold();
    bench.initialize(0x03);
    bench.pulse(3);
    assert_eq!(bench.take(), Some(3));
    assert_eq!(bench.in_service(0x20), 0);
    bench.pulse(12);
    assert_eq!(bench.take(), Some(12));
    assert_eq!((bench.in_service(0x20), bench.in_service(0xa0)), (0, 0));
    // With rotation, who was served is the last.
    bench.write(0x20, 0x80);
    bench.pulse(4);
    assert_eq!(bench.take(), Some(4));
    bench.pulse(4);
    bench.pulse(5);
    assert_eq!((bench.take(), bench.take()), (Some(5), Some(4)));
    bench.write(0x20, 0x00);
    bench.pulse(6);
    bench.pulse(3);
    assert_eq!((bench.take(), bench.take()), (Some(6), Some(3)));
}

#[test]
fn rotations() {
    // Set priority: 5 is the last, so that 6 is the first.
    let bench = Bench::new();
    bench.write(0x20, 0xc5);
    bench.pulse(0);
    bench.pulse(6);
    bench.pulse(5);
    for expected in [6, 0, 5] {
        assert_eq!(bench.take(), Some(expected));
        bench.write(0x20, 0x20);
    }
    // Rotate on a non-specific EOI.
    let bench = Bench::new();
    bench.pulse(4);
    assert_eq!(bench.take(), Some(4));
    bench.write(0x20, 0xa0);
    bench.pulse(4);
    bench.pulse(5);
    assert_eq!(bench.take(), Some(5));
    // Rotate on a specific EOI.
    bench.write(0x20, 0xe5);
    bench.pulse(6);
    assert_eq!(bench.take(), Some(6));
    // No operation, and an EOI with nothing in service.
    bench.write(0x20, 0x40);
    assert_eq!(bench.in_service(0x20), 0x40);
    bench.write(0xa0, 0x20);
    bench.write(0xa0, 0xa0);
}

#[test]
fn the_special_mask_mode_lets_the_less_urgent_in() {
    let bench = Bench::new();
    bench.pulse(3);
    assert_eq!(bench.take(), Some(3));
    bench.pulse(6);
    bench.write(0x21, 0x08);
    assert!(!bench.output());
    bench.write(0x20, 0x68);
    assert_eq!(bench.take(), Some(6));
    // What is masked is not ended without its name.
    bench.write(0x20, 0x20);
    assert_eq!(bench.in_service(0x20), 0x08);
    bench.write(0x20, 0x20);
    assert_eq!(bench.in_service(0x20), 0x08);
    bench.write(0x20, 0x63);
    assert_eq!(bench.in_service(0x20), 0);
    bench.write(0x20, 0x48);
}

#[test]
fn the_special_fully_nested_mode_lets_the_second_interrupt_itself() {
    for (icw4, expected) in [(0x01, None), (0x11, Some(8))] {
        let bench = Bench::cold();
        bench.initialize(icw4);
        bench.pulse(12);
        assert_eq!(bench.take(), Some(12));
        bench.pulse(3);
        bench.pulse(8);
        assert_eq!(bench.take(), expected);
        assert_eq!(bench.take(), None);
    }
}

#[test]
fn polls_take_without_a_vector() {
    let bench = Bench::new();
    bench.write(0x20, 0x0c);
    assert_eq!(bench.read(0x20), 0);
    bench.pulse(5);
    bench.write(0x20, 0x0c);
    assert_eq!(bench.read(0x20), 0x85);
    assert_eq!(bench.in_service(0x20), 0x20);
    assert!(!bench.output());
    bench.pulse(9);
    bench.write(0xa0, 0x0c);
    assert_eq!(bench.read(0xa1), 0x81);
    assert_eq!(bench.in_service(0xa0), 2);
}

#[test]
fn initialization_starts_over_and_is_silent_until_done() {
    let bench = Bench::new();
    bench.pulse(3);
    bench.pulse(1);
    assert_eq!(bench.take(), Some(1));
    bench.write(0x21, 0x55);
    bench.raise(4);
    bench.write(0x20, 0x11);
    assert!(!bench.output());
    assert_eq!((bench.requests(0x20), bench.in_service(0x20)), (0, 0));
    bench.write(0x21, 0x40);
    bench.write(0x21, 0x04);
    bench.pulse(3);
    assert!(!bench.output());
    bench.write(0x21, 0x01);
    assert_eq!(bench.read(0x21), 0);
    assert_eq!(bench.pic.acknowledge(), 0x43);
    // Without ICW3, without ICW4, and without both.
    for (icw1, words) in [
        (0x13, [0x50, 0x01].as_slice()),
        (0x10, &[0x50, 0x04]),
        (0x12, &[0x50]),
    ] {
        bench.write(0x20, icw1);
        for word in words {
            bench.write(0x21, *word);
        }
        bench.write(0x21, 0xfd);
        assert_eq!(bench.read(0x21), 0xfd, "{icw1:#x}");
        bench.pulse(1);
        assert_eq!(bench.pic.acknowledge(), 0x51);
    }
}

#[test]
fn linux_finds_the_mask_register() {
    let bench = Bench::cold();
    bench.write(0xa1, 0xff);
    bench.write(0x21, 0xfb);
    assert_eq!(bench.read(0x21), 0xfb);
}

#[test]
fn ports_answer_bytes() {
    let bench = Bench::cold();
    for width in WIDTHS {
        for port in [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1] {
            let answers = width == AccessWidth::Byte;
            assert_eq!(bench.pic.read(port, width).is_ok(), answers);
            assert_eq!(bench.pic.write(port, width, 0).is_ok(), answers);
        }
        assert!(bench.pic.read(0x22, width).is_err());
    }
}

#[test]
fn a_reset_forgets_everything() {
    let bench = Bench::new();
    bench.raise(3);
    bench.raise(9);
    assert!(bench.output());
    bench.pic.reset();
    assert!(!bench.output());
    assert_eq!((bench.read(0x21), bench.requests(0x20)), (0xff, 0));
}

#[test]
fn the_pair_is_at_its_ports_and_at_vcpu_0() {
    let bus = ApicBus::new(2, TestClock::new(1000), Events::new());
    let pic = Pic8259::new("pic", &bus);
    let devices = pic.put_on(AxVmDevices::builder()).build().unwrap();
    for port in [0x20u16, 0xa0] {
        for (offset, value) in [(0, 0x11), (1, 0x30), (1, 4), (1, 1)] {
            devices
                .handle_port_write(port + offset, AccessWidth::Byte, value)
                .unwrap();
        }
    }
    assert_eq!(devices.handle_port_read(0x4d1, AccessWidth::Byte), Ok(0));
    pic.set_line(4, LineLevel::High);
    let apic = bus.local(0).unwrap();
    assert!(apic.pending().is_some());
    assert_eq!(apic.acknowledge(), Some(0x34));
    assert_eq!(apic.pending(), None);
    assert_eq!(bus.local(1).unwrap().pending(), None);
}

proptest! {
    /// Nothing panics, and the output is told of changes only.
    #[test]
    fn nothing_breaks(steps in prop::collection::vec((0u8..5, 0usize..6, any::<u8>()), 1..300)) {
        let bench = Bench::new();
        let ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
        for (what, port, value) in steps {
            match what {
                0 => { bench.read(ports[port]); }
                1 => bench.write(ports[port], value),
                2 => bench.raise((value % 18).into()),
                3 => bench.lower((value % 18).into()),
                _ => { bench.pic.acknowledge(); }
            }
        }
    }

    /// Of edges in any order, each is served once, in the order of priorities if nobody is in service.
    #[test]
    fn every_edge_is_served_once(inputs in prop::collection::vec(0u32..16, 0..40)) {
        let bench = Bench::new();
        let mut expected: Vec<u32> = inputs.iter().copied().filter(|input| *input != 2).collect();
        for input in inputs {
            bench.pulse(input);
        }
        let rank = |input: &u32| match input { 8.. => 20 + input, 3.. => 40 + input, _ => *input };
        expected.sort_by_key(rank);
        expected.dedup();
        let mut served = Vec::new();
        while let Some(input) = bench.take() {
            served.push(u32::from(input));
            bench.write(0xa0, 0x20);
            bench.write(0x20, 0x20);
        }
        prop_assert_eq!(served, expected);
    }
}

/// The ports are told from each other by single lines of the address.
#[test]
fn only_its_own_ports_answer() {
    for port in 0..=u64::from(u16::MAX) {
        let expected = match port {
            0x20 => Ok(Port::Command(Which::First)),
            0x21 => Ok(Port::Data(Which::First)),
            0xa0 => Ok(Port::Command(Which::Second)),
            0xa1 => Ok(Port::Data(Which::Second)),
            0x4d0 => Ok(Port::EdgeLevel(Which::First)),
            0x4d1 => Ok(Port::EdgeLevel(Which::Second)),
            _ => Err(AccessFault),
        };
        assert_eq!(Port::at(port, AccessWidth::Byte), expected, "{port:#x}");
        assert_eq!(Port::at(port, AccessWidth::Word), Err(AccessFault));
    }
}
