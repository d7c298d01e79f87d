//! The lives of one VM: what its vCPUs' tasks agree on when it goes down, and what the console is told of that. The [manager](crate::manager) has one for each VM.

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axvcpu::{AxVCpuHal, ResetCause, SystemDownKind};
use axvm::{AxVM, AxVMRef, Restarts};
use kspin::SpinNoIrq;

use crate::{
    arch::VCpu,
    host::{self, Host, RunResult},
    housekeeping, vcpu_task,
};

/// How long a VM has lived at the least when it starts again. A guest that resets its machine before waits, so that no guest keeps the host at work by that.
const SHORTEST_LIFE_MILLIS: u64 = 100;

/// How long restarts of a VM are gathered before they are told, but for the first.
const NEWS_PAUSE_MILLIS: u64 = 1000;

/// So many triple faults in a row are no accident.
const SUSPICIOUS: usize = 3;

/// This image's VMs.
pub(crate) type Vm = AxVM<Host, VCpu>;
type VmRef = AxVMRef<Host, VCpu>;

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
enum Outcome {
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
    /// It is over, which went so.
    Over(RunResult),
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
    pub(crate) fn new(vm: VmRef) -> Arc<Self> {
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

    /// What happened since this was asked last.
    pub(crate) fn take_news(&self) -> Option<News> {
        // It is over before the lines are made, or they come another time.
        let over = self.over.load(Ordering::SeqCst);
        let restarts = if over {
            self.restarts.take_all_news()
        } else {
            self.restarts.take_news(Host::now())
        };
        if restarts == 0 && !over {
            return None;
        }
        let mut lines = Vec::new();
        if restarts > 0 {
            lines.push(self.tell_restarts(restarts));
        }
        let then = if over {
            Then::Over(self.tell_end(&mut lines))
        } else {
            Then::Runs
        };
        Some(News { lines, then })
    }

    /// When there is news to [take](Self::take_news) that is not to be taken before.
    pub(crate) fn news_due(&self) -> Option<u64> {
        self.restarts.news_due()
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
    pub(crate) fn tell_status(&self, lines: &mut Vec<String>) {
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
