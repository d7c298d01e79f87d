//! How the rest of the system reaches a vCPU that may be running on another pCPU.
//!
//! Anyone posts; only the vCPU's own pCPU takes. The protocol that loses nothing: the sender posts, then looks whether the vCPU
//! is in its guest, and kicks its pCPU if so; the vCPU, with interrupts off, says that it is entering, then takes what was posted,
//! then enters. Either the vCPU sees the letter or the sender sees the vCPU; both are sequentially consistent.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::LineLevel;

/// What was taken out of a [`Mailbox`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Bit `n`: interrupt `n` was raised once.
    pub edges: u64,
    /// Bit `n`: the line of interrupt `n` is high now.
    pub levels: u64,
    /// Instruction caches must be forgotten before the guest goes on.
    pub fence_instructions: bool,
    /// All the guest's own translations must be forgotten before the guest goes on.
    pub fence_translations: bool,
}

/// The letter, on every architecture, that has the vCPU leave with [`DeviceInterrupt`](crate::AxVCpuExitReason::DeviceInterrupt) before it
/// enters its guest again. It is posted on the vCPU's own pCPU, where no kick is needed.
pub const DEVICE_LETTER: usize = 61;

/// Where requests for fences are among the letters: above the edges.
const FENCE_INSTRUCTIONS: u64 = 1 << 62;
const FENCE_TRANSLATIONS: u64 = 1 << 63;
const FENCES: u64 = FENCE_INSTRUCTIONS | FENCE_TRANSLATIONS;

/// Letters to one vCPU.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// What is asked for once: edges and fences.
    letters: AtomicU64,
    levels: AtomicU64,
    in_guest: AtomicBool,
}

impl Mailbox {
    /// An empty mailbox.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            letters: AtomicU64::new(0),
            levels: AtomicU64::new(0),
            in_guest: AtomicBool::new(false),
        }
    }

    /// Raises interrupt `vector` (below 62) once.
    pub fn raise(&self, vector: usize) {
        self.letters
            .fetch_or(bit(vector) & !FENCES, Ordering::SeqCst);
    }

    /// Takes back what [`raise`](Self::raise) posted, if it has not been taken.
    pub fn withdraw(&self, vector: usize) {
        self.letters
            .fetch_and(!bit(vector) | FENCES, Ordering::SeqCst);
    }

    /// Sets the line of interrupt `vector` (below 64).
    pub fn set_line(&self, vector: usize, level: LineLevel) {
        match level {
            LineLevel::High => self.levels.fetch_or(bit(vector), Ordering::SeqCst),
            LineLevel::Low => self.levels.fetch_and(!bit(vector), Ordering::SeqCst),
        };
    }

    /// Asks the vCPU to forget what its instruction caches hold before it runs on.
    pub fn request_instruction_fence(&self) {
        self.letters.fetch_or(FENCE_INSTRUCTIONS, Ordering::SeqCst);
    }

    /// Asks the vCPU to forget all its own translations before it runs on.
    pub fn request_translation_fence(&self) {
        self.letters.fetch_or(FENCE_TRANSLATIONS, Ordering::SeqCst);
    }

    /// Whether a fence waits that the vCPU has not taken. Once it has, no guest instruction runs before the fence does.
    #[must_use]
    pub fn has_fence(&self) -> bool {
        self.letters.load(Ordering::SeqCst) & FENCES != 0
    }

    /// Whether the vCPU is in its guest, so that a letter needs a kick to be read.
    #[must_use]
    pub fn is_in_guest(&self) -> bool {
        self.in_guest.load(Ordering::SeqCst)
    }

    /// The vCPU is about to enter its guest. Interrupts must be off.
    pub fn entering(&self) {
        self.in_guest.store(true, Ordering::SeqCst);
    }

    /// The vCPU left its guest.
    pub fn left(&self) {
        self.in_guest.store(false, Ordering::SeqCst);
    }

    /// Whether [`take`](Self::take) would find anything but `lines` as they were. For the vCPU's own pCPU to ask of what it has posted itself while
    /// it is [in its guest](Self::is_in_guest): for what others post there comes a kick.
    #[must_use]
    pub fn has_changed_from(&self, lines: u64) -> bool {
        let changed = self.levels.load(Ordering::Relaxed) ^ lines;
        self.letters.load(Ordering::Relaxed) | changed != 0
    }

    /// Takes all letters out. Lines stay as they are.
    pub fn take(&self) -> Mail {
        // Read before swapping: an empty box, the common case, costs no atomic read-modify-write.
        let letters = match self.letters.load(Ordering::SeqCst) {
            0 => 0,
            _ => self.letters.swap(0, Ordering::SeqCst),
        };
        Mail {
            edges: letters & !FENCES,
            levels: self.levels.load(Ordering::SeqCst),
            fence_instructions: letters & FENCE_INSTRUCTIONS != 0,
            fence_translations: letters & FENCE_TRANSLATIONS != 0,
        }
    }

    /// Takes [`DEVICE_LETTER`] out, if it is there. For the vCPU's own pCPU to ask with interrupts off, after [`entering`](Self::entering).
    #[inline]
    pub fn take_device_letter(&self) -> bool {
        let letter = bit(DEVICE_LETTER);
        let is_there = self.letters.load(Ordering::Relaxed) & letter != 0;
        is_there && self.letters.fetch_and(!letter, Ordering::SeqCst) & letter != 0
    }

    /// Whether an interrupt waits here that would end a vCPU's wait: one that was raised once, or one of `lines`.
    #[must_use]
    pub fn has_interrupt(&self, lines: u64) -> bool {
        let edges = self.letters.load(Ordering::SeqCst) & !FENCES;
        edges | self.levels.load(Ordering::SeqCst) & lines != 0
    }

    /// Throws away the interrupts that were raised once, but for `kept`: a new life of the vCPU begins. Lines stay as they are.
    pub fn forget_raised(&self, kept: Option<usize>) {
        self.letters
            .fetch_and(kept.map_or(0, bit) | FENCES, Ordering::SeqCst);
    }

    /// Throws everything away, lines too: the vCPU is being reset.
    pub fn clear(&self) {
        self.letters.store(0, Ordering::SeqCst);
        self.levels.store(0, Ordering::SeqCst);
    }
}

/// The bit of `vector`; none past the word, so that a wrong number raises nothing.
fn bit(vector: usize) -> u64 {
    u32::try_from(vector)
        .ok()
        .and_then(|vector| 1u64.checked_shl(vector))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
