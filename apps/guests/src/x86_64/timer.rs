//! Time: the time stamp counter, and interrupts by the local APIC's timer.

use core::arch::asm;

use crate::arch::context::{Context, Interrupts, Regs};
use crate::arch::cpu::{self, Feature};
use crate::arch::lapic::register::{CURRENT_COUNT, DIVIDE, INITIAL_COUNT, LVT_TIMER};
use crate::arch::{lapic, msr, pit};
use crate::code;
use crate::heartbeat::Rest;

/// How an interrupt is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// By the value of the time stamp counter.
    Deadline,
    /// By a count that goes down once.
    Count,
}

/// The CPUs' timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// How its interrupt is requested.
    pub request: Request,
    /// Of the time stamp counter.
    frequency: u64,
    /// Of the local APIC's timer.
    count_frequency: u64,
}

impl Timer {
    /// The vector of its interrupt.
    pub const VECTOR: u8 = 0x40;

    /// Learns the frequencies, from CPUID or else by measuring. The APIC is on.
    pub(super) fn new() -> Self {
        let told = told_frequencies();
        let (frequency, count_frequency) = match told {
            (Some(counter), Some(count)) => (counter, count),
            (counter, count) => {
                let measured = measure();
                (counter.unwrap_or(measured.0), count.unwrap_or(measured.1))
            }
        };
        let request = if Feature::TscDeadline.is_there() {
            Request::Deadline
        } else {
            Request::Count
        };
        Self {
            request,
            frequency,
            count_frequency,
        }
    }

    /// The same timer, with its interrupt requested that way.
    pub fn by(self, request: Request) -> Self {
        Self { request, ..self }
    }

    /// Ticks of the clock in a second.
    pub fn ticks_per_second(&self) -> u64 {
        self.frequency
    }

    /// Counts of the local APIC's timer in a second.
    pub fn counts_per_second(&self) -> u64 {
        self.count_frequency
    }

    /// The time in ticks.
    pub fn now(&self) -> u64 {
        cpu::time_stamp()
    }

    /// Requests the timer interrupt at `deadline` (`u64::MAX`: never), or, if that is farther than
    /// the timer counts, before.
    pub fn set(&self, deadline: u64) {
        match self.request {
            Request::Deadline => {
                lapic::write(LVT_TIMER, lapic::DEADLINE | u32::from(Self::VECTOR));
                // 0 disarms.
                let value = if deadline == u64::MAX {
                    0
                } else {
                    deadline.max(1)
                };
                // SAFETY: only decides when an interrupt comes. The fence orders it behind the
                // write to the APIC's memory.
                unsafe {
                    asm!("mfence", options(nostack, preserves_flags));
                    msr::write(msr::TSC_DEADLINE, value);
                }
            }
            Request::Count => {
                lapic::write(DIVIDE, lapic::EVERY_TICK);
                lapic::write(LVT_TIMER, Self::VECTOR.into());
                let count = match deadline {
                    u64::MAX => 0,
                    _ => self.counts(deadline.saturating_sub(self.now())).max(1),
                };
                lapic::write(INITIAL_COUNT, count);
            }
        }
    }

    /// Requests no interrupt, in any way.
    pub fn stop(&self) {
        if Feature::TscDeadline.is_there() {
            self.by(Request::Deadline).set(u64::MAX);
        }
        self.by(Request::Count).set(u64::MAX);
        lapic::write(LVT_TIMER, lapic::MASKED);
    }

    /// As many counts as ticks, not less, but no more than the timer can count.
    pub fn counts(&self, ticks: u64) -> u32 {
        let counts = u128::from(ticks) * u128::from(self.count_frequency);
        let counts = counts.div_ceil(u128::from(self.frequency));
        counts.try_into().unwrap_or(u32::MAX)
    }

    /// Lets a number of ticks go by.
    pub fn spin(&self, ticks: u64) {
        let start = self.now();
        while self.now() - start < ticks {
            core::hint::spin_loop();
        }
    }

    /// Sleeps until the timer interrupt at `deadline` is taken; the time just after that.
    ///
    /// # Panics
    /// Something else wakes it.
    pub fn sleep_until(&self, deadline: u64) -> u64 {
        self.rest_until(deadline, Rest::Asleep)
    }

    /// Rests until the timer interrupt at `deadline` is taken; the time just after that.
    ///
    /// # Panics
    /// Another interrupt comes first.
    pub fn rest_until(&self, deadline: u64, rest: Rest) -> u64 {
        let idle = match rest {
            Rest::Asleep => code!("2: hlt", "jmp 2b"),
            Rest::Awake => code!("2: jmp 2b"),
        };
        loop {
            self.set(deadline);
            let trap = Context::new(&idle, Regs::ZERO)
                .interrupts(Interrupts::On)
                .run();
            let woken = self.now();
            assert!(
                trap.vector == Self::VECTOR.into(),
                "woken by {trap:?} instead of the timer"
            );
            lapic::end_of_interrupt();
            if woken >= deadline {
                return woken;
            }
        }
    }
}

/// The frequencies of the time stamp counter and of the APIC's timer, as far as CPUID tells them.
fn told_frequencies() -> (Option<u64>, Option<u64>) {
    const TIMING_LEAF: u32 = cpu::HYPERVISOR_LEAF + 0x10;
    let some = |frequency: u64| (frequency != 0).then_some(frequency);
    if cpu::hypervisor().is_some() && cpu::cpuid(cpu::HYPERVISOR_LEAF, 0).a >= TIMING_LEAF {
        let leaf = cpu::cpuid(TIMING_LEAF, 0);
        let [counter, bus] = [leaf.a, leaf.b].map(|khz| some(u64::from(khz) * 1000));
        if counter.is_some() {
            return (counter, bus);
        }
    }
    const CRYSTAL_LEAF: u32 = 0x15;
    if cpu::cpuid(0, 0).a >= CRYSTAL_LEAF {
        let leaf = cpu::cpuid(CRYSTAL_LEAF, 0);
        let [denominator, numerator, crystal] = [leaf.a, leaf.b, leaf.c].map(u64::from);
        let counter = (crystal * numerator).checked_div(denominator);
        return (counter.and_then(some), some(crystal));
    }
    (None, None)
}

/// Measures both against the PIT. A loaded host can only make a measurement too long, so the
/// shortest counts.
fn measure() -> (u64, u64) {
    const TICKS: u16 = (pit::FREQUENCY / 100) as u16;
    lapic::write(DIVIDE, lapic::EVERY_TICK);
    lapic::write(LVT_TIMER, lapic::MASKED);
    let once = || {
        lapic::write(INITIAL_COUNT, u32::MAX);
        let (start, first) = (cpu::time_stamp(), lapic::read(CURRENT_COUNT));
        pit::wait(TICKS);
        let (end, last) = (cpu::time_stamp(), lapic::read(CURRENT_COUNT));
        (end - start, u64::from(first.wrapping_sub(last)))
    };
    let shortest = (0..10).map(|_| once()).min();
    lapic::write(INITIAL_COUNT, 0);
    let (ticks, counts) = shortest.unwrap_or((0, 0));
    let per_second = |n: u64| (n * pit::FREQUENCY / u64::from(TICKS)).max(1);
    (per_second(ticks), per_second(counts))
}
