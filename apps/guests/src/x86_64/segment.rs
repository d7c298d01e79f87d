//! Segments, task state and interrupt gates.
//!
//! Every interrupt and exception goes to a stack of its CPU's own, so that the code it stops may
//! have anything in its stack pointer.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of_val};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::arch::context::{self, Context};

/// Segment selectors.
pub mod selector {
    /// 64-bit code of ring 0.
    pub const CODE: usize = 0x08;
    /// Data of ring 0.
    pub const DATA: usize = 0x10;
    /// 32-bit code of ring 0, on the way to 64 bits.
    pub(crate) const CODE32: usize = 0x18;
    /// Data of ring 3.
    pub const USER_DATA: usize = 0x20 | 3;
    /// 64-bit code of ring 3.
    pub const USER_CODE: usize = 0x28 | 3;
    /// The task state.
    pub const TASK: usize = 0x30;
    /// A data segment that is not present.
    pub const ABSENT: usize = 0x40;
    /// The first one beyond the table.
    pub const BEYOND: usize = 0x48;
}

/// The descriptors, all but that of the task state, which each CPU has for itself.
pub(super) static DESCRIPTORS: [u64; 9] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0,
    0x00cf_1300_0000_ffff,
];

/// A vector that ring 3 may call, besides those of INT3 and INTO.
pub const USER_VECTOR: u8 = 0x80;

const STACK_SIZE: usize = 64 << 10;
const TRAP_STACK_SIZE: usize = 16 << 10;

#[repr(C, align(16))]
#[derive(Debug)]
struct Stack<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

// SAFETY: a stack is written by its CPU's pushes only, never through its name.
unsafe impl<const SIZE: usize> Sync for Stack<SIZE> {}

/// What a CPU has for itself.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Cpu {
    descriptors: [AtomicU64; 9],
    task: [AtomicU32; 26],
    trap_stack: Stack<TRAP_STACK_SIZE>,
    /// The context that the next trap ends: directly above the trap stack, where a trap finds it.
    current: AtomicPtr<Context>,
    stack: Stack<STACK_SIZE>,
}

impl Cpu {
    /// Where the context that runs is, from the CPU's first descriptor on.
    pub(super) const CURRENT: usize = offset_of!(Self, current);
    /// Where the stack ends.
    pub(super) const STACK_END: usize = offset_of!(Self, stack) + STACK_SIZE;

    pub(super) const fn new() -> Self {
        Self {
            descriptors: [const { AtomicU64::new(0) }; _],
            task: [const { AtomicU32::new(0) }; _],
            trap_stack: Stack(UnsafeCell::new([0; _])),
            current: AtomicPtr::new(core::ptr::null_mut()),
            stack: Stack(UnsafeCell::new([0; _])),
        }
    }

    /// Makes this the state of the CPU that runs.
    pub(super) fn install(&'static self) {
        const INTERRUPT_STACK_1: usize = 9;
        const PORT_MAP: usize = 25;
        let trap_stack_end = (&raw const self.current).addr() as u64;
        for (n, half) in halves(trap_stack_end).into_iter().enumerate() {
            self.task[INTERRUPT_STACK_1 + n].store(half, Ordering::Relaxed);
        }
        // The map of ports lies beyond the limit: ring 3 may use none.
        let size = size_of_val(&self.task) as u32;
        self.task[PORT_MAP].store(size << 16, Ordering::Relaxed);

        for (own, &descriptor) in self.descriptors.iter().zip(&DESCRIPTORS) {
            own.store(descriptor, Ordering::Relaxed);
        }
        const AVAILABLE: u64 = 0x89 << 40;
        let task = (&raw const self.task).addr() as u64;
        let low = u64::from(size - 1) | (task & 0xff_ffff) << 16 | (task >> 24 & 0xff) << 56;
        let at = selector::TASK / 8;
        self.descriptors[at].store(low | AVAILABLE, Ordering::Relaxed);
        self.descriptors[at + 1].store(task >> 32, Ordering::Relaxed);

        let table = Table::of(&self.descriptors);
        // SAFETY: the descriptors that are in use are the same in the new table, and the task state
        // names a stack.
        unsafe {
            asm!("lgdt [{}]", "ltr {:x}", in(reg) &raw const table, in(reg) selector::TASK,
                options(nostack, preserves_flags));
        }
        load_gates();
    }
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// What LGDT and LIDT read.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Table {
    limit: u16,
    base: usize,
}

impl Table {
    fn of<T>(entries: &'static [T]) -> Self {
        Self {
            limit: (size_of_val(entries) - 1) as u16,
            base: entries.as_ptr().addr(),
        }
    }

    /// The interrupt gates, of the first `vectors` vectors only.
    pub fn of_gates(vectors: usize) -> Self {
        Self::of(&GATES[..2 * vectors])
    }
}

/// Two words for each vector.
static GATES: [AtomicU64; 512] = [const { AtomicU64::new(0) }; _];

const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;

/// Sets a vector's gate to code of ring 0, with flags besides.
fn set_gate(vector: u8, entry: usize, flags: u64) {
    let entry = entry as u64;
    let low = entry & 0xffff | (selector::CODE as u64) << 16 | (entry >> 16 & 0xffff) << 48;
    let at = 2 * usize::from(vector);
    GATES[at].store(low | PRESENT_INTERRUPT_GATE | flags, Ordering::Relaxed);
    GATES[at + 1].store(entry >> 32, Ordering::Relaxed);
}

/// Lets a vector lead to `handler`, on the stack of the code that it interrupts, instead of ending
/// the running context, while `run` runs. The handler is a context's own code.
pub fn with_handler<T>(vector: u8, handler: usize, run: impl FnOnce() -> T) -> T {
    let at = 2 * usize::from(vector);
    let gate = [0, 1].map(|n| GATES[at + n].load(Ordering::Relaxed));
    set_gate(vector, handler, 0);
    let result = run();
    for (n, half) in gate.into_iter().enumerate() {
        GATES[at + n].store(half, Ordering::Relaxed);
    }
    result
}

/// Makes all vectors end the running context.
pub(super) fn fill_gates() {
    const FOR_ALL_RINGS: u64 = 3 << 45;
    const ON_INTERRUPT_STACK_1: u64 = 1 << 32;
    const BREAKPOINT: u8 = 3;
    for vector in 0..=u8::MAX {
        let rings = match vector {
            BREAKPOINT | USER_VECTOR => FOR_ALL_RINGS,
            _ => 0,
        };
        let entry = context::trap_entry(vector);
        set_gate(vector, entry, ON_INTERRUPT_STACK_1 | rings);
    }
}

/// Loads the gates of all vectors.
pub fn load_gates() {
    let table = Table::of(&GATES);
    // SAFETY: every gate leads to code that ends the running context or this program.
    unsafe {
        asm!("lidt [{}]", in(reg) &raw const table, options(nostack, preserves_flags));
    }
}
