//! Tests of the real-time clock: the time in every format, setting it, and interrupts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;

use super::CmosRtc;
use crate::testing::{Event, Events, Lines, TestClock, WIDTHS};
use crate::{AxVmDevices, Device, Timed};

/// The frequency of the machine's clock: no multiple of the RTC's.
const HZ: u64 = 1_000_000;
/// 2024-02-29 23:59:58, a Thursday.
const LEAP: u64 = 1_709_251_198;

struct Bench {
    rtc: CmosRtc,
    lines: Arc<Lines>,
    clock: Arc<TestClock>,
    events: Arc<Events>,
}

impl Bench {
    fn new(epoch: u64) -> Self {
        let lines = Lines::new();
        let clock = TestClock::new(HZ);
        let events = Events::new();
        let rtc = CmosRtc::new("rtc", lines.wire(8), epoch, clock.clone(), events.clone());
        Self {
            rtc,
            lines,
            clock,
            events,
        }
    }

    fn read(&self, register: u8) -> u8 {
        let byte = AccessWidth::Byte;
        self.rtc.write(0x70, byte, register.into()).unwrap();
        self.rtc.read(0x71, byte).unwrap() as u8
    }

    fn write(&self, register: u8, value: u8) {
        let byte = AccessWidth::Byte;
        self.rtc.write(0x70, byte, register.into()).unwrap();
        self.rtc.write(0x71, byte, value.into()).unwrap();
    }

    /// Century, year, month, day, weekday, hour, minute and second, as the registers show them.
    fn time(&self) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|register| self.read(register))
    }

    fn line(&self) -> bool {
        self.lines.level(8) == LineLevel::High
    }

    /// Lets vCPU 0 come by when it has to until `end`, clears the flags each time, and says when there was an interrupt, and why.
    fn interrupts(&self, end: u64) -> Vec<(u64, u8)> {
        let mut interrupts = Vec::new();
        while self.rtc.deadline() <= end {
            let now = self.rtc.deadline();
            self.clock.set(now);
            assert!(self.rtc.advance(now) > now);
            assert!(self.line());
            interrupts.push((now, self.read(0x0c)));
            assert!(!self.line());
        }
        self.clock.set(end);
        interrupts
    }
}

#[test]
fn the_time_is_there_in_every_format() {
    let bench = Bench::new(LEAP);
    assert_eq!(
        bench.time(),
        [0x20, 0x24, 0x02, 0x29, 0x05, 0x23, 0x59, 0x58]
    );
    bench.clock.pass(2 * HZ - 1);
    assert_eq!(bench.read(0), 0x59);
    bench.clock.pass(1);
    assert_eq!(
        bench.time(),
        [0x20, 0x24, 0x03, 0x01, 0x06, 0x00, 0x00, 0x00]
    );
    bench.write(0x0b, 0x00);
    assert_eq!(bench.read(4), 0x12);
    bench.clock.pass(13 * 3600 * HZ);
    assert_eq!(bench.read(4), 0x81);
    bench.write(0x0b, 0x04);
    assert_eq!(bench.read(4), 0x81);
    bench.write(0x0b, 0x06);
    assert_eq!(bench.time(), [20, 24, 3, 1, 6, 13, 0, 0]);
    bench.clock.pass(23 * 3600 * HZ);
    bench.write(0x0b, 0x04);
    assert_eq!(bench.read(4), 0x80 | 12);
}

#[test]
fn registers_after_power_on_and_after_a_reset() {
    let bench = Bench::new(LEAP);
    let check = || {
        let registers = [0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x7f].map(|register| bench.read(register));
        assert_eq!(registers, [0x26, 0x02, 0, 0x80, 0, 0]);
        assert!(!bench.line());
    };
    check();
    bench.write(0x0b, 0x70);
    bench.write(0x0e, 0x55);
    bench.write(0x09, 0x30);
    bench.clock.pass(10 * HZ);
    bench.rtc.advance(10 * HZ);
    assert!(bench.line());
    bench.rtc.reset();
    check();
    assert_eq!(bench.time()[..5], [0x20, 0x24, 0x03, 0x01, 0x06]);
    assert_eq!(bench.rtc.deadline(), u64::MAX);
}

