//! The registers' page where hardware keeps them while the guest runs (Intel SDM volume 3, 30.1 "Virtual APIC State").
//!
//! It is laid out as the xAPIC's. The task priority, and where the hardware keeps everything what is requested and in service, live there and nowhere else; the
//! rest is shown there for the guest to read. Whatever is read from it may be anything that a guest can write.

use axaddrspace::SharedPage;

use super::vectors::VectorSet;
use crate::Keeps;

/// The distance between two registers.
const STRIDE: usize = 16;
/// Vectors in one register of a set.
const VECTORS: u8 = 32;
/// Registers of a set.
const REGISTERS: u8 = 8;

/// Where the registers are, in 16 bytes each.
const TASK_PRIORITY: u16 = 0x08;
const PROCESSOR_PRIORITY: u16 = 0x0a;
pub(super) const COMMAND_LOW: u16 = 0x30;
pub(super) const COMMAND_HIGH: u16 = 0x31;

/// A set of vectors in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    InService,
    TriggerMode,
    Request,
}

impl Set {
    const fn first(self) -> u16 {
        match self {
            Self::InService => 0x10,
            Self::TriggerMode => 0x18,
            Self::Request => 0x20,
        }
    }
}

/// A page, and what the hardware keeps in it.
#[derive(Clone, Debug)]
pub(super) struct RegisterPage {
    page: SharedPage,
    keeps: Keeps,
}

impl RegisterPage {
    pub(super) const fn new(page: SharedPage, keeps: Keeps) -> Self {
        Self { page, keeps }
    }

    pub(super) const fn keeps(&self) -> Keeps {
        self.keeps
    }

    /// The register at 16 times `index` bytes.
    #[inline]
    pub(super) fn read(&self, index: u16) -> u32 {
        self.page.read(usize::from(index) * STRIDE)
    }

    #[inline]
    pub(super) fn write(&self, index: u16, value: u32) {
        self.page.write(usize::from(index) * STRIDE, value);
    }

    #[cold]
    pub(super) fn task_priority(&self) -> u8 {
        self.read(TASK_PRIORITY) as u8
    }

    pub(super) fn set_task_priority(&self, priority: u8) {
        self.write(TASK_PRIORITY, priority.into());
    }

    /// As after power-on: nothing is held back.
    pub(super) fn reset_priority(&self) {
        self.set_task_priority(0);
        self.write(PROCESSOR_PRIORITY, 0);
    }

    /// A set has these members and no others.
    pub(super) fn fill(&self, set: Set, members: &VectorSet) {
        (0..REGISTERS).for_each(|n| self.write(set.first() + u16::from(n), members.register(n)));
    }

    /// The member of the highest priority.
    pub(super) fn highest(&self, set: Set) -> Option<u8> {
        (0..REGISTERS).rev().find_map(|n| {
            let bits = self.read(set.first() + u16::from(n));
            let last = VECTORS * n + (VECTORS - 1);
            (bits != 0).then(|| last - bits.leading_zeros() as u8)
        })
    }

    pub(super) fn remove(&self, set: Set, vector: u8) {
        let index = set.first() + u16::from(vector / VECTORS);
        self.write(index, self.read(index) & !(1 << (vector % VECTORS)));
    }

    pub(super) fn insert(&self, set: Set, vector: u8) {
        let index = set.first() + u16::from(vector / VECTORS);
        self.write(index, self.read(index) | 1 << (vector % VECTORS));
    }

    /// The bits of register `n` of a set.
    pub(super) fn register(&self, set: Set, n: u8) -> u32 {
        self.read(set.first() + u16::from(n))
    }

    /// Requests what is in `requests`, which asks by level where that is in `levels`, and says whether the latter is new for one of them.
    pub(super) fn request(&self, requests: &VectorSet, levels: &VectorSet) -> Levels {
        let mut answer = Levels::Kept;
        for n in 0..REGISTERS {
            let new = requests.register(n);
            if new == 0 {
                continue;
            }
            let request = Set::Request.first() + u16::from(n);
            self.write(request, self.read(request) | new);
            let trigger = Set::TriggerMode.first() + u16::from(n);
            let before = self.read(trigger);
            let after = before & !new | levels.register(n) & new;
            if before != after {
                self.write(trigger, after);
                answer = Levels::Changed;
            }
        }
        answer
    }

    /// The vectors that ask by level, 64 in each word.
    pub(super) fn levels(&self) -> [u64; 4] {
        [0, 2, 4, 6].map(|n| {
            let half = |n| u64::from(self.register(Set::TriggerMode, n));
            half(n + 1) << VECTORS | half(n)
        })
    }
}

/// Whether it is other vectors now that ask by level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Levels {
    Kept,
    Changed,
}
