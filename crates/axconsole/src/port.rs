//! A VM's end of the console.

use alloc::sync::Arc;
use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering, fence},
};

use axdevice::CharBackend;
use spin::Mutex;

use crate::ring::{Pushed, Ring};

/// What a VM may have written that has not appeared yet, in bytes. Past it the VM's UART stops taking bytes.
pub(crate) const OUTPUT: usize = 4096;
/// What may have been typed that a VM has not read yet, in bytes.
const INPUT: usize = 256;

/// A VM's end of the console: what its serial devices write to and read from.
pub struct VmPort {
    output: Ring<OUTPUT>,
    /// Held by whoever writes, of the VM's devices and vCPUs.
    writing: Mutex<()>,
    input: Ring<INPUT>,
    /// Held by whoever reads likewise.
    reading: Mutex<()>,
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

impl VmPort {
    /// A port that calls `wake` when it has been written to and nothing was there to be read before.
    #[must_use]
    pub fn new(wake: fn()) -> Arc<Self> {
        Arc::new(Self {
            output: Ring::new(),
            writing: Mutex::new(()),
            input: Ring::new(),
            reading: Mutex::new(()),
            starved: AtomicBool::new(false),
            wake,
        })
    }

    /// Whether the VM has written something that has not been read. If not, it will call `wake`.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads what the VM has written. For the one [`Mux`](crate::Mux) that the port was added to.
    pub(crate) fn read_output(&self, buf: &mut [u8]) -> usize {
        self.output.pop(buf)
    }

    /// Whether the VM waits for room, which there now is. Asking forgets it.
    pub(crate) fn take_starved(&self) -> bool {
        // What was read was read before this is asked, as in `say_starved`.
        fence(Ordering::SeqCst);
        self.starved.load(Ordering::Relaxed) && self.starved.swap(false, Ordering::Relaxed)
    }

    /// Gives the VM a key; says whether there was room. For the one [`Mux`](crate::Mux) that the port was added to.
    pub(crate) fn type_byte(&self, byte: u8) -> bool {
        self.input.push(byte) != Pushed::Refused
    }

    /// The end of `put` when nothing was there to be read before. Apart, as what follows is, so that the others need no stack.
    #[cold]
    #[inline(never)]
    fn put_first(&self) -> Option<()> {
        (self.wake)();
        Some(())
    }

    /// As `put`, which has found no room.
    #[cold]
    #[inline(never)]
    fn put_late(&self, byte: u8) -> Option<()> {
        (self.write(&[byte]) == 1).then_some(())
    }

    /// There was no room: the reader is to say when there is. Who writes then looks once more, for there may be by now.
    #[cold]
    #[inline(never)]
    fn say_starved(&self) {
        self.starved.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

impl CharBackend for VmPort {
    fn write(&self, bytes: &[u8]) -> usize {
        let writing = self.writing.lock();
        let mut taken = 0;
        let mut wakes = false;
        for &byte in bytes {
            let mut pushed = self.output.push(byte);
            if pushed == Pushed::Refused {
                self.say_starved();
                pushed = self.output.push(byte);
            }
            match pushed {
                Pushed::Refused => break,
                Pushed::Behind => {}
                Pushed::First => wakes = true,
            }
            taken += 1;
        }
        drop(writing);
        if wakes {
            (self.wake)();
        }
        taken
    }

    fn put(&self, byte: u8) -> Option<()> {
        let writing = self.writing.lock();
        let pushed = self.output.push(byte);
        drop(writing);
        match pushed {
            Pushed::Behind => Some(()),
            Pushed::First => self.put_first(),
            Pushed::Refused => self.put_late(byte),
        }
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        let _reading = self.reading.lock();
        self.input.pop(buf)
    }
}
