//! How fast the TSC and the local APIC's timer run.
//!
//! Both are measured against a counter whose frequency is fixed. A sample reads the counters between two readings of the TSC: the closer
//! these are, the less can have come between, be it a slow port or a host that ran something else. So each end of a window is the closest of several
//! samples, and of several windows the one with the closest ends counts. What CPUID claims is exact, and taken where the measurement
//! does not deny it: emulators pass on claims of the CPU that they imitate.

/// A counter of fixed frequency.
pub(crate) trait Reference {
    /// Ticks a second.
    const HZ: u64;

    /// Begins to count from zero.
    fn start(&mut self);

    /// Ticks since the start; `None` once it has counted as far as it can.
    fn elapsed(&mut self) -> Option<u64>;
}

/// The two counters to be measured, both counting up.
pub(crate) trait Subjects {
    /// Has the timer count anew: it may not count far.
    fn start(&mut self);
    fn tsc(&mut self) -> u64;
    fn apic_timer(&mut self) -> u64;
}

/// Frequencies in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) tsc_hz: u64,
    pub(crate) apic_timer_hz: u64,
}

/// What CPUID says of them, where it says something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claims {
    pub(crate) tsc_hz: Option<u64>,
    pub(crate) apic_timer_hz: Option<u64>,
}

/// All counters at one time.
#[derive(Clone, Copy)]
struct Sample {
    tsc: u64,
    /// Ticks of the TSC in which the other two were read.
    width: u64,
    reference: u64,
    apic_timer: u64,
}

const SAMPLES: usize = 16;
const WINDOWS: usize = 8;
const WINDOWS_PER_SEC: u64 = 50;
const MILLION: u64 = 1_000_000;
/// A window this good (in millionths) is the last one.
const GOOD_ENOUGH: u64 = 150;
/// A claim further than this (in millionths) from the measurement is not believed.
const TOLERANCE: u64 = 20_000;

/// Measures both counters; `None` if the reference does not run.
pub(crate) fn measure<R: Reference>(
    reference: &mut R,
    subjects: &mut impl Subjects,
) -> Option<Rates> {
    let mut best: Option<(Rates, u64)> = None;
    for _ in 0..WINDOWS {
        let Some((rates, error)) = window(reference, subjects) else {
            continue;
        };
        if best.is_none_or(|(_, least)| error < least) {
            best = Some((rates, error));
        }
        if error <= GOOD_ENOUGH {
            break;
        }
    }
    best.map(|(rates, _)| rates)
}

/// One measurement, and how wrong it may be in millionths.
fn window<R: Reference>(reference: &mut R, subjects: &mut impl Subjects) -> Option<(Rates, u64)> {
    /// A reference that shows the same so often stands still.
    const PATIENCE: u32 = 100_000;
    subjects.start();
    reference.start();
    let first = sample(reference, subjects)?;
    let full = first.reference + R::HZ / WINDOWS_PER_SEC;
    let (mut seen, mut unchanged) = (first.reference, 0);
    while seen < full {
        let now = reference.elapsed()?;
        unchanged = if now == seen { unchanged + 1 } else { 0 };
        if unchanged == PATIENCE {
            return None;
        }
        seen = now;
    }
    let last = sample(reference, subjects)?;
    let ticks = last.reference.checked_sub(first.reference)?;
    let tsc = last.tsc.checked_sub(first.tsc)?;
    let apic_timer = last.apic_timer.checked_sub(first.apic_timer)?;
    if ticks == 0 || tsc == 0 {
        return None;
    }
    let hz = |count: u64| (u128::from(count) * u128::from(R::HZ) / u128::from(ticks)) as u64;
    let rates = Rates {
        tsc_hz: hz(tsc),
        apic_timer_hz: hz(apic_timer),
    };
    let error = (first.width + last.width).saturating_mul(MILLION) / tsc + MILLION / ticks;
    Some((rates, error))
}

/// The closest of several samples.
fn sample<R: Reference>(reference: &mut R, subjects: &mut impl Subjects) -> Option<Sample> {
    let mut closest: Option<Sample> = None;
    for _ in 0..SAMPLES {
        let before = subjects.tsc();
        let (ticks, apic_timer) = (reference.elapsed()?, subjects.apic_timer());
        let width = subjects.tsc().saturating_sub(before);
        if closest.is_none_or(|least| width < least.width) {
            closest = Some(Sample {
                tsc: before + width / 2,
                width,
                reference: ticks,
                apic_timer,
            });
        }
    }
    closest
}

/// The claims where the measurement bears them out, else the measurement.
pub(crate) fn settle(claims: Claims, measured: Option<Rates>) -> Option<Rates> {
    let Some(measured) = measured else {
        return claims
            .tsc_hz
            .zip(claims.apic_timer_hz)
            .map(|(tsc_hz, apic_timer_hz)| Rates {
                tsc_hz,
                apic_timer_hz,
            });
    };
    let better = |claim: Option<u64>, measured: u64| {
        let near = |&claim: &u64| claim.abs_diff(measured) <= measured / MILLION * TOLERANCE;
        claim.filter(near).unwrap_or(measured)
    };
    let rates = Rates {
        tsc_hz: better(claims.tsc_hz, measured.tsc_hz),
        apic_timer_hz: better(claims.apic_timer_hz, measured.apic_timer_hz),
    };
    (rates.tsc_hz > 0 && rates.apic_timer_hz > 0).then_some(rates)
}

#[cfg(test)]
mod tests;
