//! What most accesses need to know of a UART, so that they need neither its lock nor its state.
//!
//! Nearly all that a driver does is to read the line status and to write a byte. Mostly neither changes the registers: the status reports no error, which a
//! read would forget, and the byte goes on to the backend at once. Whether that is so is kept here by who has the lock, and by nobody else. It
//! may say less than is so, but never more: then the access takes the lock and looks itself.
//!
//! An access that goes by what was so a moment ago, while another vCPU's changes it, comes before that one.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::state::State;

/// What can be told of a [`State`] at a glance.
#[derive(Debug)]
pub(super) struct Glance {
    /// The line status that a read finds, if it changes nothing; else 0, which is no status of a transmitter that is idle.
    line_status: AtomicU8,
    /// Whether a byte that the backend takes has passed the transmitter without a change.
    transparent: AtomicBool,
}

impl Glance {
    pub(super) const fn of(state: &State) -> Self {
        Self {
            line_status: AtomicU8::new(match state.quiet_line_status() {
                Some(status) => status,
                None => 0,
            }),
            transparent: AtomicBool::new(state.is_transparent()),
        }
    }

    /// Lets it say what is so of `state`, which is locked.
    pub(super) fn follow(&self, state: &State) {
        let Self {
            line_status,
            transparent,
        } = Self::of(state);
        self.line_status
            .store(line_status.into_inner(), Ordering::Relaxed);
        self.transparent
            .store(transparent.into_inner(), Ordering::Relaxed);
    }

    /// The line status, if reading it changes nothing.
    #[inline(always)]
    pub(super) fn line_status(&self) -> Option<u8> {
        match self.line_status.load(Ordering::Relaxed) {
            0 => None,
            status => Some(status),
        }
    }

    /// Whether a byte for the transmitter is the backend's alone, if that takes it.
    #[inline(always)]
    pub(super) fn is_transparent(&self) -> bool {
        self.transparent.load(Ordering::Relaxed)
    }
}
