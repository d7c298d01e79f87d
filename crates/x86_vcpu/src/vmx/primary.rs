//! The primary processor-based controls of a vCPU: those that change while it lives.

use super::{controls::primary, fields::VmcsControl32};
use crate::{backend::Window, config::HltPolicy};

/// The word, and what of it the VMCS has.
#[derive(Debug)]
pub(super) struct PrimaryControls {
    /// While nothing is awaited.
    quiet: u32,
    value: u32,
    /// As the VMCS holds it.
    written: u32,
}

const fn exiting(window: Window) -> u32 {
    match window {
        Window::Interrupt => primary::INTERRUPT_WINDOW_EXITING,
        Window::Nmi => primary::NMI_WINDOW_EXITING,
    }
}

impl PrimaryControls {
    /// Of the word that was negotiated, in which HLT exits.
    pub(super) const fn new(negotiated: u32, hlt: HltPolicy) -> Self {
        let quiet = match hlt {
            HltPolicy::Exit => negotiated,
            HltPolicy::Untrapped => negotiated & !primary::HLT_EXITING,
        };
        Self {
            quiet,
            value: quiet,
            written: quiet,
        }
    }

    /// Asks for an exit as soon as `window` is open.
    ///
    /// An interrupt that waits ends HLT at once. The processor would leave the halted guest for the window (SDM vol. 3, 26.2), but not every
    /// emulator does; HLT's own exit comes in that one's place, and is no more.
    pub(super) fn await_open(&mut self, window: Window) {
        self.value |= exiting(window);
        match window {
            Window::Interrupt => self.value |= primary::HLT_EXITING,
            Window::Nmi => {}
        }
    }

    /// Takes that back, or it has been answered.
    pub(super) fn ignore(&mut self, window: Window) {
        self.value &= !exiting(window);
        match window {
            Window::Interrupt => {
                self.value = self.value & !primary::HLT_EXITING | self.quiet & primary::HLT_EXITING;
            }
            Window::Nmi => {}
        }
    }

    /// For a VMCS that has never been written.
    pub(super) fn write(&mut self) {
        VmcsControl32::PrimaryProcBased.write(self.value);
        self.written = self.value;
    }

    /// Brings the VMCS up to date.
    #[inline]
    pub(super) fn update(&mut self) {
        if self.value != self.written {
            self.write();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HLT: u32 = primary::HLT_EXITING;
    const INTERRUPT: u32 = primary::INTERRUPT_WINDOW_EXITING;
    const NMI: u32 = primary::NMI_WINDOW_EXITING;

    #[test]
    fn hlt_exits_while_an_interrupt_waits() {
        let mut controls = PrimaryControls::new(HLT, HltPolicy::Untrapped);
        assert_eq!(controls.value, 0);
        controls.await_open(Window::Nmi);
        assert_eq!(controls.value, NMI);
        controls.await_open(Window::Interrupt);
        assert_eq!(controls.value, NMI | INTERRUPT | HLT);
        controls.ignore(Window::Interrupt);
        assert_eq!(controls.value, NMI);
        controls.ignore(Window::Nmi);
        assert_eq!(controls.value, 0);
    }

    #[test]
    fn hlt_exits_always_where_it_is_to() {
        let mut controls = PrimaryControls::new(HLT, HltPolicy::Exit);
        for window in [Window::Interrupt, Window::Nmi] {
            controls.await_open(window);
            assert_eq!(controls.value & HLT, HLT);
            controls.ignore(window);
            assert_eq!(controls.value, HLT);
        }
    }
}
