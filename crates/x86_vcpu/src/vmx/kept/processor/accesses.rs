//! The guest's accesses to its local APIC: by CR8, by the page, and by MSRs.

use core::sync::atomic::Ordering;

use super::{Answer, Flow, Form, LOAD_AT, STORE_AT, Turn, reason, word};
use crate::{
    regs::gpr,
    vmx::{
        controls::{primary, secondary},
        fields::{VmcsControl64, VmcsGuestNW, VmcsReadOnly32, VmcsReadOnly64},
    },
};

const PAGE: u64 = 0xfee0_0000;
/// Where the registers are, in 16 bytes each.
const VTPR: u16 = 0x08;
const VEOI: u16 = 0x0b;
const VICR_LOW: u16 = 0x30;
const VICR_HIGH: u16 = 0x31;
const SELF_IPI: u16 = 0x3f;

impl Turn<'_, '_> {
    /// 30.3.
    pub(super) fn write_cr8(&mut self, class: u8) -> Flow {
        assert!(self.has_primary(primary::USE_TPR_SHADOW));
        if self.has_primary(primary::CR8_LOAD_EXITING) {
            self.registers.gpr[gpr::RAX] = class.into();
            self.set(VmcsReadOnly32::ExitInstructionLength, 4);
            return self.exit(reason::CR_ACCESS, 8);
        }
        self.set_page(VTPR, u32::from(class) << 4);
        self.virtualize_tpr()
    }

    /// An instruction for the page, which software must complete.
    fn leave_at(&mut self, index: u16, code: u64, qualifications: [u64; 2]) -> Flow {
        let addr = PAGE + 16 * u64::from(index);
        self.set(VmcsGuestNW::Rip, code);
        self.registers.gpr[gpr::RDI] = addr;
        let [nested, apic] = qualifications;
        if self.has(secondary::VIRTUALIZE_APIC_ACCESSES) {
            return self.exit(reason::APIC_ACCESS, apic << 12 | addr & 0xfff);
        }
        self.set(VmcsReadOnly64::GuestPhysicalAddress, addr);
        self.exit(reason::EPT_VIOLATION, nested | 0x180)
    }

    /// 30.4.2.
    pub(super) fn load(&mut self, index: u16) -> Flow {
        let listed = matches!(
            index,
            0x02 | 0x03 | 0x08 | 0x0b | 0x0d..=0x28 | 0x30..=0x38 | 0x3e
        );
        if self.is_virtualized(index, listed) {
            self.processor.read = Some(self.page(index).into());
            return Flow::GoesOn;
        }
        self.processor.awaited = Some(Answer::Eax);
        self.leave_at(index, LOAD_AT, [1, 0])
    }

    fn is_virtualized(&self, index: u16, listed: bool) -> bool {
        self.has(secondary::VIRTUALIZE_APIC_ACCESSES)
            && self.has_primary(primary::USE_TPR_SHADOW)
            && (index == VTPR || listed && self.has(secondary::APIC_REGISTER_VIRTUALIZATION))
    }

    /// 30.4.3.
    pub(super) fn store(&mut self, index: u16, value: u32, form: Form) -> Flow {
        let listed = matches!(
            index,
            0x02 | 0x08 | 0x0b | 0x0d..=0x0f | 0x28 | 0x30..=0x38 | 0x3e
        );
        if form == Form::Unusual || !self.is_virtualized(index, listed) {
            self.registers.gpr[gpr::RAX] = value.into();
            return self.leave_at(index, STORE_AT, [2, 1]);
        }
        self.set_page(index, value);
        match index {
            VTPR => {
                self.set_page(VTPR, value & 0xff);
                self.virtualize_tpr()
            }
            VEOI if self.delivers() => {
                self.set_page(VEOI, 0);
                self.virtualize_eoi()
            }
            VICR_LOW if self.delivers() && is_to_self(value) => {
                self.virtualize_self_ipi(value as u8)
            }
            VICR_HIGH => {
                self.set_page(VICR_HIGH, value & 0xff00_0000);
                Flow::GoesOn
            }
            _ => self.exit(reason::APIC_WRITE, 16 * u64::from(index)),
        }
    }

    /// Whether an MSR's bit in the half of the bitmap that begins at `half` is set (25.6.9).
    fn is_intercepted(&self, number: u32, half: usize) -> bool {
        let at = half + number as usize / 8;
        let word = word(self.get(VmcsControl64::MsrBitmap) + (at as u64 & !3), 0);
        word.load(Ordering::Relaxed) >> (8 * (at as u32 % 4) + number % 8) & 1 != 0
    }

    /// 30.5.
    pub(super) fn read_msr(&mut self, number: u32) -> Flow {
        if self.is_intercepted(number, 0) {
            self.processor.awaited = Some(Answer::EdxEax);
            self.registers.gpr[gpr::RCX] = number.into();
            self.set(VmcsReadOnly32::ExitInstructionLength, 2);
            return self.exit(reason::RDMSR, 0);
        }
        assert!(self.has(secondary::VIRTUALIZE_X2APIC_MODE), "the host's");
        let index = (number - 0x800) as u16;
        assert!(index == VTPR || self.has(secondary::APIC_REGISTER_VIRTUALIZATION));
        self.processor.read = Some(self.page(index).into());
        Flow::GoesOn
    }

    /// 30.5.
    pub(super) fn write_msr(&mut self, number: u32, value: u64) -> Flow {
        if self.is_intercepted(number, 2048) {
            self.registers.gpr[gpr::RCX] = number.into();
            self.registers.gpr[gpr::RAX] = value & 0xffff_ffff;
            self.registers.gpr[gpr::RDX] = value >> 32;
            self.set(VmcsReadOnly32::ExitInstructionLength, 2);
            return self.exit(reason::WRMSR, 0);
        }
        assert!(self.has(secondary::VIRTUALIZE_X2APIC_MODE), "the host's");
        let index = (number - 0x800) as u16;
        self.set_page(index, value as u32);
        match index {
            VTPR => self.virtualize_tpr(),
            VEOI if self.delivers() => self.virtualize_eoi(),
            SELF_IPI if self.delivers() && value >> 4 != 0 => self.virtualize_self_ipi(value as u8),
            SELF_IPI if self.delivers() => self.exit(reason::APIC_WRITE, 0x3f0),
            _ => panic!("the host's"),
        }
    }
}

/// Whether a command is an edge to the sender itself, with a vector that it may have (30.4.3.2).
fn is_to_self(command: u32) -> bool {
    const MUST_BE_CLEAR: u32 = 0xfff0_0000 | 3 << 16 | 1 << 15 | 1 << 13 | 1 << 12 | 7 << 8;
    command & MUST_BE_CLEAR == 0 && command >> 18 & 3 == 1 && command & 0xf0 != 0
}
