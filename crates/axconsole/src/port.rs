//! A VM's end of the console.

use alloc::sync::Arc;
use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use axdevice::CharBackend;
use spin::Mutex;

use crate::ring::Ring;

/// What a VM may have written that has not appeared yet, in bytes. Past it the VM's UART stops taking bytes.
pub(crate) const OUTPUT: usize = 4096;
/// What may have been typed that a VM has not read yet, in bytes.
const INPUT: usize = 256;

/// A VM's end of the console: what its serial devices write to and read from.
pub struct VmPort {
    output: Mutex<Ring>,
    input: Mutex<Ring>,
    /// There was no room for all of the last write.
    starved: AtomicBool,
    /// Tells whoever owns the [`Mux`](crate::Mux) that there is something to read.
    wake: fn(),
}

impl fmt::Debug for VmPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmPort").finish_non_exhaustive()
    }
}

/// What was read from a [`VmPort`].
pub(crate) enum Output {
    /// So many bytes.
    Bytes(usize),
    /// The VM is writing at this moment: ask again.
    Busy,
}

impl VmPort {
    /// A port that calls `wake` when it has been written to.
    #[must_use]
    pub fn new(wake: fn()) -> Arc<Self> {
        Arc::new(Self {
            output: Mutex::new(Ring::new(OUTPUT)),
            input: Mutex::new(Ring::new(INPUT)),
            starved: AtomicBool::new(false),
            wake,
        })
    }

    /// Whether the VM has written something that has not been read.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.output
            .try_lock()
            .is_none_or(|output| !output.is_empty())
    }

    /// Reads what the VM has written; does not wait for a VM that is writing, which another pCPU may have interrupted.
    pub(crate) fn read_output(&self, buf: &mut [u8]) -> Output {
        match self.output.try_lock() {
            Some(mut output) => Output::Bytes(output.pop(buf)),
            None => Output::Busy,
        }
    }

    /// Whether the VM waits for room, which there now is. Asking forgets it.
    pub(crate) fn take_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed) && self.starved.swap(false, Ordering::Relaxed)
    }

    /// Gives the VM a key; says whether there was room.
    pub(crate) fn type_byte(&self, byte: u8) -> bool {
        self.input.lock().push_byte(byte) == 1
    }
}

impl CharBackend for VmPort {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut output = self.output.lock();
        let taken = match bytes {
            &[byte] => output.push_byte(byte),
            bytes => output.push(bytes),
        };
        if taken < bytes.len() {
            self.starved.store(true, Ordering::Relaxed);
        }
        drop(output);
        if taken > 0 {
            (self.wake)();
        }
        taken
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        self.input.lock().pop(buf)
    }
}
