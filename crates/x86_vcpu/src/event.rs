//! What a guest suffers: exceptions, NMIs and interrupts on their way to it.

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
