//! The machine that this image runs on.

use axplat::mem::{PhysAddr, phys_to_virt};
use fdt::Fdt;
use spin::Once;

use super::{Machine, Unusable};
use crate::{boot, power};

static MACHINE: Once<Machine> = Once::new();

/// The machine.
///
/// # Panics
/// Before the device tree was read, which is the first thing that the platform does.
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("the device tree has not been read")
}

/// The machine, if it has been read.
pub(crate) fn found() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Reads the device tree at physical address `dtb`, or stops.
pub(crate) fn init(dtb: usize) {
    let tree = phys_to_virt(PhysAddr::from_usize(dtb)).as_ptr();
    // SAFETY: the firmware put a device tree there, the boot page table maps it, and nothing writes it: `read` reserves it.
    let tree = unsafe { Fdt::from_ptr(tree) }.map_err(|_| Unusable::NoDeviceTree);
    match tree.and_then(|tree| Machine::read(&tree, dtb, boot::boot_hart())) {
        Ok(machine) => {
            MACHINE.call_once(|| machine);
        }
        Err(why) => power::stop(why),
    }
}
