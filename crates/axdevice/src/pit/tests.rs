//! Tests of the 8254: every mode's output and count, latches, port 0x61, and interrupts in time.

mod reads;

use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;

use super::{HZ, MIN_PERIOD, Pit8254};
use crate::testing::{Event, Events, Lines, TestClock, WIDTHS};
use crate::{AxVmDevices, Device, Timed};

/// An 8254 whose clock is the machine's.
struct Bench {
    pit: Pit8254,
    lines: Arc<Lines>,
    clock: Arc<TestClock>,
    events: Arc<Events>,
}

impl Bench {
    fn with_frequency(hz: u64) -> Self {
        let lines = Lines::new();
        let clock = TestClock::new(hz);
        let events = Events::new();
        Self {
            pit: Pit8254::new("pit", lines.wire(0), clock.clone(), events.clone()),
            lines,
            clock,
            events,
        }
    }

    fn new() -> Self {
        Self::with_frequency(HZ)
    }

    fn read(&self, port: u64) -> u8 {
        self.pit.read(port, AccessWidth::Byte).unwrap() as u8
    }

    fn write(&self, port: u64, value: u8) {
        self.pit
            .write(port, AccessWidth::Byte, value.into())
            .unwrap();
    }

    /// Programs a channel with both bytes of a count.
    fn program(&self, channel: u8, mode: u8, count: u16) {
        self.write(0x43, channel << 6 | 0x30 | mode << 1);
        self.load(channel, count);
    }

    fn load(&self, channel: u8, count: u16) {
        for byte in count.to_le_bytes() {
            self.write(0x40 + u64::from(channel), byte);
        }
    }

    /// The count of a channel, latched.
    fn count(&self, channel: u8) -> u16 {
        self.write(0x43, channel << 6);
        let port = 0x40 + u64::from(channel);
        u16::from_le_bytes([self.read(port), self.read(port)])
    }

    /// The status of a channel.
    fn status(&self, channel: u8) -> u8 {
        self.write(0x43, 0xe0 | 2 << channel);
        self.read(0x40 + u64::from(channel))
    }

    fn output(&self, channel: u8) -> bool {
        self.status(channel) & 0x80 != 0
    }

    fn gate(&self, open: bool) {
        self.write(0x61, u8::from(open));
    }

    fn line(&self) -> bool {
        self.lines.level(0) == LineLevel::High
    }

    /// Lets vCPU 0 come by when it has to until `end`, and says when the line rose.
    fn rises(&self, end: u64) -> Vec<u64> {
        let mut rises = Vec::new();
        while self.pit.deadline() <= end {
            let now = self.pit.deadline();
            self.clock.set(now);
            let before = self.lines.changes();
            let next = self.pit.advance(now);
            assert!(next > now);
            if self.lines.changes() != before && self.line() {
                rises.push(now);
            }
        }
        self.clock.set(end);
        rises
    }
}

/// The outputs and counts of a channel at ticks since it was loaded.
fn check(bench: &Bench, channel: u8, table: &[(u64, bool, u16)]) {
    let start = crate::Clock::now(&*bench.clock);
    for (tick, output, count) in table {
        bench.clock.set(start + tick);
        let got = (*tick, bench.output(channel), bench.count(channel));
        assert_eq!(got, (*tick, *output, *count));
    }
}

#[test]
fn mode_0_interrupts_on_terminal_count() {
    let bench = Bench::new();
    bench.program(1, 0, 4);
    check(
        &bench,
        1,
        &[
            (0, false, 4),
            (1, false, 3),
            (3, false, 1),
            (4, true, 0),
            (5, true, 0xffff),
            (4 + 0x1_0000, true, 0),
        ],
    );
    // The first byte of a new count stops it.
    bench.write(0x41, 9);
    assert!(!bench.output(1));
    bench.clock.pass(100);
    assert!(!bench.output(1));
    bench.write(0x41, 0);
    assert_eq!(bench.count(1), 9);
}

