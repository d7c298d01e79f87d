//! How a RISC-V machine starts another hart and itself again.

use core::arch::asm;

use guests::arch::{HartStart, Machine, sbi};

static SECOND: HartStart = HartStart::new(main);

extern "C" fn main(_: usize, _: usize) -> ! {
    crate::race::second()
}

/// Whether there is a second hart, which then runs.
pub(crate) fn start_second(machine: &'static Machine) -> bool {
    let other = machine.harts().find(|&hart| hart != machine.hart);
    other.is_some_and(|hart| {
        sbi::hart_start(hart, HartStart::entry(), SECOND.opaque()).error == sbi::SUCCESS
    })
}

/// Starts the machine again.
pub(crate) fn reset() -> ! {
    /// The SBI's reset type.
    const COLD_REBOOT: usize = 1;
    sbi::system_reset(COLD_REBOOT, 0);
    stay()
}

/// The SBI's way to say that the system has failed.
pub(crate) fn fail() -> ! {
    sbi::power_off(guests::Exit::Failure)
}

fn stay() -> ! {
    loop {
        // SAFETY: waiting changes nothing.
        unsafe { asm!("wfi", options(nomem, nostack)) }
    }
}