#[test]
fn memory_is_kept() {
    let bench = Bench::new(0);
    for register in (0x0e..0x80).filter(|register| *register != 0x32) {
        bench.write(register, !register);
    }
    for register in (0x0e..0x80).filter(|register| *register != 0x32) {
        // The eighth bit is not part of the number.
        assert_eq!(bench.read(0x80 | register), !register);
    }
    bench.write(0x0c, 0xff);
    bench.write(0x0d, 0x00);
    assert_eq!((bench.read(0x0c), bench.read(0x0d)), (0, 0x80));
    bench.write(0x0a, 0xff);
    assert_eq!(bench.read(0x0a), 0x7f);
}

#[test]
fn linux_sets_the_time() {
    let bench = Bench::new(0);
    let control = bench.read(0x0b);
    bench.write(0x0b, control | 0x80);
    let divider = bench.read(0x0a);
    bench.write(0x0a, divider | 0x70);
    for (register, value) in [
        (0x09, 0x24),
        (0x08, 0x02),
        (0x07, 0x29),
        (0x04, 0x23),
        (0x02, 0x59),
        (0x00, 0x58),
        (0x32, 0x20),
    ] {
        bench.write(register, value);
        bench.clock.pass(HZ);
    }
    let set = [0x20, 0x24, 0x02, 0x29];
    assert_eq!(bench.time()[..4], set);
    bench.write(0x0b, control);
    bench.clock.pass(100 * HZ);
    assert_eq!(bench.read(0), 0x58);
    bench.write(0x0a, divider);
    assert_eq!(
        bench.time(),
        [0x20, 0x24, 0x02, 0x29, 0x05, 0x23, 0x59, 0x58]
    );
    bench.clock.pass(2 * HZ);
    assert_eq!(bench.time()[..4], [0x20, 0x24, 0x03, 0x01]);
}

#[test]
fn a_part_of_the_time_can_be_set_while_it_runs() {
    let bench = Bench::new(LEAP);
    bench.clock.pass(HZ / 2);
    bench.write(0, 0x10);
    bench.write(4, 0x08);
    assert_eq!(bench.time()[5..], [0x08, 0x59, 0x10]);
    bench.clock.pass(HZ / 2);
    assert_eq!(bench.read(0), 0x11);
    // What does not exist becomes what does.
    bench.write(8, 0x99);
    assert_eq!(bench.time()[..4], [0x20, 0x24, 0x12, 0x29]);
    bench.write(7, 0x31);
    bench.write(8, 0x04);
    assert_eq!(bench.time()[..4], [0x20, 0x24, 0x04, 0x30]);
    bench.write(0x32, 0xff);
    assert_eq!(bench.read(0x32), 0x99);
    bench.write(0x32, 0);
    assert_eq!(bench.time()[..2], [0x19, 0x70]);
}

#[test]
fn periodic_interrupts_come_at_every_rate() {
    let rates = [
        (1, 256),
        (2, 128),
        (3, 8192),
        (4, 4096),
        (5, 2048),
        (6, 1024),
        (7, 512),
        (8, 256),
        (9, 128),
        (10, 64),
        (11, 32),
        (12, 16),
        (13, 8),
        (14, 4),
        (15, 2),
    ];
    for (rate, hz) in rates {
        let bench = Bench::new(0);
        bench.write(0x0a, 0x20 | rate);
        bench.write(0x0b, 0x42);
        assert_eq!(bench.events.take(), [Event::Notify(0)]);
        let interrupts = bench.interrupts(HZ);
        assert_eq!(interrupts.len(), hz, "{rate}");
        assert!(interrupts.iter().all(|(_, flags)| flags & 0xc0 == 0xc0));
    }
    let bench = Bench::new(0);
    bench.write(0x0a, 0x20);
    bench.write(0x0b, 0x42);
    assert_eq!(bench.rtc.deadline(), u64::MAX);
}