#[test]
fn mode_1_waits_for_the_gate() {
    let bench = Bench::new();
    bench.program(2, 1, 3);
    check(&bench, 2, &[(0, true, 3), (100, true, 3)]);
    bench.gate(true);
    check(&bench, 2, &[(0, false, 3), (2, false, 1)]);
    bench.gate(false);
    bench.gate(true);
    check(
        &bench,
        2,
        &[
            (0, false, 3),
            (2, false, 1),
            (3, true, 0),
            (4, true, 0xffff),
        ],
    );
}

#[test]
fn mode_2_is_low_for_one_tick() {
    let bench = Bench::new();
    bench.program(1, 2, 3);
    check(
        &bench,
        1,
        &[
            (0, true, 3),
            (1, true, 2),
            (2, false, 1),
            (3, true, 3),
            (302, false, 1),
        ],
    );
}

#[test]
fn mode_3_is_high_for_half_of_the_time() {
    let bench = Bench::new();
    bench.program(1, 3, 4);
    check(
        &bench,
        1,
        &[
            (0, true, 4),
            (1, true, 2),
            (2, false, 4),
            (3, false, 2),
            (4, true, 4),
        ],
    );
    // One more if it is odd.
    bench.program(1, 3, 5);
    check(
        &bench,
        1,
        &[
            (0, true, 4),
            (1, true, 2),
            (2, true, 0),
            (3, false, 4),
            (4, false, 2),
            (5, true, 4),
        ],
    );
}

#[test]
fn modes_4_and_5_are_low_for_one_tick_at_the_end() {
    let bench = Bench::new();
    bench.program(1, 4, 2);
    let table = [
        (0, true, 2),
        (2, false, 0),
        (3, true, 0xffff),
        (4, true, 0xfffe),
    ];
    check(&bench, 1, &table);
    bench.program(2, 5, 2);
    check(&bench, 2, &[(0, true, 2), (9, true, 2)]);
    bench.gate(true);
    check(&bench, 2, &table);
}

#[test]
fn the_gate_holds_channel_2() {
    let bench = Bench::new();
    for mode in [0, 4] {
        bench.gate(false);
        bench.program(2, mode, 100);
        check(&bench, 2, &[(0, mode == 4, 100), (50, mode == 4, 100)]);
        bench.gate(true);
        check(&bench, 2, &[(0, mode == 4, 100), (30, mode == 4, 70)]);
        bench.gate(false);
        check(&bench, 2, &[(50, mode == 4, 70)]);
        bench.gate(true);
        check(&bench, 2, &[(70, mode == 0, 0)]);
    }
    for mode in [2, 3] {
        bench.program(2, mode, 100);
        bench.clock.pass(99);
        assert!(!bench.output(2));
        bench.gate(false);
        assert!(bench.output(2));
        bench.clock.pass(99);
        assert_eq!((bench.output(2), bench.count(2)), (true, 100));
        bench.gate(true);
        bench.clock.pass(99);
        assert!(!bench.output(2));
    }
}

#[test]
fn zero_is_the_longest_count() {
    let bench = Bench::new();
    bench.program(1, 2, 0);
    check(
        &bench,
        1,
        &[(0, true, 0), (1, true, 0xffff), (0xffff, false, 1)],
    );
    bench.write(0x43, 0x75);
    bench.load(1, 0);
    check(
        &bench,
        1,
        &[(0, true, 0), (1, true, 0x9999), (9999, false, 1)],
    );
}

#[test]
fn decimal_digits() {
    let bench = Bench::new();
    bench.write(0x43, 0x71);
    bench.load(1, 0x1234);
    check(
        &bench,
        1,
        &[
            (0, false, 0x1234),
            (35, false, 0x1199),
            (1234, true, 0),
            (1235, true, 0x9999),
        ],
    );
    bench.load(1, 0xffff);
    assert_eq!(bench.count(1), 0x9999);
}

