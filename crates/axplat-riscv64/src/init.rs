//! The order in which the platform comes up.

use axplat::init::InitIf;

use crate::{console, firmware, irq, machine::found, power, timer};

struct InitIfImpl;

#[impl_plat_interface]
impl InitIf for InitIfImpl {
    /// First on the boot hart: traps, the machine, its console, its clock.
    fn init_early(_cpu_id: usize, device_tree: usize) {
        axcpu::init::init_trap();
        found::init(device_tree);
        console::init();
        timer::init();
        let machine = found::machine();
        if let Some(missing) = machine.missing() {
            power::stop(missing);
        }
        if let Some(missing) = firmware::missing(machine) {
            power::stop(missing);
        }
        if machine.unused_harts > 0 {
            axplat::console_println!(
                "axhv: warning: {} of this machine's {} harts stay off: this image serves {}",
                machine.unused_harts,
                machine.unused_harts + machine.harts().len(),
                machine.harts().len(),
            );
        }
    }

    /// First on every other hart.
    fn init_early_secondary(_cpu_id: usize) {
        axcpu::init::init_trap();
    }

    /// On the boot hart, once memory is managed.
    fn init_later(_cpu_id: usize, _arg: usize) {
        irq::init_current();
        timer::init_current();
    }

    /// On every other hart, once memory is managed.
    fn init_later_secondary(_cpu_id: usize) {
        irq::init_current();
    }
}
