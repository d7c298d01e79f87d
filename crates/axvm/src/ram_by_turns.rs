//! A VM's RAM as it is made ready for a new life, which may take long: a piece at a time.
//!
//! A guest may reset its machine at once, again and again. Between two pieces the other tasks of a shared pCPU have their turn, and no lock is
//! held meanwhile.

use core::cmp;

use axaddrspace::{AddrSpace, GuestMemoryError, GuestPhysAddr};
use spin::Mutex;

use crate::{AxVMHal, GuestRam};

/// How much is zeroed or written at once, in bytes.
const PIECE: usize = 256 << 10;

/// The RAM of a VM that does not run.
pub(crate) struct RamByTurns<'a, H: AxVMHal> {
    memory: &'a Mutex<AddrSpace<H::MmHal>>,
}

impl<'a, H: AxVMHal> RamByTurns<'a, H> {
    pub(crate) fn new(memory: &'a Mutex<AddrSpace<H::MmHal>>) -> Self {
        Self { memory }
    }

    /// Zeroes `len` bytes at `addr`.
    pub(crate) fn zero(&mut self, addr: GuestPhysAddr, len: u64) -> Result<(), GuestMemoryError> {
        let (mut next, mut left) = (addr, len);
        while left > 0 {
            let piece = cmp::min(left, PIECE as u64);
            self.memory.lock().loader().zero(next, piece)?;
            (next, left) = (after(next, piece)?, left - piece);
            give_way::<H>();
        }
        Ok(())
    }
}

impl<H: AxVMHal> GuestRam for RamByTurns<'_, H> {
    fn write(&mut self, addr: GuestPhysAddr, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let len = bytes.len() as u64;
        self.memory.lock().loader().check_ram(addr, len)?;
        let mut next = addr;
        for piece in bytes.chunks(PIECE) {
            self.memory.lock().loader().write(next, piece)?;
            next = after(next, piece.len() as u64)?;
            give_way::<H>();
        }
        Ok(())
    }
}

fn after(gpa: GuestPhysAddr, len: u64) -> Result<GuestPhysAddr, GuestMemoryError> {
    gpa.checked_add(len)
        .ok_or(GuestMemoryError::NotRam { gpa, len })
}

fn give_way<H: AxVMHal>() {
    if H::is_turn_over() {
        H::reschedule();
    }
}
