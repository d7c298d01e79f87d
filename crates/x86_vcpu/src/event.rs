//! What a guest suffers: exceptions, NMIs and interrupts on their way to it.
//!
//! An [`Exception`] comes from what the guest has just done and goes in before anything else. An event whose delivery an exit interrupted goes in
//! again, and if its delivery raised an exception, the two combine (Intel SDM 3A, "Double Fault Exception"; AMD APM 2, "#DF").

mod info;

pub use info::{InterruptInfo, InterruptKind};

/// The vectors of exceptions.
pub(crate) mod vector {
    pub(crate) const DIVIDE: u8 = 0;
    pub(crate) const DEBUG: u8 = 1;
    pub(crate) const NMI: u8 = 2;
    pub(crate) const BREAKPOINT: u8 = 3;
    pub(crate) const OVERFLOW: u8 = 4;
    pub(crate) const UNDEFINED: u8 = 6;
    pub(crate) const DOUBLE_FAULT: u8 = 8;
    pub(crate) const INVALID_TSS: u8 = 10;
    pub(crate) const SEGMENT_NOT_PRESENT: u8 = 11;
    pub(crate) const STACK: u8 = 12;
    pub(crate) const GENERAL_PROTECTION: u8 = 13;
    pub(crate) const PAGE_FAULT: u8 = 14;
    pub(crate) const ALIGNMENT_CHECK: u8 = 17;
    pub(crate) const MACHINE_CHECK: u8 = 18;

    /// Whether the exception with this vector pushes an error code (APM 2, "Exception Error Codes").
    pub(crate) const fn has_error_code(vector: u8) -> bool {
        matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
    }

    /// What exits of the guest's exceptions, one bit each: those whose delivery can repeat itself for ever without an instruction in between, so that
    /// no interrupt would ever take the guest out; and machine checks, which are the host's.
    pub(crate) const INTERCEPTED: u32 = 1 << DEBUG | 1 << ALIGNMENT_CHECK | 1 << MACHINE_CHECK;
}

/// An exception for the guest. CR2 and DR6 are set beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) vector: u8,
    pub(crate) error_code: Option<u32>,
}

impl Exception {
    /// #GP(0).
    pub(crate) const GENERAL_PROTECTION: Self = Self {
        vector: vector::GENERAL_PROTECTION,
        error_code: Some(0),
    };
    /// #UD.
    pub(crate) const UNDEFINED: Self = Self {
        vector: vector::UNDEFINED,
        error_code: None,
    };
    /// #DF, whose error code is always 0.
    pub(crate) const DOUBLE_FAULT: Self = Self {
        vector: vector::DOUBLE_FAULT,
        error_code: Some(0),
    };
}

/// What is delivered through the guest's interrupt table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Exception(Exception),
    Nmi,
    /// Of a controller, which has been told that it was taken.
    Interrupt(u8),
    /// INT n, INT3, INTO, INT1. RIP is at the instruction, which simply runs again: as an interrupted delivery only, never injected.
    Software,
}

/// How an exception behaves when another one comes in its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

const fn class(exception: Exception) -> Class {
    match exception.vector {
        vector::DOUBLE_FAULT => Class::DoubleFault,
        vector::PAGE_FAULT => Class::PageFault,
        vector::DIVIDE
        | vector::INVALID_TSS
        | vector::SEGMENT_NOT_PRESENT
        | vector::STACK
        | vector::GENERAL_PROTECTION => Class::Contributory,
        _ => Class::Benign,
    }
}

/// What two exceptions make, the second of which came while the first was being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combined {
    /// One of them, or a double fault.
    Exception(Exception),
    /// The processor shuts down.
    TripleFault,
}

