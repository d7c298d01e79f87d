//! An event as the hardware of both vendors tells it, and is told: in the interruption-information fields of a VMCS (Intel SDM 3, "Recording VM-Exit Information",
//! "VM-Entry Controls for Event Injection") and in EVENTINJ and EXITINTINFO of a VMCB (AMD APM 2, "Event Injection").
//!
//! The word is the same. For the error code a VMCS has a field beside it; a VMCB has it in the upper half.

use super::{Event, Exception, vector};

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptKind {
    /// An interrupt from outside.
    External = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// An exception of the processor's.
    HardwareException = 3,
    /// INT n.
    Software = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
    /// No event in the IDT's sense.
    Other = 7,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptInfo {
    /// Its vector.
    pub vector: u8,
    /// Its kind.
    pub kind: InterruptKind,
    /// What it pushes.
    pub error_code: Option<u32>,
}

impl InterruptInfo {
    /// Where the vector is in the word.
    pub(crate) const VECTOR: u32 = 0xff;
    const KIND_SHIFT: u32 = 8;
    const KIND: u32 = 0b111;
    const HAS_ERROR_CODE: u32 = 1 << 11;
    const VALID: u32 = 1 << 31;

    /// Whether the word tells of an event.
    #[inline(always)]
    #[must_use]
    pub const fn is_valid(raw: u32) -> bool {
        raw & Self::VALID != 0
    }

    /// Decodes the word; `None` if it says that there is nothing.
    #[must_use]
    pub fn decode(raw: u32, error_code: impl FnOnce() -> u32) -> Option<Self> {
        if !Self::is_valid(raw) {
            return None;
        }
        Some(Self {
            vector: (raw & Self::VECTOR) as u8,
            kind: match raw >> Self::KIND_SHIFT & Self::KIND {
                0 => InterruptKind::External,
                2 => InterruptKind::Nmi,
                3 => InterruptKind::HardwareException,
                4 => InterruptKind::Software,
                5 => InterruptKind::PrivilegedSoftwareException,
                6 => InterruptKind::SoftwareException,
                _ => InterruptKind::Other,
            },
            error_code: (raw & Self::HAS_ERROR_CODE != 0).then(error_code),
        })
    }

    /// The word.
    #[must_use]
    pub const fn encode(self) -> u32 {
        let error_code = match self.error_code {
            Some(_) => Self::HAS_ERROR_CODE,
            None => 0,
        };
        Self::VALID | error_code | (self.kind as u32) << Self::KIND_SHIFT | self.vector as u32
    }

    /// For the injection of `event`; `None` where its instruction runs again and brings it itself.
    pub(crate) fn of(event: Event, is_protected: impl FnOnce() -> bool) -> Option<Self> {
        let (kind, vector, error_code) = match event {
            Event::Exception(Exception { vector, error_code }) => {
                // Real mode pushes no error codes, and VMX refuses to (SDM 3, "VM-Entry Control Fields").
                let code = error_code.filter(|_| is_protected());
                (InterruptKind::HardwareException, vector, code)
            }
            Event::Nmi => (InterruptKind::Nmi, vector::NMI, None),
            Event::Interrupt(vector) => (InterruptKind::External, vector, None),
            Event::Software => return None,
        };
        Some(Self {
            vector,
            kind,
            error_code,
        })
    }

    /// What was being delivered when the guest exited.
    pub(crate) const fn event(self) -> Option<Event> {
        Some(match (self.kind, self.vector) {
            (InterruptKind::External, vector) => Event::Interrupt(vector),
            (InterruptKind::Nmi, _) => Event::Nmi,
            // SVM tells INT3 and INTO as exceptions too, with RIP at the instruction.
            (InterruptKind::HardwareException, vector::BREAKPOINT | vector::OVERFLOW)
            | (
                InterruptKind::Software
                | InterruptKind::PrivilegedSoftwareException
                | InterruptKind::SoftwareException,
                _,
            ) => Event::Software,
            (InterruptKind::HardwareException, vector) => Event::Exception(Exception {
                vector,
                error_code: self.error_code,
            }),
            (InterruptKind::Other, _) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encodes() {
        for kind in [
            InterruptKind::External,
            InterruptKind::Nmi,
            InterruptKind::HardwareException,
            InterruptKind::Software,
            InterruptKind::PrivilegedSoftwareException,
            InterruptKind::SoftwareException,
            InterruptKind::Other,
        ] {
            for error_code in [None, Some(0x18)] {
                let info = InterruptInfo {
                    vector: 0x0e,
                    kind,
                    error_code,
                };
                assert_eq!(InterruptInfo::decode(info.encode(), || 0x18), Some(info));
            }
        }
        assert_eq!(InterruptInfo::decode(0x7fff_ffff, || 0), None);
    }

    #[test]
    fn events_survive_their_words() {
        let exception = |vector, error_code| Event::Exception(Exception { vector, error_code });
        for (event, word) in [
            (Event::Interrupt(0x30), 0x8000_0030),
            (Event::Nmi, 0x8000_0202),
            (exception(6, None), 0x8000_0306),
            (exception(14, Some(7)), 0x8000_0b0e),
        ] {
            let info = InterruptInfo::of(event, || true).unwrap();
            assert_eq!(info.encode(), word);
            assert_eq!(info.event(), Some(event));
        }
        assert_eq!(InterruptInfo::of(Event::Software, || true), None);
    }

    #[test]
    fn real_mode_has_no_error_codes() {
        let info = InterruptInfo::of(Event::Exception(Exception::GENERAL_PROTECTION), || false);
        assert_eq!(info.unwrap().encode(), 0x8000_030d);
    }

    #[test]
    fn what_instructions_bring_they_bring_again() {
        let event = |raw| InterruptInfo::decode(raw, || 0).unwrap().event();
        // INT n, INT1, INT3, and INT3 and INTO in SVM's words.
        for raw in [0x480, 0x501, 0x603, 0x303, 0x304] {
            assert_eq!(event(0x8000_0000 | raw), Some(Event::Software), "{raw:#x}");
        }
        assert_eq!(event(0x8000_0700), None);
    }
}
