//! What a vCPU's time goes into: how often it left its guest and why, and how long it was in the guest and in the hypervisor.
//!
//! Counters, not log lines, tell what an exit path did, so they are always on and as cheap as can be: the vCPU's own pCPU alone writes, with plain
//! loads and stores, and anyone reads at any time without disturbing it.

use core::sync::atomic::{AtomicU64, Ordering};

/// The hypercall by which a guest asks for its own vCPU's account: a number in the range that the SBI leaves to experiments, "ACC" in its low bits.
/// On RISC-V it is an SBI extension.
pub const ACCOUNT_CALL: u64 = 0x0841_4343;

/// The most kinds of exit that an architecture tells apart.
pub const MAX_EXIT_KINDS: usize = 32;

/// The kinds of exit of an architecture, as [`exit_kinds!`](crate::exit_kinds) declares them.
pub trait ExitKinds: Copy {
    /// Their names in lists, by number.
    const NAMES: &'static [&'static str];

    /// The number: below [`MAX_EXIT_KINDS`].
    fn index(self) -> usize;
}

/// Declares an enum of an architecture's kinds of exit, each with its name in lists.
#[macro_export]
macro_rules! exit_kinds {
    ($(#[$kinds_doc:meta])* $visibility:vis enum $kinds:ident {
        $($(#[$doc:meta])* $kind:ident = $name:literal,)*
    }) => {
        $(#[$kinds_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $kinds {
            $($(#[$doc])* $kind,)*
        }

        impl $crate::ExitKinds for $kinds {
            const NAMES: &'static [&'static str] = &[$($name,)*];

            #[inline(always)]
            fn index(self) -> usize {
                self as usize
            }
        }

        const _: () = assert!(<$kinds as $crate::ExitKinds>::NAMES.len() <= $crate::MAX_EXIT_KINDS);
    };
}

/// A vCPU's account. Time is in ticks of [`AxVCpuHal::now`](crate::AxVCpuHal::now).
///
/// A vCPU that is bound to a pCPU is either in its guest or in the hypervisor. *In the hypervisor* is all from the exit to the entry, with the interrupts of
/// the host that are served in between, and what lies between an exit and the next time that the vCPU waits or gives way to others. *In the guest* is the rest;
/// a guest that waits in an untrapped `wfi` or `hlt` is in the guest. While the vCPU is bound to no pCPU no time passes for it.
///
/// Both clocks hold what has passed; while one runs, less the time at which it was started. So starting and stopping are one addition each, and
/// who reads one knows by its sign whether it runs: the host's counter was at zero before there were vCPUs, and does not reach 2⁶³.
#[repr(C)]
#[derive(Debug)]
pub struct Account {
    hypervisor: AtomicU64,
    bound: AtomicU64,
    exits: [AtomicU64; MAX_EXIT_KINDS],
    names: &'static [&'static str],
}

/// What an [`Account`] held at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Ticks in the guest.
    pub guest_ticks: u64,
    /// Ticks in the hypervisor.
    pub hypervisor_ticks: u64,
    exits: [u64; MAX_EXIT_KINDS],
    names: &'static [&'static str],
}

impl Account {
    /// Where entry assembly finds the clock of the time in the hypervisor, of 64 bits: it adds the time at an entry, and takes off that at an exit.
    pub const HYPERVISOR_CLOCK: usize = core::mem::offset_of!(Self, hypervisor);

    /// An account of nothing yet, with these kinds of exit.
    #[must_use]
    pub const fn new<K: ExitKinds>() -> Self {
        Self {
            hypervisor: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            exits: [const { AtomicU64::new(0) }; MAX_EXIT_KINDS],
            names: K::NAMES,
        }
    }

    /// One more exit of `kind`.
    #[inline(always)]
    pub fn count<K: ExitKinds>(&self, kind: K) {
        // The remainder is the number itself, and no check remains.
        let exits = &self.exits[kind.index() % MAX_EXIT_KINDS];
        exits.store(
            exits.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// How often `kind` happened.
    #[must_use]
    pub fn exits_of<K: ExitKinds>(&self, kind: K) -> u64 {
        self.exits[kind.index() % MAX_EXIT_KINDS].load(Ordering::Relaxed)
    }

    /// The vCPU was bound to a pCPU, in the hypervisor.
    #[inline]
    pub fn bound(&self, now: u64) {
        start(&self.bound, now);
        start(&self.hypervisor, now);
    }

    /// The vCPU is no longer bound, and is not in its guest.
    #[inline]
    pub fn unbound(&self, now: u64) {
        stop(&self.hypervisor, now);
        stop(&self.bound, now);
    }

    /// The guest is entered.
    #[inline(always)]
    pub fn entering(&self, now: u64) {
        stop(&self.hypervisor, now);
    }

    /// The guest was left.
    #[inline(always)]
    pub fn left(&self, now: u64) {
        start(&self.hypervisor, now);
    }

    /// What it holds at time `now`. Of a vCPU that runs meanwhile, the parts may be an exit apart.
    #[must_use]
    pub fn statement(&self, now: u64) -> Statement {
        let (bound, hypervisor) = (reading(&self.bound, now), reading(&self.hypervisor, now));
        Statement {
            guest_ticks: bound.saturating_sub(hypervisor),
            hypervisor_ticks: hypervisor,
            exits: core::array::from_fn(|kind| self.exits[kind].load(Ordering::Relaxed)),
            names: self.names,
        }
    }
}

impl Statement {
    /// Every kind of exit, by name, with its count.
    pub fn exits(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.names.iter().copied().zip(self.exits)
    }

    /// How many exits there were in all.
    #[must_use]
    pub fn exits_in_all(&self) -> u64 {
        self.exits
            .iter()
            .fold(0, |sum, &count| sum.wrapping_add(count))
    }
}

#[inline(always)]
fn start(clock: &AtomicU64, now: u64) {
    clock.store(
        clock.load(Ordering::Relaxed).wrapping_sub(now),
        Ordering::Relaxed,
    );
}

#[inline(always)]
fn stop(clock: &AtomicU64, now: u64) {
    clock.store(
        clock.load(Ordering::Relaxed).wrapping_add(now),
        Ordering::Relaxed,
    );
}

fn reading(clock: &AtomicU64, now: u64) -> u64 {
    let held = clock.load(Ordering::Relaxed);
    if (held as i64) < 0 {
        // A clock that was started after `now` was read has run for no time.
        let passed = held.wrapping_add(now);
        if (passed as i64) < 0 { 0 } else { passed }
    } else {
        held
    }
}

#[cfg(test)]
mod tests;