/// The table of the manual.
pub(crate) const fn combine(first: Exception, second: Exception) -> Combined {
    match (class(first), class(second)) {
        (Class::DoubleFault, Class::Contributory | Class::PageFault | Class::DoubleFault) => {
            Combined::TripleFault
        }
        (Class::Contributory, Class::Contributory)
        | (Class::PageFault, Class::Contributory | Class::PageFault) => {
            Combined::Exception(Exception::DOUBLE_FAULT)
        }
        // One after the other: the second first, since the first's instruction runs again and raises it again.
        (Class::Benign, _)
        | (Class::DoubleFault, Class::Benign)
        | (Class::Contributory, Class::Benign | Class::PageFault | Class::DoubleFault)
        | (Class::PageFault, Class::Benign | Class::DoubleFault) => Combined::Exception(second),
    }
}

/// Whether the processor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    /// It suffers the exception at the next entry.
    Queued,
    /// It shuts down.
    TripleFault,
}

/// What waits to be given to the guest, but for the interrupts of its controllers.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    exception: Option<Exception>,
    /// What was being delivered.
    interrupted: Option<Event>,
    nmi: bool,
    /// A timer ran before it was due: the guest is not entered sooner than this.
    due: u64,
    /// Whether there is any of these: one look before each entry.
    any: bool,
}

impl EventQueue {
    /// An exit interrupted the delivery of `event`.
    pub(crate) fn interrupted(&mut self, event: Event) {
        self.interrupted = match event {
            Event::Software => None,
            Event::Exception(_) | Event::Nmi | Event::Interrupt(_) => Some(event),
        };
        self.look();
    }

    /// Something has come or gone.
    fn look(&mut self) {
        self.any = !self.is_empty() || self.due != 0;
    }

    /// Whether the delivery of something was interrupted by the last exit.
    pub(crate) const fn is_delivering(&self) -> bool {
        self.interrupted.is_some()
    }

    /// The guest has done something that raises `exception`.
    pub(crate) fn raise(&mut self, exception: Exception) -> Raised {
        let first = match self.interrupted {
            Some(Event::Exception(first)) => Some(first),
            Some(Event::Nmi | Event::Interrupt(_) | Event::Software) | None => self.exception,
        };
        let exception = match first.map(|first| combine(first, exception)) {
            None => exception,
            Some(Combined::Exception(exception)) => exception,
            Some(Combined::TripleFault) => return Raised::TripleFault,
        };
        if let Some(Event::Exception(_)) = self.interrupted {
            self.interrupted = None;
        }
        self.exception = Some(exception);
        self.look();
        Raised::Queued
    }

    /// An NMI arrived. Two that wait are one.
    pub(crate) fn post_nmi(&mut self) {
        self.nmi = true;
        self.look();
    }

    pub(crate) const fn has_nmi(&self) -> bool {
        self.nmi
    }

    /// The NMI that waits, to be given to the guest now.
    pub(crate) fn take_nmi(&mut self) {
        self.nmi = false;
        self.look();
    }

    /// What goes in now, whatever the guest has masked.
    #[inline]
    pub(crate) fn take_forced(&mut self) -> Option<Event> {
        let forced = match self.exception.take() {
            Some(exception) => Some(Event::Exception(exception)),
            None => self.interrupted.take(),
        };
        self.look();
        forced
    }

    /// The guest is not to be entered before `time`.
    pub(crate) fn hold_until(&mut self, time: u64) {
        self.due = self.due.max(time);
        self.look();
    }

    /// Until when the guest was not to be entered, which it is now.
    #[inline]
    pub(crate) fn take_due(&mut self) -> Option<u64> {
        if self.due == 0 {
            return None;
        }
        let due = core::mem::take(&mut self.due);
        self.look();
        Some(due)
    }

    /// Whether nothing waits to be given to the guest.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.exception.is_none() && self.interrupted.is_none() && !self.nmi
    }

    /// Whether there is nothing to do before an entry.
    #[inline]
    pub(crate) const fn is_idle(&self) -> bool {
        !self.any
    }
}

#[cfg(test)]
mod tests;
