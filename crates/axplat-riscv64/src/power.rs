//! Harts come up and the machine goes down.

use core::{
    fmt::Display,
    sync::atomic::{AtomicBool, Ordering},
};

use axplat::{
    mem::{PhysAddr, phys_to_virt, va, virt_to_phys},
    power::PowerIf,
};

use crate::{boot, machine, machine::found::found};

/// Whether [`PowerIf::system_off`] reports success. A panic powers off too, so success has to be said.
static ALL_WELL: AtomicBool = AtomicBool::new(false);

/// From now on, powering off reports success to whoever runs the machine.
pub fn report_success() {
    ALL_WELL.store(true, Ordering::Relaxed);
}

/// Stops before ArceOS is up, with one line that says why.
pub(crate) fn stop(why: impl Display) -> ! {
    axplat::console_println!("axhv: {why}");
    axplat::power::system_off()
}

/// The exit status that a failed run has under an emulator.
const FAILURE_STATUS: u32 = 1;

/// The finisher's commands (SiFive test device): end the emulator with success, or with the status in the upper half.
const FINISH_PASS: u32 = 0x5555;
const FINISH_FAIL: u32 = 0x3333;

struct PowerIfImpl;

#[impl_plat_interface]
impl PowerIf for PowerIfImpl {
    /// Starts pCPU `cpu_id` on the stack that ends at `stack_top_paddr`.
    fn cpu_boot(cpu_id: usize, stack_top_paddr: usize) {
        let entry = virt_to_phys(va!(boot::start_secondary as *const () as usize));
        if let Some(hart) = machine().harts().get(cpu_id) {
            let started = sbi_rt::hart_start(hart.id, entry.as_usize(), stack_top_paddr);
            if started.is_err() {
                log::error!("hart {} does not start: {started:?}", hart.id);
            }
        }
    }

    /// Powers the machine off: by the test device where there is one, since it carries an exit status, else by the SBI.
    fn system_off() -> ! {
        let well = ALL_WELL.load(Ordering::Relaxed);
        if let Some(finisher) = found().and_then(|machine| machine.finisher) {
            let command = if well {
                FINISH_PASS
            } else {
                FINISH_FAIL | FAILURE_STATUS << 16
            };
            let register = phys_to_virt(PhysAddr::from_usize(finisher))
                .as_mut_ptr()
                .cast::<u32>();
            // SAFETY: the device tree names the test device there, and it is mapped; this write ends the machine.
            unsafe { register.write_volatile(command) };
            // It ends soon. The firmware must not be asked too: its word would come after ours, and without a status.
        } else if well {
            sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::NoReason);
        } else {
            sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::SystemFailure);
        }
        loop {
            axcpu::asm::halt();
        }
    }

    /// How many harts the device tree has, up to the most that one image serves.
    fn cpu_num() -> usize {
        machine().harts().len()
    }
}
