//! The RISC-V Platform-Level Interrupt Controller (RISC-V PLIC specification 1.0.0).
//!
//! A source's request passes through its gateway, which lets one through at a time: a high line makes the source pending; a claim takes it
//! in service; completion opens the gateway, which looks at the line again. Once pending a request stays, even if the line falls. Each
//! context (a hart's privilege mode) chooses by its enable bits and its threshold what it is notified of; a claim does not
//! look at the threshold (specification, "Interrupt Claims").
//!
//! Registers answer aligned 32-bit accesses only. What is reserved reads as zero and ignores writes.

mod registers;
mod source_set;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use crate::{AccessFault, CpuInterrupts, Device, InterruptController};
use registers::Register;
use source_set::SourceSet;

/// The highest priority, and the highest threshold. Both registers keep as many bits.
const MAX_PRIORITY: u8 = 7;

/// Why there can be no such PLIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlicError {
    /// The number of sources is not within 1 and [`Plic::MAX_SOURCES`].
    Sources(u32),
    /// There are more contexts than [`Plic::MAX_CONTEXTS`].
    Contexts(usize),
}

impl fmt::Display for PlicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sources(count) => {
                write!(
                    f,
                    "a PLIC has 1 to {} interrupt sources, not {count}",
                    Plic::MAX_SOURCES
                )
            }
            Self::Contexts(count) => {
                write!(
                    f,
                    "a PLIC has at most {} contexts, not {count}",
                    Plic::MAX_CONTEXTS
                )
            }
        }
    }
}

impl core::error::Error for PlicError {}

/// A PLIC.
pub struct Plic {
    name: String,
    cpus: Arc<dyn CpuInterrupts>,
    state: Mutex<State>,
}

impl Plic {
    /// The size of the registers in bytes, with all contexts that there can be.
    pub const MMIO_SIZE: u64 = 0x60_0000;

    /// The highest number of sources, which is also the highest source number: 0 stands for "no interrupt".
    pub const MAX_SOURCES: u32 = 1023;

    /// The highest number of contexts.
    pub const MAX_CONTEXTS: usize = 1024;

    /// A PLIC as at power-on with sources `1 ..= sources`, and with a context for each of `contexts`: `Some(cpu)` drives the external
    /// interrupt line of that vCPU (no two the same), `None` has registers but drives nothing.
    pub fn new(
        name: impl Into<String>,
        sources: u32,
        contexts: &[Option<usize>],
        cpus: Arc<dyn CpuInterrupts>,
    ) -> Result<Self, PlicError> {
        if !(1..=Self::MAX_SOURCES).contains(&sources) {
            return Err(PlicError::Sources(sources));
        }
        if contexts.len() > Self::MAX_CONTEXTS {
            return Err(PlicError::Contexts(contexts.len()));
        }
        Ok(Self {
            name: name.into(),
            cpus,
            state: Mutex::new(State::new(sources, contexts)),
        })
    }

    /// The contexts of `cpus` harts as QEMU's `virt` board and most SoCs number them: hart `h` has 2 `h` for machine mode, which a guest does
    /// not have, and 2 `h` + 1 for supervisor mode.
    #[must_use]
    pub fn machine_supervisor_contexts(cpus: usize) -> Vec<Option<usize>> {
        (0..cpus).flat_map(|cpu| [None, Some(cpu)]).collect()
    }
}

impl Device for Plic {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let register = Register::at(offset, width)?;
        let mut state = self.state.lock();
        Ok(state.read(register, &*self.cpus).into())
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        let register = Register::at(offset, width)?;
        let mut state = self.state.lock();
        state.write(register, data as u32, &*self.cpus);
        Ok(())
    }

    /// The lines that lead here are low, too: whatever drives one is reset as well.
    fn reset(&self) {
        self.state.lock().reset(&*self.cpus);
    }
}

impl InterruptController for Plic {
    fn set_line(&self, source: u32, level: LineLevel) {
        self.state.lock().set_line(source, level, &*self.cpus);
    }
}

struct State {
    /// By source number, with an unused one for source 0.
    priorities: Box<[u8]>,
    /// Sources whose line is high.
    high: SourceSet,
    /// Sources with a request that no context has claimed.
    pending: SourceSet,
    /// Sources whose request was claimed and not completed: their gateways are closed.
    in_service: SourceSet,
    contexts: Box<[Context]>,
}

struct Context {
    cpu: Option<usize>,
    enabled: SourceSet,
    threshold: u8,
    /// The level of the vCPU's line.
    line: LineLevel,
}

/// A source that a context could claim.
#[derive(Clone, Copy)]
struct Candidate {
    source: u32,
    priority: u8,
}

