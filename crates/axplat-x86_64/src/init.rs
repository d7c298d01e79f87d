//! The order in which the platform comes up.

use axplat::init::InitIf;

use crate::{console, irq, lapic, machine, mem, paging, timer, traps};

struct InitIfImpl;

#[impl_plat_interface]
impl InitIf for InitIfImpl {
    /// First on the boot CPU: traps, the console, the machine, its clock, its memory.
    fn init_early(_cpu_id: usize, boot_info: usize) {
        console::init();
        traps::init_current();
        machine::init(boot_info);
        timer::init();
        mem::init();
        paging::init();
        irq::init();
    }

    /// First on every other CPU.
    fn init_early_secondary(_cpu_id: usize) {
        traps::init_current();
    }

    /// On the boot CPU, once memory is managed.
    fn init_later(_cpu_id: usize, _arg: usize) {
        init_later_on_any();
        timer::start_tick();
    }

    /// On every other CPU, once memory is managed.
    fn init_later_secondary(_cpu_id: usize) {
        init_later_on_any();
    }
}

fn init_later_on_any() {
    // ArceOS may have turned to a table of its own.
    paging::load();
    lapic::enable_current(machine().nmi_inputs);
    timer::enable_current();
    irq::init_current();
}
