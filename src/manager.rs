//! The VMs, from config to end.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axconsole::VmPort;
use axvcpu::{AxVCpuHal, ResetCause, SystemDownKind};
use axvm::{AxVM, AxVMConfig, AxVMRef, Homes, ImageSource, Machine, Restarts, VmErrorCause};
use axvmconfig::{Bundle, VCpuPlacement, VmConfig};
use kspin::SpinNoIrq;

use crate::{
    arch::{MachineInfo, VCpu},
    host::{self, Host, RunResult},
    housekeeping::{self, Housekeeping},
    passed::MachineDevices,
    vcpu_task,
};

/// How long a VM has lived at the least when it starts again. A guest that resets its machine before waits, so that no guest keeps the host at work by that.
const SHORTEST_LIFE_MILLIS: u64 = 100;

/// How long restarts of a VM are gathered before they are told, but for the first.
const NEWS_PAUSE_MILLIS: u64 = 1000;

/// So many triple faults in a row are no accident.
const SUSPICIOUS: usize = 3;

/// This image's VMs.
pub(crate) type Vm = AxVM<Host, VCpu>;
pub(crate) type VmRef = AxVMRef<Host, VCpu>;

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

/// What followed when a VM had gone down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterDown {
    /// It runs again.
    Restarted,
    /// Nothing.
    Over,
}

/// How a VM ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// By its own will.
    PoweredOff,
    /// It said that it failed.
    Crashed,
    /// It could not go on.
    Stopped(String),
    /// It wanted to start again and could not.
    NotRestarted(String),
}

/// A task's leave of a VM's life, which has this number, for [`Life::after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Others are inside still.
    Others(usize),
    /// It was the last one, and is to [decide](Life::decide) what follows.
    Last(usize),
}

/// What the tasks of a VM's vCPUs agree on when it goes down: the last one out decides what follows.
pub(crate) struct Life {
    vm: VmRef,
    /// vCPUs whose task has not left this life.
    inside: AtomicUsize,
    restarts: Restarts,
    /// Why it started again last.
    cause: SpinNoIrq<ResetCause>,
    /// How many triple faults in a row that was the last of.
    faults: AtomicUsize,
    over: AtomicBool,
    outcome: SpinNoIrq<Option<Outcome>>,
    /// Why a task could not run its vCPU at all.
    refused: SpinNoIrq<Option<String>>,
}

impl Life {
    fn new(vm: VmRef) -> Arc<Self> {
        Arc::new(Self {
            inside: AtomicUsize::new(vm.vcpu_list().len()),
            vm,
            restarts: Restarts::new(
                Host::now(),
                host::ticks_of_millis(SHORTEST_LIFE_MILLIS),
                host::ticks_of_millis(NEWS_PAUSE_MILLIS),
            ),
            cause: SpinNoIrq::new(ResetCause::Asked),
            faults: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            outcome: SpinNoIrq::new(None),
            refused: SpinNoIrq::new(None),
        })
    }

    pub(crate) fn vm(&self) -> &Vm {
        &self.vm
    }