#[test]
fn counts_are_accessed_by_one_byte_or_both() {
    let bench = Bench::new();
    bench.write(0x43, 0x50);
    bench.write(0x41, 0x77);
    assert_eq!((bench.read(0x41), bench.read(0x41)), (0x77, 0x77));
    bench.write(0x43, 0x60);
    bench.write(0x41, 0x77);
    assert_eq!((bench.read(0x41), bench.read(0x41)), (0x77, 0x77));
    bench.clock.pass(1);
    assert_eq!(bench.read(0x41), 0x76);
    bench.program(1, 0, 0x1234);
    assert_eq!((bench.read(0x41), bench.read(0x41)), (0x34, 0x12));
    // Counting goes on between the two.
    bench.clock.pass(0x35);
    assert_eq!(bench.read(0x41), 0xff);
    bench.clock.pass(0x100);
    assert_eq!(bench.read(0x41), 0x10);
}

#[test]
fn latches_hold_until_they_are_read() {
    let bench = Bench::new();
    bench.program(1, 0, 0x1000);
    bench.write(0x43, 0x40);
    bench.clock.pass(5);
    bench.write(0x43, 0x40);
    assert_eq!((bench.read(0x41), bench.read(0x41)), (0, 0x10));
    assert_eq!((bench.read(0x41), bench.read(0x41)), (0xfb, 0x0f));
}

#[test]
fn read_back_latches_counts_and_statuses() {
    let bench = Bench::new();
    bench.program(0, 2, 100);
    bench.write(0x43, 0x56);
    bench.gate(true);
    bench.program(2, 0, 50);
    // Both of all: the status comes first.
    bench.write(0x43, 0xce);
    bench.clock.pass(60);
    bench.write(0x43, 0xce);
    assert_eq!(bench.read(0x40), 0x80 | 0x34);
    assert_eq!((bench.read(0x40), bench.read(0x40)), (100, 0));
    // No count was loaded.
    assert_eq!(bench.read(0x41), 0xc0 | 0x16);
    assert_eq!(bench.read(0x42), 0x30);
    assert_eq!((bench.read(0x42), bench.read(0x42)), (50, 0));
    assert_eq!((bench.read(0x42), bench.read(0x42)), (0xf6, 0xff));
    // Only counts, of one channel.
    bench.write(0x43, 0xd8);
    assert_eq!((bench.read(0x42), bench.status(2)), (0xf6, 0x80 | 0x30));
}

#[test]
fn port_61_shows_channel_2_and_the_refresh() {
    let bench = Bench::new();
    assert_eq!(bench.read(0x61) & 0x2f, 0);
    bench.write(0x61, 0xff);
    assert_eq!(bench.read(0x61) & 0x0f, 0x0f);
    bench.program(2, 0, 10);
    assert_eq!(bench.read(0x61) & 0x20, 0);
    bench.clock.pass(10);
    assert_eq!(bench.read(0x61) & 0x20, 0x20);
    let before = bench.read(0x61);
    bench.clock.pass(18);
    assert_eq!((before ^ bench.read(0x61)) & 0x10, 0x10);
}

#[test]
fn a_kernel_measures_its_clock_with_channel_2() {
    // 10 ms, as Linux does it, on a machine of 2.1 GHz.
    let bench = Bench::with_frequency(2_100_000_000);
    bench.write(0x61, 1);
    bench.program(2, 0, (HZ / 100) as u16);
    while bench.read(0x61) & 0x20 == 0 {
        bench.clock.pass(1000);
    }
    let ticks = crate::Clock::now(&*bench.clock);
    assert!(ticks.abs_diff(21_000_000) < 3000, "{ticks}");
}

#[test]
fn periodic_interrupts_come_in_time() {
    for mode in [2, 3] {
        let bench = Bench::with_frequency(2 * HZ);
        bench.program(0, mode, 1000);
        assert_eq!(bench.events.take(), [Event::Notify(0)]);
        assert_eq!(bench.rises(10_000), [2000, 4000, 6000, 8000, 10_000]);
        assert_eq!(bench.events.take(), []);
        // Of those that nobody came by for, one.
        bench.clock.set(15_000);
        let before = bench.lines.changes();
        assert_eq!(bench.pit.advance(15_000), 16_000);
        assert_eq!(
            bench.lines.changes() - before,
            if mode == 3 { 3 } else { 2 }
        );
        bench.program(0, 0, 0);
        assert!(!bench.line());
    }
}

