//! How tasks wait.
//!
//! A waiting task stays in the scheduler's queue and sleeps by itself: with interrupts off it looks once more whether there is reason to wake,
//! and then waits for an interrupt. Whoever makes a reason stores it first and then [kicks](Host::kick) the pCPU, so a reason that comes
//! too late for the look interrupts the sleep. No wake-up is lost, with the scheduler's tick or without it.
//!
//! On a pCPU that several tasks share, the one that sleeps must not sleep over another's reason: it gives way to each of them first, and does
//! not sleep if an interrupt was served since it began to.
//!
//! There an interrupt ends the turn of whoever runs, since it may be another's reason, but no turn before it has lasted a while: guests choose when
//! their timers and devices interrupt, and one that always does so as soon as it sleeps would leave the others no time to get anywhere.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axvcpu::AxVCpuHal;

use crate::host::{self, Host, VmTimer};

/// How long a turn lasts at the least, if whoever has it can use it: some ten times what it takes to begin one.
const SHORTEST_TURN_MICROS: u64 = 100;

/// What the tasks of one pCPU know of one another.
struct Pcpu {
    /// How many of AxHV's tasks live here.
    tasks: AtomicUsize,
    /// How many of them have something to do.
    active: AtomicUsize,
    /// How many interrupts the host has served here.
    interrupts: AtomicUsize,
    /// How many of them when a task gave way last.
    at_last_turn: AtomicUsize,
    /// When that was.
    turn_began: AtomicU64,
    /// Ends a turn that was too short when an interrupt came.
    turn_timer: VmTimer,
    /// Whether the pCPU knows of that.
    has_timer: AtomicBool,
}

const MAX_PCPUS: usize = axvcpu::MAX_CPUS;

static PCPUS: [Pcpu; MAX_PCPUS] = [const {
    Pcpu {
        tasks: AtomicUsize::new(0),
        active: AtomicUsize::new(0),
        interrupts: AtomicUsize::new(0),
        at_last_turn: AtomicUsize::new(0),
        turn_began: AtomicU64::new(0),
        turn_timer: VmTimer::new(|_| (), 0),
        has_timer: AtomicBool::new(false),
    }
}; MAX_PCPUS];

/// Counts interrupts from now on. Once, before the first task waits.
pub(crate) fn init() {
    host::on_every_interrupt(|_| {
        if let Some(pcpu) = PCPUS.get(Host::this_pcpu()) {
            pcpu.interrupts.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// A task's place on the pCPU that it never leaves. Ends when dropped.
pub(crate) struct Place {
    pcpu: &'static Pcpu,
}

impl Place {
    /// The calling task lives on the current pCPU from now on.
    pub(crate) fn take() -> Self {
        Self::on(Host::this_pcpu())
    }

    /// The place of a task that is about to be started on `pcpu`. It counts from now on, for it runs only if those that live there give way to
    /// it.
    pub(crate) fn on(pcpu: usize) -> Self {
        // There is no pCPU past the last.
        let pcpu = &PCPUS[pcpu % MAX_PCPUS];
        pcpu.tasks.fetch_add(1, Ordering::Relaxed);
        pcpu.active.fetch_add(1, Ordering::Relaxed);
        Self { pcpu }
    }

    /// Waits until `awake`. If that depends on the time, the caller's timer must interrupt this pCPU.
    pub(crate) fn park_until(&self, awake: impl Fn() -> bool) {
        // Whoever need not wait would otherwise keep the pCPU for as long as that is so.
        if is_turn_over() {
            give_way();
        }
        let Pcpu {
            active, interrupts, ..
        } = self.pcpu;
        active.fetch_sub(1, Ordering::Relaxed);
        loop {
            let served = interrupts.load(Ordering::Relaxed);
            if awake() {
                break;
            }
            give_way();
            host::wait_for_interrupt_unless(|| {
                awake()
                    || active.load(Ordering::Relaxed) > 0
                    || interrupts.load(Ordering::Relaxed) != served
            });
        }
        active.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pcpu.tasks.fetch_sub(1, Ordering::Relaxed);
        self.pcpu.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets the other tasks of a shared pCPU look whether they have reason to wake; on a pCPU that one task owns, it costs a load.
pub(crate) fn give_way() {
    if let Some(pcpu) = this_shared() {
        let served = pcpu.interrupts.load(Ordering::Relaxed);
        pcpu.at_last_turn.store(served, Ordering::Relaxed);
        pcpu.turn_began.store(Host::now(), Ordering::Relaxed);
        host::yield_now();
    }
}

/// Whether several tasks live on this pCPU.
pub(crate) fn is_shared() -> bool {
    this_shared().is_some()
}

/// Whether several tasks live on this pCPU and an interrupt was served since one of them gave way, which may have been the scheduler's tick, or have
/// woken another task. No interrupt puts a task of ours aside, so they ask. Before the turn has lasted long enough it is not over; another interrupt
/// ends it then.
pub(crate) fn is_turn_over() -> bool {
    this_shared().is_some_and(Pcpu::is_turn_over)
}

impl Pcpu {
    fn is_turn_over(&'static self) -> bool {
        if self.interrupts.load(Ordering::Relaxed) == self.at_last_turn.load(Ordering::Relaxed) {
            return false;
        }
        let began = self.turn_began.load(Ordering::Relaxed);
        let end = began.saturating_add(host::ticks_of_micros(SHORTEST_TURN_MICROS));
        let is_over = Host::now() >= end;
        if !is_over {
            if !self.has_timer.swap(true, Ordering::Relaxed) {
                self.turn_timer.register();
            }
            self.turn_timer.arm(end);
        }
        is_over
    }
}

fn this_shared() -> Option<&'static Pcpu> {
    PCPUS
        .get(Host::this_pcpu())
        .filter(|pcpu| pcpu.tasks.load(Ordering::Relaxed) > 1)
}
