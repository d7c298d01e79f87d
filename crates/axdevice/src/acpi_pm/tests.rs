//! Tests of the power management registers.

use alloc::sync::Arc;

use axvcpu::{AccessWidth, LineLevel};
use proptest::prelude::*;

use super::{AcpiPm, TIMER_HZ, TimerWidth};
use crate::testing::{Lines, Power, TestClock, WIDTHS, any_width};
use crate::{AccessFault, Device};

const BYTE: AccessWidth = AccessWidth::Byte;
const WORD: AccessWidth = AccessWidth::Word;
const DWORD: AccessWidth = AccessWidth::Dword;

struct Bench {
    pm: AcpiPm,
    lines: Arc<Lines>,
    clock: Arc<TestClock>,
    power: Arc<Power>,
}

impl Bench {
    fn new(width: TimerWidth) -> Self {
        let lines = Lines::new();
        let clock = TestClock::new(TIMER_HZ);
        let power = Power::new();
        let pm = AcpiPm::new("pm", lines.wire(9), width, clock.clone(), power.clone());
        Self {
            pm,
            lines,
            clock,
            power,
        }
    }

    fn line(&self) -> LineLevel {
        self.lines.level(9)
    }
}

#[test]
fn the_timer_wraps_at_its_width() {
    for (width, mask) in [
        (TimerWidth::Bits24, 0xff_ffff),
        (TimerWidth::Bits32, 0xffff_ffff),
    ] {
        let bench = Bench::new(width);
        for now in [
            0,
            1,
            0xff_ffff,
            0x100_0000,
            0xffff_ffff,
            0x1_0000_0007,
            u64::MAX,
        ] {
            bench.clock.set(now);
            assert_eq!(bench.pm.read(8, DWORD), Ok(now & mask));
            assert_eq!(bench.pm.read(9, BYTE), Ok(now >> 8 & 0xff));
            assert_eq!(bench.pm.read(10, WORD), Ok((now & mask) >> 16));
        }
        bench.pm.write(8, DWORD, 0).unwrap();
        assert_eq!(bench.pm.read(8, DWORD), Ok(mask));
    }
}

#[test]
fn sleeping_in_s5_powers_off() {
    let bench = Bench::new(TimerWidth::Bits32);
    for kind in 0..8u64 {
        let control = kind << 10;
        bench.pm.write(4, WORD, control).unwrap();
        assert_eq!(bench.power.take(), (0, 0));
        assert_eq!(bench.pm.read(4, WORD), Ok(control | 1));
        bench.pm.write(4, WORD, control | 1 << 13).unwrap();
        let expected = u32::from(kind == u64::from(AcpiPm::S5_SLEEP_TYPE));
        assert_eq!(bench.power.take(), (expected, 0), "type {kind}");
        assert_eq!(bench.pm.read(4, WORD), Ok(control | 1));
    }
    // By bytes, too.
    bench.pm.write(5, BYTE, 0x34).unwrap();
    assert_eq!(bench.power.take(), (1, 0));
}

#[test]
fn the_power_button_interrupts_who_listens() {
    let bench = Bench::new(TimerWidth::Bits32);
    bench.pm.press_power_button();
    assert_eq!(bench.line(), LineLevel::Low);
    assert_eq!(bench.pm.read(0, WORD), Ok(0x100));
    bench.pm.write(2, WORD, 0x100).unwrap();
    assert_eq!(bench.line(), LineLevel::High);
    bench.pm.write(0, WORD, 0xfeff).unwrap();
    assert_eq!(bench.line(), LineLevel::High);
    bench.pm.write(0, WORD, 0x100).unwrap();
    assert_eq!(
        (bench.line(), bench.pm.read(0, WORD)),
        (LineLevel::Low, Ok(0))
    );
    bench.pm.press_power_button();
    bench.pm.press_power_button();
    assert_eq!(bench.line(), LineLevel::High);
    bench.pm.reset();
    assert_eq!(
        (bench.line(), bench.pm.read(0, DWORD)),
        (LineLevel::Low, Ok(0))
    );
}

#[test]
fn what_exists_is_kept() {
    let bench = Bench::new(TimerWidth::Bits24);
    bench.pm.write(0, DWORD, 0xffff_ffff).unwrap();
    assert_eq!(bench.pm.read(0, DWORD), Ok(0x0721_0000));
    assert_eq!(bench.pm.read(3, BYTE), Ok(0x07));
    bench.pm.write(4, DWORD, 0xffff_dfff).unwrap();
    assert_eq!(bench.pm.read(4, DWORD), Ok(0x1c03));
    for offset in 0..12 {
        for width in WIDTHS {
            let answers = offset % 4 + width.bytes() as u64 <= 4;
            assert_eq!(bench.pm.read(offset, width).is_ok(), answers);
            let written = bench.pm.write(offset, width, 0);
            assert_eq!(written == Err(AccessFault), !answers);
        }
    }
}

proptest! {
    /// Nothing panics, and the line is high if and only if an enabled status is set.
    #[test]
    fn nothing_breaks(steps in prop::collection::vec((0u8..3, 0u64..12, any_width(), any::<u64>()), 1..100)) {
        let bench = Bench::new(TimerWidth::Bits32);
        for (what, offset, width, value) in steps {
            match what {
                0 => { let _ = bench.pm.read(offset, width); }
                1 => { let _ = bench.pm.write(offset, width, value & width.mask()); }
                _ => bench.pm.press_power_button(),
            }
            let event = bench.pm.read(0, DWORD).unwrap();
            let expected = event & event >> 16 & 0xffff != 0;
            prop_assert_eq!(bench.line() == LineLevel::High, expected);
        }
    }
}
