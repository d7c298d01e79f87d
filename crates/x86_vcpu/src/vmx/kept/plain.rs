//! What must come of it: the same local APIC in software alone, and a processor that takes what it has as soon as it can.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering};

use axdevice::{ApicMode, CpuEvents, Device, LocalInterrupts};
use axvcpu::AccessWidth;

use super::{
    Taken,
    acts::Act,
    apic_base,
    board::{Board, News},
    msr_value,
};

/// NMIs that wait. All else is looked at anyway.
#[derive(Default)]
struct Nmis(AtomicUsize);

impl CpuEvents for Nmis {
    fn notify(&self, _: usize) {}

    fn nmi(&self, cpu: usize) {
        if cpu == 0 {
            self.0.store(1, Ordering::Relaxed);
        }
    }

    fn init(&self, _: usize) {}

    fn startup(&self, _: usize, _: u8) {}
}

/// What a deed came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It was done, and read this.
    Done(Option<u64>),
    /// No such thing can be done now.
    Skipped,
}

pub(super) struct Plain {
    pub(super) board: Board,
    nmis: Arc<Nmis>,
    pub(super) taken: Vec<Taken>,
    pub(super) flag: bool,
    pub(super) halted: bool,
}

impl Plain {
    pub(super) fn new() -> Self {
        let nmis = Arc::new(Nmis::default());
        Self {
            board: Board::new(nmis.clone()),
            nmis,
            taken: Vec::new(),
            flag: false,
            halted: false,
        }
    }

    pub(super) fn mode(&self) -> ApicMode {
        match self.board.local.read_msr(0x1b).unwrap() >> 10 & 3 {
            0b11 => ApicMode::X2Apic,
            0b10 => ApicMode::XApic,
            _ => ApicMode::Disabled,
        }
    }

    /// Whether software has switched the local APIC on.
    pub(super) fn is_switched_on(&self) -> bool {
        self.board.spurious_vector() & 1 << 8 != 0
    }

    pub(super) fn act(&mut self, act: Act) -> Came {
        let came = self.begin(act);
        self.settle();
        came
    }

    fn begin(&mut self, act: Act) -> Came {
        let is_own = !matches!(act, Act::Outside(..) | Act::Move | Act::PowerOn);
        if is_own && self.halted {
            return Came::Skipped;
        }
        let local = &self.board.local;
        let (dword, mode) = (AccessWidth::Dword, self.mode());
        let mut read = None;
        match act {
            Act::Interrupts(on) => self.flag = on,
            Act::Cr8(class) => local.set_task_priority(class),
            Act::Write(index, value, _) => match mode {
                ApicMode::XApic => local
                    .write(16 * u64::from(index), dword, value.into())
                    .unwrap(),
                ApicMode::X2Apic => match msr_value(index, value) {
                    Some(value) => {
                        local.write_msr(0x800 + u32::from(index), value).unwrap();
                    }
                    None => return Came::Skipped,
                },
                ApicMode::Disabled => return Came::Skipped,
            },
            Act::Read(index) => {
                read = match mode {
                    ApicMode::XApic => local.read(16 * u64::from(index), dword).ok(),
                    ApicMode::X2Apic => local.read_msr(0x800 + u32::from(index)).ok(),
                    ApicMode::Disabled => None,
                };
                if read.is_none() {
                    return Came::Skipped;
                }
            }
            Act::Switch(mode) => {
                if local.write_msr(0x1b, apic_base(mode)).is_err() {
                    return Came::Skipped;
                }
            }
            Act::Halt => self.halted = true,
            Act::InShadow(news) => {
                self.flag = true;
                self.happens(news);
            }
            Act::Outside(news, more, _) => {
                self.happens(news);
                more.into_iter().for_each(|news| self.happens(news));
            }
            Act::Fault | Act::Move => {}
            Act::PowerOn => {
                self.board.reset();
                self.restart();
            }
        }
        Came::Done(read)
    }

    fn happens(&mut self, news: News) {
        self.board.happens(news);
        if news == News::Init && self.mode() != ApicMode::Disabled {
            self.restart();
        }
    }

    fn restart(&mut self) {
        (self.flag, self.halted) = (false, false);
        self.nmis.0.store(0, Ordering::Relaxed);
    }

    /// The processor takes what it can.
    fn settle(&mut self) {
        if self.nmis.0.swap(0, Ordering::Relaxed) != 0 {
            self.taken.push(Taken::Nmi);
            self.halted = false;
        }
        if self.flag
            && let Some(vector) = self.board.local.acknowledge()
        {
            self.taken.push(Taken::Interrupt(vector));
            (self.flag, self.halted) = (false, false);
        }
    }
}
