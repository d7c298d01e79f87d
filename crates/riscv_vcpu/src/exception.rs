//! Exceptions that the hypervisor raises in the guest (privileged specification, "Trap Entry"): what a guest does wrong comes back to it.

use crate::csr::{
    SEPC, SSTATUS, VSCAUSE, VSEPC, VSSTATUS, VSTVAL, VSTVEC,
    sstatus::{SIE, SPIE, SPP},
};

/// Causes of exceptions (privileged specification, "Supervisor cause register values after trap").
pub(crate) mod cause {
    pub(crate) const INSTRUCTION_ACCESS_FAULT: u64 = 1;
    pub(crate) const ILLEGAL_INSTRUCTION: u64 = 2;
    pub(crate) const LOAD_ACCESS_FAULT: u64 = 5;
    pub(crate) const STORE_ACCESS_FAULT: u64 = 7;
    pub(crate) const CALL_FROM_VS: u64 = 10;
    pub(crate) const INSTRUCTION_GUEST_PAGE_FAULT: u64 = 20;
    pub(crate) const LOAD_GUEST_PAGE_FAULT: u64 = 21;
    pub(crate) const VIRTUAL_INSTRUCTION: u64 = 22;
    pub(crate) const STORE_GUEST_PAGE_FAULT: u64 = 23;
}

/// An exception for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) cause: u64,
    pub(crate) value: u64,
}

impl Exception {
    /// Takes the guest, whose state is in the CSRs, from its present instruction to its trap handler, as its hart would (privileged
    /// specification, "Trap Entry").
    #[cold]
    pub(crate) fn raise(self) {
        let from_supervisor = SSTATUS.read() & SPP;
        let status = VSSTATUS.read();
        let was_enabled = if status & SIE != 0 { SPIE } else { 0 };
        VSSTATUS.write(status & !(SIE | SPIE | SPP) | was_enabled | from_supervisor);
        VSEPC.write(SEPC.read());
        VSCAUSE.write(self.cause);
        VSTVAL.write(self.value);
        // The low two bits are the mode; exceptions go to the base in each.
        SEPC.write(VSTVEC.read() & !0b11);
        SSTATUS.set(SPP);
    }
}
