//! The timer, by its modes.

use proptest::prelude::*;

use super::*;
use crate::Timed;

const PERIODIC: u32 = 1 << 17;
const TSC_DEADLINE: u32 = 2 << 17;
const MSR: u32 = 0x6e0;
const RATIO: u64 = LocalApic::BUS_RATIO;

impl Bench {
    fn deadline(&self) -> u64 {
        self.apics[0].deadline()
    }

    /// Lets it be `now`, and vCPU 0 look at its timer; says whether there was an interrupt, and serves it.
    fn at(&self, now: u64) -> bool {
        self.clock.set(now);
        let next = self.apics[0].advance(now);
        assert_eq!(next, self.deadline());
        let came = self.acknowledge(0);
        if let Some(vector) = came {
            assert_eq!(vector, 0xec);
            self.write(0, EOI, 0);
        }
        came.is_some()
    }
}

/// The timer divides by 1, and interrupts.
fn bench(mode: u32) -> Bench {
    let bench = Bench::xapic(1);
    bench.write(0, LVT_TIMER, mode | 0xec);
    bench.write(0, DIVIDE, 0b1011);
    bench
}

#[test]
fn divisors() {
    for (bits, divisor) in [
        (0b0000, 2),
        (0b0001, 4),
        (0b0010, 8),
        (0b0011, 16),
        (0b1000, 32),
        (0b1001, 64),
        (0b1010, 128),
        (0b1011, 1),
    ] {
        let bench = bench(0);
        bench.clock.set(1000);
        bench.write(0, DIVIDE, bits);
        bench.write(0, INITIAL_COUNT, 10);
        assert_eq!(bench.deadline(), 1000 + 10 * RATIO * divisor);
        for count in (1..=10).rev() {
            assert_eq!(bench.read(0, CURRENT_COUNT), count);
            bench.clock.pass(RATIO * divisor);
        }
        assert_eq!(bench.read(0, CURRENT_COUNT), 0);
    }
}

#[test]
fn one_shot_expires_once() {
    let bench = bench(0);
    assert_eq!(bench.deadline(), u64::MAX);
    bench.write(0, INITIAL_COUNT, 100);
    assert!(!bench.at(100 * RATIO - 1));
    assert_eq!(bench.read(0, CURRENT_COUNT), 1);
    assert!(bench.at(100 * RATIO));
    assert_eq!(bench.deadline(), u64::MAX);
    assert_eq!(bench.read(0, CURRENT_COUNT), 0);
    assert_eq!(bench.read(0, INITIAL_COUNT), 100);
    assert!(!bench.at(u64::MAX));
    bench.clock.set(0);
    bench.write(0, INITIAL_COUNT, 100);
    bench.write(0, INITIAL_COUNT, 0);
    assert_eq!(
        (bench.deadline(), bench.read(0, CURRENT_COUNT)),
        (u64::MAX, 0)
    );
}

#[test]
fn periodic_goes_on_and_missed_periods_are_one() {
    let bench = bench(PERIODIC);
    let period = 1_000_000 * RATIO;
    bench.write(0, INITIAL_COUNT, 1_000_000);
    assert!(bench.at(period));
    assert_eq!(bench.deadline(), 2 * period);
    assert!(bench.at(5 * period + 3));
    assert!(!bench.at(5 * period + 4));
    assert_eq!(bench.deadline(), 6 * period);
    // Expired, and nobody came by yet: it counts on.
    bench.clock.set(6 * period + 16 * RATIO);
    assert_eq!(bench.read(0, CURRENT_COUNT), 1_000_000 - 16);
    bench.write(0, INITIAL_COUNT, 0);
    assert_eq!(bench.deadline(), u64::MAX);
}

#[test]
fn a_short_period_leaves_time_for_the_guest() {
    let bench = bench(PERIODIC);
    bench.write(0, INITIAL_COUNT, 1);
    assert_eq!(bench.deadline(), HZ / 10_000);
    assert!(bench.at(HZ / 10_000));
    assert_eq!(bench.deadline(), 2 * HZ / 10_000);
    assert!(bench.read(0, CURRENT_COUNT) <= 1);
}

