//! The VMs, from config to end. How one lives and starts again is its [life](crate::life).

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};

use axconsole::VmPort;
use axvm::{AxVMConfig, Homes, ImageSource, Machine, VmErrorCause};
use axvmconfig::{Bundle, VCpuPlacement, VmConfig};

use crate::{
    arch::MachineInfo,
    host::{self, RunResult},
    housekeeping::{self, Housekeeping},
    life::{Life, News, Then, Vm},
    passed::MachineDevices,
    vcpu_task,
};

/// The bundle's files, as images.
pub(crate) struct Images(Bundle<'static>);

impl Images {
    pub(crate) fn new(bundle: Bundle<'static>) -> Arc<Self> {
        Arc::new(Self(bundle))
    }
}

impl ImageSource for Images {
    fn open(&self, path: &str) -> Option<&[u8]> {
        self.0.file(path)
    }
}

/// A VM, and how far it has come.
enum Entry {
    /// Its end, if it has come, has not been reported.
    Running(Arc<Life>),
    /// It has ended. The tasks of its vCPUs may not have.
    Leaving(Arc<Life>),
    /// Nothing of it is left.
    Gone,
}

impl Entry {
    fn running(&self) -> Option<&Arc<Life>> {
        match self {
            Self::Running(life) => Some(life),
            Self::Leaving(_) | Self::Gone => None,
        }
    }

    /// The life that nobody but this entry knows of any more.
    fn take_left(&mut self) -> Option<Life> {
        let Self::Leaving(life) = self else {
            return None;
        };
        // Nobody makes a second one of the only one, so this cannot fail after the question.
        Arc::get_mut(life)?;
        match core::mem::replace(self, Self::Gone) {
            Self::Leaving(life) => Arc::into_inner(life),
            Self::Running(_) | Self::Gone => None,
        }
    }
}

/// The registry of VMs.
pub(crate) struct Manager {
    machine: Arc<Machine<MachineInfo>>,
    images: Arc<Images>,
    vms: Vec<Entry>,
    homes: Homes,
    all_well: bool,
}

impl Manager {
    pub(crate) fn new(machine: Arc<Machine<MachineInfo>>, images: Arc<Images>) -> Self {
        let homes = Homes::new(machine.pcpus);
        Self {
            machine,
            images,
            vms: Vec::new(),
            homes,
            all_well: true,
        }
    }

    /// Makes a VM and starts it.
    ///
    /// # Errors
    /// It does not start, for this reason; it has taken nothing.
    pub(crate) fn start(
        &mut self,
        mut config: VmConfig,
        house: &mut Housekeeping,
    ) -> Result<(), String> {
        let mut homes = self.homes.clone();
        homes.settle(&mut config.vcpus);
        let port = VmPort::new(housekeeping::show);
        let vm = Vm::new(AxVMConfig {
            vm: config,
            machine: self.machine.clone(),
            images: self.images.clone(),
            console: port.clone(),
            host: Arc::new(MachineDevices),
        })
        .and_then(|vm| vm.boot().map(|()| vm))
        .map_err(|error| match &error.cause {
            // It names file, line and key, which says more than the VM's name.
            VmErrorCause::Config(config) => config.to_string(),
            _ => error.to_string(),
        })?;
        self.homes = homes;
        house.add_vm(vm.name(), port);
        house.note(&describe(&vm));
        for device in &vm.config().vm.passed {
            house.note(&format!("VM {:?} has {device}", vm.name()));
        }
        let life = Life::new(vm);
        self.vms.push(Entry::Running(life.clone()));
        vcpu_task::spawn_all(&life);
        Ok(())
    }

    /// How each VM is that runs, and what memory the hypervisor takes.
    pub(crate) fn status(&self) -> Vec<String> {
        let now = host::own_memory();
        let mut lines = Vec::new();
        for life in self.vms.iter().filter_map(Entry::running) {
            life.tell_status(&mut lines);
        }
        lines.push(format!(
            "memory in use: {} KiB of image, {} KiB of heap, {} KiB that VMs hold, RAM and nested tables",
            now.image_bytes >> 10,
            now.heap_bytes >> 10,
            now.frame_bytes >> 10,
        ));
        lines
    }

    /// The RAM of all VMs, as far as it is filled.
    pub(crate) fn ram_bytes(&self) -> u64 {
        let vms = self.vms.iter().filter_map(Entry::running);
        vms.map(|life| life.vm().memory_usage().ram_bytes).sum()
    }

    /// The VM that was started as number `index`.
    pub(crate) fn vm(&self, index: usize) -> Option<&Vm> {
        let life = self.vms.get(index)?.running()?;
        Some(life.vm())
    }

    /// How many VMs were started.
    pub(crate) fn count(&self) -> usize {
        self.vms.len()
    }

    /// What happened to the VM that was started as number `index` since this was asked last.
    pub(crate) fn take_news(&mut self, index: usize) -> Option<News> {
        let entry = self.vms.get_mut(index)?;
        if let Some(life) = entry.take_left() {
            return Some(News {
                lines: vec![free(life)],
                then: Then::Runs,
            });
        }
        let life = entry.running()?;
        let news = life.take_news()?;
        match news.then {
            Then::Runs => {}
            Then::Over(result) => {
                self.all_well &= result == RunResult::AllWell;
                *entry = Entry::Leaving(life.clone());
            }
        }
        Some(news)
    }

    /// When there is news to [take](Self::take_news) that is not to be taken before.
    pub(crate) fn news_due(&self) -> Option<u64> {
        let lives = self.vms.iter().filter_map(Entry::running);
        lives.filter_map(|life| life.news_due()).min()
    }

    /// Whether no VM runs any more.
    pub(crate) fn all_ended(&self) -> bool {
        self.vms.iter().all(|entry| entry.running().is_none())
    }

    /// How it went.
    pub(crate) fn result(&self) -> RunResult {
        if self.all_well && !self.vms.is_empty() {
            RunResult::AllWell
        } else {
            RunResult::Failed
        }
    }
}

/// Gives the memory of a VM, which no task runs any more, back to the host; says how much that was. The pCPUs forget its nested translations
/// first, so that they are out of their guests for a moment.
fn free(life: Life) -> String {
    let name = String::from(life.vm().name());
    let held = || host::own_memory().frame_bytes;
    let before = held();
    drop(life);
    let freed = before.saturating_sub(held());
    format!("VM {name:?} gave {} KiB back", freed >> 10)
}

fn describe(vm: &Vm) -> String {
    let usage = vm.memory_usage();
    let mut homes: Vec<usize> = vm.config().vm.vcpus.iter().map(home).collect();
    let vcpus = homes.len();
    // Several may share one.
    homes.sort_unstable();
    homes.dedup();
    let pcpus: Vec<_> = homes.iter().map(ToString::to_string).collect();
    let plural = |count| if count == 1 { "" } else { "s" };
    format!(
        "VM {:?} starts: {vcpus} vCPU{} on pCPU{} {}, {} MiB of RAM, {} KiB of tables",
        vm.name(),
        plural(vcpus),
        plural(pcpus.len()),
        pcpus.join(", "),
        usage.ram_bytes >> 20,
        usage.table_bytes >> 10,
    )
}

/// The pCPU on which a vCPU's task lives, once the manager has chosen it.
pub(crate) fn home(placement: &VCpuPlacement) -> usize {
    placement.pcpus.iter().next().unwrap_or(housekeeping::PCPU)
}
