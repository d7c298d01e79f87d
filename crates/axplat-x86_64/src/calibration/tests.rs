//! The measurement on a machine made up, whose time passes when a counter is read.

use core::cell::Cell;

use super::*;

const TSC_HZ: u64 = 2_500_000_000;
const APIC_HZ: u64 = 1_000_000_000;

/// Nanoseconds that have passed, and what each reading costs.
struct World {
    now: Cell<u64>,
    reads: Cell<u64>,
    cost: fn(u64) -> u64,
}

impl World {
    fn new(cost: fn(u64) -> u64) -> Self {
        Self {
            now: Cell::new(5_000),
            reads: Cell::new(0),
            cost,
        }
    }

    fn ticks(&self, hz: u64) -> u64 {
        let read = self.reads.get();
        self.reads.set(read + 1);
        self.now.set(self.now.get() + (self.cost)(read));
        (u128::from(self.now.get()) * u128::from(hz) / 1_000_000_000) as u64
    }
}

impl Subjects for &World {
    fn start(&mut self) {}

    fn tsc(&mut self) -> u64 {
        self.ticks(TSC_HZ)
    }

    fn apic_timer(&mut self) -> u64 {
        self.ticks(APIC_HZ)
    }
}

struct PmTimer<'w> {
    world: &'w World,
    start: u64,
    limit: u64,
}

impl Reference for PmTimer<'_> {
    const HZ: u64 = 3_579_545;

    fn start(&mut self) {
        self.start = self.world.ticks(Self::HZ);
    }

    fn elapsed(&mut self) -> Option<u64> {
        let ticks = self.world.ticks(Self::HZ) - self.start;
        (ticks <= self.limit).then_some(ticks)
    }
}

fn measured(cost: fn(u64) -> u64, limit: u64) -> Option<Rates> {
    let world = World::new(cost);
    let mut reference = PmTimer {
        world: &world,
        start: 0,
        limit,
    };
    measure(&mut reference, &mut &world)
}

fn assert_near(rates: Rates, millionths: u64) {
    for (measured, truth) in [(rates.tsc_hz, TSC_HZ), (rates.apic_timer_hz, APIC_HZ)] {
        let error = measured.abs_diff(truth) * MILLION / truth;
        assert!(
            error <= millionths,
            "{measured} for {truth}: {error} millionths"
        );
    }
}

#[test]
fn a_quiet_machine_is_measured_well() {
    assert_near(measured(|_| 30, u64::MAX).unwrap(), 60);
    // Ports of a real machine.
    assert_near(measured(|_| 1_000, u64::MAX).unwrap(), 150);
}

#[test]
fn a_host_that_runs_something_else_now_and_then_does_no_harm() {
    // Every 37th reading takes 3 ms more.
    let cost = |read: u64| {
        if read.is_multiple_of(37) {
            3_000_000
        } else {
            200
        }
    };
    assert_near(measured(cost, u64::MAX).unwrap(), 100);
}

#[test]
fn a_reference_that_runs_out_is_started_again() {
    // As the 8254 does after 55 ms: the first window takes too long.
    let cost = |read: u64| if read == 60 { 80_000_000 } else { 500 };
    assert_near(measured(cost, 196_000).unwrap(), 150);
    assert_eq!(measured(|_| 90_000_000, 196_000), None);
}

#[test]
fn a_reference_that_stands_still_is_given_up() {
    assert_eq!(measured(|_| 0, u64::MAX), None);
}

#[test]
fn claims_count_where_they_can_be_true() {
    let measured = Some(Rates {
        tsc_hz: 2_499_900_000,
        apic_timer_hz: 24_001_000,
    });
    let true_claims = Claims {
        tsc_hz: Some(TSC_HZ),
        apic_timer_hz: Some(24_000_000),
    };
    let exact = Rates {
        tsc_hz: TSC_HZ,
        apic_timer_hz: 24_000_000,
    };
    assert_eq!(settle(true_claims, measured), Some(exact));
    // An emulator that runs at 200 MHz and shows the CPUID of a faster CPU.
    let false_claims = Claims {
        tsc_hz: Some(3_800_000_000),
        apic_timer_hz: None,
    };
    assert_eq!(settle(false_claims, measured), measured);
    assert_eq!(settle(Claims::default(), measured), measured);
    assert_eq!(settle(true_claims, None), Some(exact));
    assert_eq!(settle(false_claims, None), None);
}
