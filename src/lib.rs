//! AxHV: a partitioning hypervisor as an ArceOS component.
//!
//! [`run`] is the whole of it, from the bundle that the bootloader handed over to the machine's power-off: every VM config becomes an `AxVM`, every vCPU a task that
//! is pinned to a pCPU, and pCPU 0 keeps house. The virtual machines themselves are in the crates under `crates/`, which know no operating
//! system; what is here puts them on ArceOS.

#![cfg_attr(target_os = "none", no_std)]
#![cfg(target_os = "none")]

extern crate alloc;

mod arch;
mod bundle;
mod host;
mod housekeeping;
mod life;
mod manager;
mod park;
mod passed;
mod vcpu_task;

use alloc::{format, string::ToString, sync::Arc};

use axvmconfig::{ConfigError, MachineLimits, NotStarted, Starter, VmConfig, start_all};

use crate::{
    host::RunResult,
    housekeeping::Housekeeping,
    manager::{Images, Manager},
};

/// What the hypervisor keeps of the free RAM: for its heap, its tasks' stacks and the nested tables.
const OWN_BYTES: u64 = 16 << 20;

/// Runs every VM of the bundle until the last has ended, then powers the machine off.
pub fn run() -> ! {
    host::pin_current(housekeeping::PCPU);
    let _held = host::hold_pcpu();
    park::init();
    passed::init();
    let mut house = Housekeeping::new();
    let result = run_vms(&mut house);
    house.finish();
    host::power_off(result)
}

fn run_vms(house: &mut Housekeeping) -> RunResult {
    let machine = match arch::describe_machine(house) {
        Ok(machine) => machine,
        Err(why) => {
            house.error(&format!("this machine cannot run guests: {why}"));
            return RunResult::Failed;
        }
    };
    let machine = Arc::new(machine);
    let limits = MachineLimits {
        pcpus: machine.pcpus,
        ram_bytes: host::free_ram_bytes().saturating_sub(OWN_BYTES),
        guest_phys_bits: machine.nested_mode.gpa_bits(),
        devices: Some(arch::describe_devices()),
    };
    house.note(&format!(
        "AxHV {}: {} pCPU{}, {} MiB of free RAM, {}",
        env!("CARGO_PKG_VERSION"),
        machine.pcpus,
        if machine.pcpus == 1 { "" } else { "s" },
        limits.ram_bytes >> 20,
        machine.nested_mode.name(),
    ));
    match arch::unused_cpus() {
        0 => {}
        1 => house.note(&format!(
            "1 more CPU stays off: one image serves {}",
            machine.pcpus
        )),
        unused => house.note(&format!(
            "{unused} more CPUs stay off: one image serves {}",
            machine.pcpus
        )),
    }
    let plan = match bundle::plan() {
        Ok(plan) => plan,
        Err(error) => {
            house.error(&error);
            return RunResult::Failed;
        }
    };
    for error in &plan.errors {
        house.error(error);
    }
    let alone = host::own_memory();
    let mut start = Start {
        manager: Manager::new(machine, Images::new(plan.bundle)),
        house,
        failed: 0,
    };
    let refused = start_all(plan.configs, &limits, &mut start);
    let all_start = plan.errors.len() + refused + start.failed == 0;
    let Start {
        mut manager, house, ..
    } = start;
    note_memory(house, &alone, &manager);
    if manager.count() == 0 {
        house.note("no VM runs: powering off");
    }
    let ended = house.keep(&mut manager);
    if all_start { ended } else { RunResult::Failed }
}

/// The start of the VMs.
struct Start<'a> {
    manager: Manager,
    house: &'a mut Housekeeping,
    /// How many could not start.
    failed: usize,
}

impl Starter for Start<'_> {
    fn start(&mut self, config: &VmConfig) -> Result<(), NotStarted> {
        self.manager
            .start(config.clone(), self.house)
            .map_err(|error| {
                self.house.error(&error);
                self.failed += 1;
                NotStarted
            })
    }

    fn refuse(&mut self, why: &ConfigError) {
        self.house.error(&why.to_string());
    }
}

/// Says what memory is not the VMs': the image, what is allocated without VMs, and what they take besides their RAM.
fn note_memory(house: &Housekeeping, alone: &host::OwnMemory, manager: &Manager) {
    let now = host::own_memory();
    let for_vms = (now.heap_bytes + now.frame_bytes)
        .saturating_sub(alone.heap_bytes + alone.frame_bytes + manager.ram_bytes());
    house.note(&format!(
        "memory beside the VMs' RAM: {} KiB of image, {} KiB allocated before them, {} KiB for them",
        now.image_bytes >> 10,
        (alone.heap_bytes + alone.frame_bytes) >> 10,
        for_vms >> 10,
    ));
}