#[test]
fn update_interrupts_come_every_second() {
    let bench = Bench::new(0);
    bench.write(0x0a, 0x20);
    bench.clock.set(HZ / 3);
    bench.write(0x0b, 0x12);
    let expected: Vec<(u64, u8)> = (1..=5).map(|second| (second * HZ, 0x90)).collect();
    assert_eq!(bench.interrupts(5 * HZ), expected);
    // Setting the time ends them.
    bench.write(0x0b, 0x92);
    assert_eq!((bench.read(0x0b), bench.rtc.deadline()), (0x82, u64::MAX));
}

#[test]
fn alarms_come_when_they_fit() {
    // 23:59:58 first; the times are in seconds from there.
    for (hour, minute, second, expected) in [
        (0x23, 0x59, 0x59, [1, 86_401].as_slice()),
        (0x23, 0x59, 0x58, &[86_400]),
        (0xff, 0xff, 0xff, &[1, 2, 3, 4]),
        (0xc0, 0xff, 0x00, &[2, 62, 122]),
        (0xff, 0x30, 0x15, &[1817, 5417]),
        (0x07, 0xff, 0x59, &[25_261, 25_321]),
        (0x07, 0x00, 0x00, &[25_202, 111_602]),
        (0x24, 0x00, 0x00, &[]),
        (0x00, 0x60, 0x00, &[]),
        (0x00, 0x00, 0x7f, &[]),
    ] {
        let bench = Bench::new(LEAP);
        bench.write(0x0a, 0x20);
        bench.write(5, hour);
        bench.write(3, minute);
        bench.write(1, second);
        bench.write(0x0b, 0x22);
        let mut times = Vec::new();
        while times.len() < expected.len() {
            let now = bench.rtc.deadline();
            times.extend(bench.interrupts(now).iter().map(|(tick, _)| tick / HZ));
        }
        assert_eq!(times, expected, "{hour:#x}:{minute:#x}:{second:#x}");
        if expected.is_empty() {
            assert_eq!(bench.rtc.deadline(), u64::MAX);
        }
    }
}

#[test]
fn flags_show_without_interrupts() {
    let bench = Bench::new(0);
    assert_eq!(bench.rtc.deadline(), u64::MAX);
    bench.clock.pass(HZ / 1024 + 1);
    assert_eq!(bench.read(0x0c), 0x40);
    assert_eq!(bench.read(0x0c), 0);
    bench.clock.pass(HZ);
    assert_eq!(bench.read(0x0c), 0x50);
    // Enabled later: the flag is up already.
    bench.clock.pass(HZ);
    assert!(!bench.line());
    bench.write(0x0b, 0x12);
    assert!(bench.line());
    assert_eq!(bench.rtc.deadline(), u64::MAX);
    assert_eq!(bench.read(0x0c), 0xd0);
    assert!(!bench.line());
}

#[test]
fn ports_answer_bytes() {
    let bench = Bench::new(0);
    for width in WIDTHS {
        let answers = width == AccessWidth::Byte;
        for port in [0x70, 0x71] {
            assert_eq!(bench.rtc.read(port, width).is_ok(), answers);
            assert_eq!(bench.rtc.write(port, width, 0).is_ok(), answers);
        }
        assert!(bench.rtc.read(0x72, width).is_err());
    }
    let rtc = Arc::new(bench.rtc);
    let devices = rtc.put_on(AxVmDevices::builder()).build().unwrap();
    assert!(devices.handle_port_read(0x71, AccessWidth::Byte).is_ok());
}

proptest! {
    /// Nothing panics, the line hears of changes only, and a deadline is in the future.
    #[test]
    fn nothing_breaks(steps in prop::collection::vec((0u8..5, any::<u8>(), any::<u8>(), any::<u64>()), 1..200)) {
        let bench = Bench::new(LEAP);
        for (what, register, value, time) in steps {
            match what {
                0 => { bench.read(register); }
                1 => bench.write(register, value),
                2 => bench.write(register % 16, value),
                3 => bench.clock.pass(time >> (30 + value % 32)),
                _ => {
                    let now = crate::Clock::now(&*bench.clock);
                    prop_assert!(bench.rtc.advance(now) > now);
                }
            }
        }
    }
}