    /// A vCPU's task leaves a VM that went down.
    pub(crate) fn leave(&self) -> Left {
        let life = self.restarts.lives();
        if self.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
            Left::Last(life)
        } else {
            Left::Others(life)
        }
    }

    /// When the last one out may [decide](Self::decide) what follows a life that ended as `kind` says; 0: at once.
    pub(crate) fn earliest(&self, kind: SystemDownKind) -> u64 {
        match kind {
            SystemDownKind::Reset(_) => self.restarts.earliest(),
            SystemDownKind::PowerOff | SystemDownKind::Crash => 0,
        }
    }

    /// What followed life number `life`; `None`: that is not decided yet.
    pub(crate) fn after(&self, life: usize) -> Option<AfterDown> {
        if self.over.load(Ordering::SeqCst) {
            Some(AfterDown::Over)
        } else if self.restarts.lives() != life {
            Some(AfterDown::Restarted)
        } else {
            None
        }
    }

    /// Decides what follows. For the last one out.
    pub(crate) fn decide(&self, kind: SystemDownKind) {
        let outcome = match kind {
            SystemDownKind::PowerOff => Outcome::PoweredOff,
            SystemDownKind::Reset(cause) => match self.restart(cause) {
                Ok(()) => return,
                Err(error) => Outcome::NotRestarted(error),
            },
            SystemDownKind::Crash => {
                let record = self.vm.stop_record().map(|record| record.to_string());
                match self.refused.lock().take().or(record) {
                    Some(why) => Outcome::Stopped(why),
                    None => Outcome::Crashed,
                }
            }
        };
        *self.outcome.lock() = Some(outcome);
        self.over.store(true, Ordering::SeqCst);
        self.tell_all();
    }

    fn restart(&self, cause: ResetCause) -> Result<(), String> {
        *self.cause.lock() = cause;
        match cause {
            ResetCause::TripleFault => {
                self.faults.fetch_add(1, Ordering::SeqCst);
            }
            ResetCause::Asked => self.faults.store(0, Ordering::SeqCst),
        }
        self.restarts.begin();
        housekeeping::wake();
        self.vm.boot().map_err(|error| error.to_string())?;
        self.inside
            .store(self.vm.vcpu_list().len(), Ordering::SeqCst);
        self.restarts.done(Host::now());
        self.tell_all();
        Ok(())
    }

    /// Takes the VM down, because one of its tasks cannot run its vCPU.
    pub(crate) fn refuse(&self, why: String) {
        self.refused.lock().get_or_insert(why);
        self.vm.shutdown(SystemDownKind::Crash);
    }

    /// Says that the VM has started again so many times, and why the last time.
    fn tell_restarts(&self, times: usize) -> String {
        let cause = *self.cause.lock();
        let hint = if self.faults.load(Ordering::SeqCst) >= SUSPICIOUS {
            "; its kernel may be wrong"
        } else {
            ""
        };
        let times = match times {
            1 => String::new(),
            times => format!(" ({times} times)"),
        };
        format!("VM {:?} starts again{times}: {cause}{hint}", self.vm.name())
    }

    /// Says how the VM, which is over, ended, and what its time went into.
    fn tell_end(&self, lines: &mut Vec<String>) -> RunResult {
        let name = self.vm.name();
        let result = match self.outcome.lock().take() {
            Some(Outcome::PoweredOff) => {
                lines.push(format!("VM {name:?} powered off"));
                RunResult::AllWell
            }
            Some(Outcome::Crashed) => {
                lines.push(format!("error: VM {name:?} says that it failed"));
                RunResult::Failed
            }
            Some(Outcome::Stopped(why)) => {
                lines.push(format!("error: VM {name:?} was stopped:"));
                lines.extend(why.lines().map(|line| format!("  {line}")));
                RunResult::Failed
            }
            Some(Outcome::NotRestarted(why)) => {
                lines.push(format!("error: VM {name:?} does not start again: {why}"));
                RunResult::Failed
            }
            None => RunResult::Failed,
        };
        self.tell_statistics(lines);
        result
    }

    /// Says how the VM, which runs, is.
    fn tell_status(&self, lines: &mut Vec<String>) {
        let restarts = match self.restarts.lives() {
            0 => String::new(),
            1 => String::from(", has started again once"),
            times => format!(", has started again {times} times"),
        };
        lines.push(format!(
            "VM {:?} runs: {} KiB of RAM filled{restarts}",
            self.vm.name(),
            self.vm.memory_usage().ram_bytes >> 10,
        ));
        self.tell_statistics(lines);
    }

    /// Says what the time of the VM's vCPUs went into.
    fn tell_statistics(&self, lines: &mut Vec<String>) {
        let mut statistics = String::new();
        // Writing to a string does not fail.
        let _ = self.vm.write_statistics(&mut statistics);
        lines.extend(statistics.lines().map(|line| format!("  {line}")));
    }

    /// Wakes the tasks that wait for what follows, and housekeeping.
    fn tell_all(&self) {
        for placement in &self.vm.config().vm.vcpus {
            vcpu_task::wake(placement);
        }
        housekeeping::wake();
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

/// What happened to a VM.
pub(crate) struct News {
    /// In words, for the console.
    pub(crate) lines: Vec<String>,
    pub(crate) then: Then,
}

/// What becomes of a VM after its news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing new.
    Runs,
    /// It is over.
    Over,
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
        // It is over before the lines are made, or they come another time.
        let over = life.over.load(Ordering::SeqCst);
        let restarts = if over {
            life.restarts.take_all_news()
        } else {
            life.restarts.take_news(Host::now())
        };
        if restarts == 0 && !over {
            return None;
        }
        let mut lines = Vec::new();
        if restarts > 0 {
            lines.push(life.tell_restarts(restarts));
        }
        if !over {
            return Some(News {
                lines,
                then: Then::Runs,
            });
        }
        self.all_well &= life.tell_end(&mut lines) == RunResult::AllWell;
        *entry = Entry::Leaving(life.clone());
        Some(News {
            lines,
            then: Then::Over,
        })
    }

    /// When there is news to [take](Self::take_news) that is not to be taken before.
    pub(crate) fn news_due(&self) -> Option<u64> {
        let lives = self.vms.iter().filter_map(Entry::running);
        lives.filter_map(|life| life.restarts.news_due()).min()
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