impl State {
    fn new(sources: u32, contexts: &[Option<usize>]) -> Self {
        let none = SourceSet::new(sources);
        let context = |cpu: &Option<usize>| Context {
            cpu: *cpu,
            enabled: none.clone(),
            threshold: 0,
            line: LineLevel::Low,
        };
        Self {
            priorities: (0..=sources).map(|_| 0).collect(),
            high: none.clone(),
            pending: none.clone(),
            in_service: none.clone(),
            contexts: contexts.iter().map(context).collect(),
        }
    }

    fn reset(&mut self, cpus: &dyn CpuInterrupts) {
        self.priorities.fill(0);
        self.high.clear();
        self.pending.clear();
        self.in_service.clear();
        for context in &mut self.contexts {
            context.enabled.clear();
            context.threshold = 0;
        }
        self.notify(cpus);
    }

    fn read(&mut self, register: Register, cpus: &dyn CpuInterrupts) -> u32 {
        match register {
            Register::Priority { source } => self.priority(source).into(),
            Register::Pending { word } => self.pending.word(word),
            Register::Enable { context, word } => self
                .contexts
                .get(context)
                .map_or(0, |context| context.enabled.word(word)),
            Register::Threshold { context } => self
                .contexts
                .get(context)
                .map_or(0, |context| context.threshold.into()),
            Register::Claim { context } => self.claim(context, cpus),
            Register::Reserved => 0,
        }
    }

    fn write(&mut self, register: Register, value: u32, cpus: &dyn CpuInterrupts) {
        match register {
            Register::Priority { source: 0 } | Register::Pending { .. } | Register::Reserved => {}
            Register::Priority { source } => {
                if let Some(priority) = self.priorities.get_mut(source) {
                    *priority = value as u8 & MAX_PRIORITY;
                    self.notify(cpus);
                }
            }
            Register::Enable { context, word } => {
                if let Some(context) = self.contexts.get_mut(context) {
                    context.enabled.set_word(word, value);
                    self.notify(cpus);
                }
            }
            Register::Threshold { context } => {
                if let Some(context) = self.contexts.get_mut(context) {
                    context.threshold = value as u8 & MAX_PRIORITY;
                    self.notify(cpus);
                }
            }
            Register::Claim { context } => self.complete(context, value, cpus),
        }
    }

    fn set_line(&mut self, source: u32, level: LineLevel, cpus: &dyn CpuInterrupts) {
        match level {
            LineLevel::Low => {
                self.high.remove(source);
            }
            LineLevel::High => {
                self.high.insert(source);
                self.open_gateway(source, cpus);
            }
        }
    }

    /// Makes `source` pending if its line is high and its request is not in service.
    fn open_gateway(&mut self, source: u32, cpus: &dyn CpuInterrupts) {
        if self.high.contains(source)
            && !self.in_service.contains(source)
            && self.pending.insert(source)
        {
            self.notify(cpus);
        }
    }

    /// Takes the best candidate of `context` in service and returns its number, 0 if there is none.
    fn claim(&mut self, context: usize, cpus: &dyn CpuInterrupts) -> u32 {
        let Some(Candidate { source, .. }) = self
            .contexts
            .get(context)
            .and_then(|context| self.best_candidate(context))
        else {
            return 0;
        };
        self.pending.remove(source);
        self.in_service.insert(source);
        self.notify(cpus);
        source
    }

    /// Ends the service of `source`. Nothing happens where `context` has it not enabled or it was not in service; whether it was this context
    /// that claimed it is not checked (specification, "Interrupt Completion").
    fn complete(&mut self, context: usize, source: u32, cpus: &dyn CpuInterrupts) {
        let enabled = self
            .contexts
            .get(context)
            .is_some_and(|context| context.enabled.contains(source));
        if enabled && self.in_service.remove(source) {
            self.open_gateway(source, cpus);
        }
    }

    fn priority(&self, source: usize) -> u8 {
        self.priorities.get(source).copied().unwrap_or(0)
    }

    /// Of the sources that are pending and that `context` has enabled, the one with the highest priority, and of several the one with the
    /// lowest number. Priority 0 means "never".
    fn best_candidate(&self, context: &Context) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for source in self.pending.intersection(&context.enabled) {
            let priority = self.priority(source as usize);
            if priority > best.map_or(0, |best| best.priority) {
                best = Some(Candidate { source, priority });
            }
        }
        best
    }

    /// Lets every vCPU's line follow the registers.
    fn notify(&mut self, cpus: &dyn CpuInterrupts) {
        for index in 0..self.contexts.len() {
            let Some(context @ Context { cpu: Some(cpu), .. }) = self.contexts.get(index) else {
                continue;
            };
            let level = match self.best_candidate(context) {
                Some(best) if best.priority > context.threshold => LineLevel::High,
                Some(_) | None => LineLevel::Low,
            };
            if level != context.line {
                cpus.set_line(*cpu, level);
                if let Some(context) = self.contexts.get_mut(index) {
                    context.line = level;
                }
            }
        }
    }
}