#[test]
fn a_deadline_is_a_time() {
    let bench = bench(TSC_DEADLINE);
    let apic = &bench.apics[0];
    assert_eq!(apic.read_msr(MSR), Ok(0));
    apic.write_msr(MSR, 5000).unwrap();
    assert_eq!((apic.read_msr(MSR), bench.deadline()), (Ok(5000), 5000));
    assert_eq!(bench.read(0, CURRENT_COUNT), 0);
    bench.write(0, INITIAL_COUNT, 7);
    assert_eq!((bench.read(0, INITIAL_COUNT), bench.deadline()), (0, 5000));
    assert!(!bench.at(4999));
    assert!(bench.at(5000));
    assert_eq!((apic.read_msr(MSR), bench.deadline()), (Ok(0), u64::MAX));
    // In the past: at once.
    apic.write_msr(MSR, 1).unwrap();
    assert!(bench.at(5001));
    apic.write_msr(MSR, 9000).unwrap();
    apic.write_msr(MSR, 0).unwrap();
    assert_eq!((apic.read_msr(MSR), bench.deadline()), (Ok(0), u64::MAX));
}

#[test]
fn a_masked_timer_counts_and_is_silent() {
    let bench = bench(1 << 16);
    bench.write(0, INITIAL_COUNT, 4);
    assert_eq!(bench.read(0, CURRENT_COUNT), 4);
    assert!(!bench.at(4 * RATIO));
    assert_eq!(bench.deadline(), u64::MAX);
}

#[test]
fn deadlines_and_counts_do_not_mix() {
    let bench = bench(0);
    bench.write(0, INITIAL_COUNT, 100);
    bench.apics[0].write_msr(MSR, 5).unwrap();
    assert_eq!(bench.apics[0].read_msr(MSR), Ok(0));
    assert_eq!(bench.deadline(), 100 * RATIO);
    // From one-shot to periodic the count goes on.
    bench.write(0, LVT_TIMER, PERIODIC | 0xec);
    assert_eq!(bench.deadline(), 100 * RATIO);
    bench.write(0, LVT_TIMER, TSC_DEADLINE | 0xec);
    assert_eq!(
        (bench.deadline(), bench.read(0, INITIAL_COUNT)),
        (u64::MAX, 0)
    );
    bench.apics[0].write_msr(MSR, 5).unwrap();
    bench.write(0, LVT_TIMER, 0xec);
    assert_eq!(bench.deadline(), u64::MAX);
}

#[test]
fn a_new_divisor_counts_on_from_where_the_count_is() {
    let bench = bench(0);
    bench.write(0, INITIAL_COUNT, 100);
    bench.clock.set(60 * RATIO);
    bench.write(0, DIVIDE, 0b0000);
    assert_eq!(bench.read(0, CURRENT_COUNT), 40);
    assert_eq!(bench.deadline(), 60 * RATIO + 40 * 2 * RATIO);
    bench.write(0, INITIAL_COUNT, 0);
    bench.write(0, DIVIDE, 0b1011);
    assert_eq!(bench.deadline(), u64::MAX);
}

proptest! {
    /// Whenever somebody looks, the count is what is left, and never more than it was.
    #[test]
    fn the_count_only_falls(initial in 1u32.., divide in 0u32..16, steps in prop::collection::vec(0u64..1 << 36, 1..20)) {
        let bench = bench(0);
        bench.write(0, DIVIDE, divide);
        bench.write(0, INITIAL_COUNT, initial);
        let mut last = initial;
        for step in steps {
            bench.clock.pass(step);
            let count = bench.read(0, CURRENT_COUNT);
            prop_assert!(count <= last);
            prop_assert_eq!(count == 0, bench.deadline() <= crate::Clock::now(&*bench.clock));
            last = count;
        }
    }

    /// Periodic interrupts come as often as somebody looks in different periods.
    #[test]
    fn one_interrupt_a_period(initial in 1_000_000u32..2_000_000, steps in prop::collection::vec(1u64..1 << 27, 1..50)) {
        let bench = bench(PERIODIC);
        bench.write(0, INITIAL_COUNT, initial);
        let period = u64::from(initial) * RATIO;
        let mut now = 0;
        for step in steps {
            let before = now / period;
            now += step;
            prop_assert_eq!(bench.at(now), now / period != before);
            prop_assert_eq!(bench.deadline(), (now / period + 1) * period);
        }
    }
}
