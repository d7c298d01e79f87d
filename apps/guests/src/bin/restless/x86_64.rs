//! How a PC starts another CPU and itself again.

use core::arch::asm;

use guests::arch::{CpuStart, Machine};

static SECOND: CpuStart = CpuStart::new(main);

extern "C" fn main() -> ! {
    crate::race::second()
}

/// Whether there is a second CPU, which then runs.
pub(crate) fn start_second(machine: &'static Machine) -> bool {
    let other = machine.cpus().find(|&id| id != machine.apic_id);
    other.is_some_and(|id| {
        SECOND.launch(&machine.timer(), id);
        true
    })
}

/// Starts the machine again: where no gate is, the third fault shuts the processor down, and a PC resets.
pub(crate) fn reset() -> ! {
    let nothing = [0u8; 10];
    // SAFETY: nothing runs after this.
    unsafe { asm!("lidt [{}]", "int3", "2: jmp 2b", in(reg) nothing.as_ptr(), options(noreturn)) }
}

/// Has the processor look for page tables where there is nothing.
pub(crate) fn fail() -> ! {
    /// Between RAM and the devices.
    const NOTHING: usize = 0xd000_0000;
    // SAFETY: nothing runs after this.
    unsafe { asm!("mov cr3, {}", "2: jmp 2b", in(reg) NOTHING, options(noreturn)) }
}
