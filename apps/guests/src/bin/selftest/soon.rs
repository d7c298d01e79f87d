//! Waiting for what other CPUs and devices do.

use guests::arch::Machine;
use guests::report::{Verdict, Words, holds};

/// The condition comes true within ten seconds, for the host may be loaded.
pub(crate) fn soon(machine: &Machine, what: &str, mut condition: impl FnMut() -> bool) -> Verdict {
    let timer = machine.timer();
    let limit = timer.now() + 10 * timer.ticks_per_second();
    while timer.now() < limit {
        if condition() {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    holds(
        what,
        condition(),
        Words("not within ten seconds"),
        Words("soon"),
    )
}