#[test]
fn single_interrupts_come_once() {
    let bench = Bench::new();
    bench.program(0, 0, 500);
    assert_eq!(bench.rises(100_000), [500]);
    assert_eq!(bench.pit.deadline(), u64::MAX);
    assert!(bench.line());
    bench.program(0, 4, 500);
    assert_eq!(bench.rises(200_000), [100_501]);
    // A gate that is always open never triggers.
    bench.program(0, 1, 500);
    bench.program(0, 5, 500);
    assert_eq!(bench.pit.deadline(), u64::MAX);
}

#[test]
fn a_short_period_leaves_time_for_the_guest() {
    for count in [1, 2, 100] {
        let bench = Bench::new();
        bench.program(0, 2, count);
        let rises = bench.rises(100 * MIN_PERIOD);
        assert!(
            (50..=100).contains(&rises.len()),
            "{count}: {}",
            rises.len()
        );
    }
}

#[test]
fn the_keeper_hears_of_earlier_deadlines_only() {
    let bench = Bench::new();
    bench.program(0, 0, 50_000);
    assert_eq!(bench.events.take(), [Event::Notify(0)]);
    bench.load(0, 60_000);
    // The first byte stops it.
    assert_eq!(bench.events.take(), [Event::Notify(0)]);
    bench.count(0);
    assert_eq!(bench.events.take(), []);
    bench.program(1, 0, 1);
    assert_eq!(bench.events.take(), []);
}

#[test]
fn ports_answer_bytes() {
    let bench = Bench::new();
    for width in WIDTHS {
        for port in [0x40, 0x41, 0x42, 0x43, 0x61] {
            let answers = width == AccessWidth::Byte;
            assert_eq!(bench.pit.read(port, width).is_ok(), answers);
            assert_eq!(bench.pit.write(port, width, 0).is_ok(), answers);
        }
        assert!(bench.pit.read(0x44, width).is_err());
    }
    let pit = Arc::new(Bench::new().pit);
    let devices = pit.put_on(AxVmDevices::builder()).build().unwrap();
    assert!(devices.handle_port_read(0x43, AccessWidth::Byte).is_ok());
    assert!(devices.handle_port_read(0x61, AccessWidth::Byte).is_ok());
}

#[test]
fn a_reset_stops_it() {
    let bench = Bench::new();
    bench.program(0, 3, 100);
    bench.write(0x61, 3);
    assert!(bench.line());
    bench.pit.reset();
    assert!(!bench.line());
    assert_eq!(bench.pit.deadline(), u64::MAX);
    assert_eq!((bench.status(0), bench.read(0x61) & 0xf), (0x70, 0));
}

proptest! {
    /// Nothing panics, the line hears of changes only, and a deadline is in the future.
    #[test]
    fn nothing_breaks(steps in prop::collection::vec((0u8..4, 0usize..5, any::<u8>(), any::<u64>()), 1..200)) {
        let bench = Bench::with_frequency(1_000_000_007);
        let ports = [0x40, 0x41, 0x42, 0x43, 0x61];
        for (what, port, value, time) in steps {
            match what {
                0 => { bench.read(ports[port]); }
                1 => bench.write(ports[port], value),
                2 => bench.clock.pass(time >> (32 + value % 32)),
                _ => {
                    let now = crate::Clock::now(&*bench.clock);
                    prop_assert!(bench.pit.advance(now) > now);
                }
            }
        }
    }

    /// Reads show what a channel of its own, asked at once, would show: looking changes nothing.
    #[test]
    fn looking_changes_nothing(mode in 0u8..6, count: u16, looks in prop::collection::vec(0u64..100_000, 1..20)) {
        let [looked, left] = [Bench::new(), Bench::new()];
        for bench in [&looked, &left] {
            bench.gate(true);
            bench.program(2, mode, count);
        }
        for look in looks {
            looked.clock.pass(look);
            left.clock.pass(look);
            looked.count(2);
        }
        prop_assert_eq!((looked.count(2), looked.output(2)), (left.count(2), left.output(2)));
    }
}
