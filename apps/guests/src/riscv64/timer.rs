//! The supervisor timer: `stimecmp` where the Sstc extension is, the SBI elsewhere.

use crate::arch::context::{Context, Interrupts, Regs, interrupt};
use crate::arch::{csr, sbi};
use crate::heartbeat::Rest;
use crate::{code, write_csr};

/// The hart's timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// Whether the hart has `stimecmp`.
    pub sstc: bool,
    /// Of the `time` counter.
    pub(super) frequency: u64,
}

impl Timer {
    /// The same timer, requested by the SBI even where the hart has `stimecmp`.
    pub fn by_sbi(self) -> Self {
        Self {
            sstc: false,
            ..self
        }
    }

    /// Ticks of the clock in a second.
    pub fn ticks_per_second(&self) -> u64 {
        self.frequency
    }

    /// The time in ticks.
    pub fn now(&self) -> u64 {
        csr::time()
    }

    /// Requests the timer interrupt at `deadline` (`u64::MAX`: never), and clears a pending one.
    pub fn set(&self, deadline: u64) {
        if self.sstc {
            // SAFETY: `stimecmp` only decides when the timer interrupt is pending. It is named by
            // number because the target the guests are built for lacks the extension.
            unsafe { write_csr!("0x14d", deadline as usize) }
        } else {
            sbi::set_timer(deadline);
        }
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
        self.set(deadline);
        csr::enable_interrupts(csr::TIMER);
        let idle = match rest {
            Rest::Asleep => code!("1: wfi", "j 1b"),
            Rest::Awake => code!("1: j 1b"),
        };
        let trap = Context::new(&idle, Regs::ZERO)
            .interrupts(Interrupts::On)
            .run();
        let woken = self.now();
        assert!(
            trap.cause == interrupt::TIMER,
            "woken by {trap:?} instead of the timer"
        );
        woken
    }
}
