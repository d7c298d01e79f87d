//! The guest of the machine made of memory: at each VMRUN the next step of its script changes the VMCB as the hardware would.

extern crate std;

use alloc::{boxed::Box, collections::VecDeque};
use core::cell::RefCell;

use axaddrspace::AxMmHal;

use super::{
    exit_code,
    vmcb::{Vmcb, VmcbPages},
};
use crate::regs::GuestRegisters;

/// What a guest does until it exits.
type Step = Box<dyn FnOnce(&mut GuestRegisters, &mut Vmcb)>;

std::thread_local! {
    static SCRIPT: RefCell<VecDeque<Step>> = const { RefCell::new(VecDeque::new()) };
}

/// Adds a step to this thread's script.
#[cfg(test)]
pub(super) fn then(step: impl FnOnce(&mut GuestRegisters, &mut Vmcb) + 'static) {
    SCRIPT.with_borrow_mut(|script| script.push_back(Box::new(step)));
}

pub(super) fn run<H: AxMmHal>(registers: &mut GuestRegisters, pages: &mut VmcbPages<H>) {
    let vmcb = pages.vmcb_mut();
    (vmcb.control.exit_info1, vmcb.control.exit_info2) = (0, 0);
    vmcb.control.exit_interrupt_info = 0;
    match SCRIPT.with_borrow_mut(VecDeque::pop_front) {
        Some(step) => step(registers, vmcb),
        // A guest without a script runs until the host's timer.
        None => vmcb.control.exit_code = exit_code::INTR,
    }
}

pub(super) fn save_host<H: AxMmHal>(_: &mut VmcbPages<H>) {}

/// A guest's script, for the tests of what is above both vendors.
#[cfg(test)]
pub(crate) mod script {
    use super::{GuestRegisters, Vmcb, exit_code};

    /// What a step sees of the guest.
    pub(crate) struct Guest<'a> {
        pub(crate) registers: &'a mut GuestRegisters,
        pub(super) vmcb: &'a mut Vmcb,
    }

    impl Guest<'_> {
        /// What was injected at this entry, as the manual's word.
        pub(crate) fn injected(&self) -> u64 {
            self.vmcb.control.event_injection
        }

        /// Whether an exit was asked for at the interrupt window.
        pub(crate) fn awaits_window(&self) -> bool {
            self.vmcb
                .control
                .intercepts
                .contains(crate::svm::vmcb::Intercepts::VINTR)
        }

        pub(crate) fn rax(&mut self) -> &mut u64 {
            &mut self.vmcb.save.rax
        }

        pub(crate) fn rip(&mut self) -> &mut u64 {
            &mut self.vmcb.save.rip
        }

        pub(crate) fn rflags(&mut self) -> &mut u64 {
            &mut self.vmcb.save.rflags
        }

        pub(crate) fn cr2(&self) -> u64 {
            self.vmcb.save.cr2
        }

        pub(crate) fn cr4(&mut self) -> &mut u64 {
            &mut self.vmcb.save.cr4
        }

        pub(crate) fn dr6(&self) -> u64 {
            self.vmcb.save.dr6
        }

        pub(crate) fn set_cpl(&mut self, cpl: u8) {
            self.vmcb.save.cpl = cpl;
        }

        /// An event was being delivered, in the manual's word.
        pub(crate) fn interrupted(&mut self, word: u64) {
            self.vmcb.control.exit_interrupt_info = word;
        }

        /// Whether the whole TLB is flushed at this entry.
        pub(crate) fn flushes(&self) -> bool {
            self.vmcb.control.tlb_control != crate::svm::vmcb::TlbControl::NOTHING
        }

        pub(crate) fn asid(&self) -> u32 {
            self.vmcb.control.asid
        }

        /// An exit with these words.
        pub(crate) fn exits(&mut self, code: u64, info1: u64, info2: u64) {
            let control = &mut self.vmcb.control;
            (control.exit_code, control.exit_info1, control.exit_info2) = (code, info1, info2);
        }
    }

    /// The next step: the guest does something, and exits.
    pub(crate) fn then(step: impl FnOnce(&mut Guest<'_>) + 'static) {
        super::then(|registers, vmcb| step(&mut Guest { registers, vmcb }));
    }

    /// The next step is an exit with these words.
    pub(crate) fn exits(code: u64, info1: u64, info2: u64) {
        then(move |guest| guest.exits(code, info1, info2));
    }

    /// Whether all steps were taken.
    pub(crate) fn is_over() -> bool {
        super::SCRIPT.with_borrow(|script| script.is_empty())
    }

    /// What is left of the script is not taken.
    pub(crate) fn forget() {
        super::SCRIPT.with_borrow_mut(|script| script.clear());
    }

    pub(crate) const HOST_INTERRUPT: u64 = exit_code::INTR;
}
