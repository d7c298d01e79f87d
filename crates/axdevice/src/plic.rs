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
mod sources;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use axvcpu::{AccessWidth, LineLevel};
use spin::Mutex;

use crate::{AccessFault, CpuInterrupts, Device, InterruptController, ServedInterrupt};
use registers::Register;
use source_set::SourceSet;
use sources::{Candidate, Sources};

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
    ///
    /// # Errors
    /// [`PlicError::Sources`] unless there are 1 to [`MAX_SOURCES`](Self::MAX_SOURCES); [`PlicError::Contexts`] for more than
    /// [`MAX_CONTEXTS`](Self::MAX_CONTEXTS).
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

    /// From now on `whom` hears when a context has completed `source`, which was in service with its line high; then the line is low.
    pub fn on_served(&self, source: u32, whom: Weak<dyn ServedInterrupt>) {
        self.state.lock().sources.on_served(source, whom);
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
    sources: Sources,
    contexts: Box<[Context]>,
    /// How many contexts have their vCPU's line high.
    high_lines: usize,
}

struct Context {
    cpu: Option<usize>,
    enabled: SourceSet,
    threshold: u8,
    /// The level of the vCPU's line.
    line: LineLevel,
}

impl State {
    fn new(sources: u32, contexts: &[Option<usize>]) -> Self {
        let context = |&cpu| Context {
            cpu,
            enabled: SourceSet::new(sources),
            threshold: 0,
            line: LineLevel::Low,
        };
        Self {
            sources: Sources::new(sources),
            contexts: contexts.iter().map(context).collect(),
            high_lines: 0,
        }
    }

    fn reset(&mut self, cpus: &dyn CpuInterrupts) {
        self.sources.reset();
        for context in &mut self.contexts {
            context.enabled.clear();
            context.threshold = 0;
        }
        self.notify(cpus);
    }

    fn read(&mut self, register: Register, cpus: &dyn CpuInterrupts) -> u32 {
        match register {
            Register::Priority { source } => self.sources.priority(source).into(),
            Register::Pending { word } => self.sources.pending_word(word),
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
            Register::Priority { source } => self.sources.set_priority(source, value),
            Register::Enable { context, word } => {
                if let Some(context) = self.contexts.get_mut(context) {
                    context.enabled.set_word(word, value);
                }
            }
            Register::Threshold { context } => {
                if let Some(context) = self.contexts.get_mut(context) {
                    context.threshold = value as u8 & MAX_PRIORITY;
                }
            }
            Register::Claim { context } => self.complete(context, value),
            Register::Pending { .. } | Register::Reserved => return,
        }
        self.notify(cpus);
    }

    fn set_line(&mut self, source: u32, level: LineLevel, cpus: &dyn CpuInterrupts) {
        match level {
            // Takes back nothing, so that nobody need be told.
            LineLevel::Low => self.sources.lower(source),
            LineLevel::High => {
                self.sources.raise(source);
                self.notify(cpus);
            }
        }
    }

    /// Takes the best candidate of `context` in service and returns its number, 0 if there is none.
    #[inline(never)]
    fn claim(&mut self, context: usize, cpus: &dyn CpuInterrupts) -> u32 {
        let Some(context) = self.contexts.get(context) else {
            return 0;
        };
        let Some(Candidate { source, .. }) = self.sources.best_of(&context.enabled) else {
            return 0;
        };
        self.sources.serve(source);
        self.notify(cpus);
        source
    }

    /// Ends the service of `source`, unless `context` has it not enabled. Whether this context claimed it is not checked (specification,
    /// "Interrupt Completion").
    fn complete(&mut self, context: usize, source: u32) {
        let context = self.contexts.get(context);
        if context.is_some_and(|context| context.enabled.contains(source)) {
            self.sources.complete(source);
        }
    }

    /// Lets every vCPU's line follow the registers.
    #[inline]
    fn notify(&mut self, cpus: &dyn CpuInterrupts) {
        // A driver that sets up its sources finds it so.
        if self.sources.any_pending() || self.high_lines != 0 {
            self.move_lines(cpus);
        }
    }

    #[inline(never)]
    fn move_lines(&mut self, cpus: &dyn CpuInterrupts) {
        for context in &mut self.contexts {
            let Some(cpu) = context.cpu else { continue };
            let level = match self.sources.best_of(&context.enabled) {
                Some(best) if best.priority > context.threshold => LineLevel::High,
                Some(_) | None => LineLevel::Low,
            };
            if level != context.line {
                context.line = level;
                match level {
                    LineLevel::High => self.high_lines += 1,
                    LineLevel::Low => self.high_lines -= 1,
                }
                cpus.set_line(cpu, level);
            }
        }
    }
}
