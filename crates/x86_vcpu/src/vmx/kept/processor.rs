//! A processor that keeps local APICs, as Intel SDM volume 3, chapter 30 "APIC Virtualization and Virtual Interrupts" has it, with what chapters 26 and 27 say of
//! entries and exits beside. No emulator does it right, and few developers have the machine.
//!
//! Its guest does one thing at a time. An interrupt that it takes turns its interrupts off, as an interrupt gate does, and nothing else.

mod accesses;

extern crate std;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering};

use super::{Taken, Wires};
use crate::{
    regs::{GuestRegisters, gpr, rflags},
    testing::ENTRY,
    vmx::{
        controls::{pin, primary, secondary},
        fields::{
            VmcsControl32, VmcsControl64, VmcsField, VmcsGuest32, VmcsGuestNW, VmcsInterrupt16,
            VmcsReadOnly32, VmcsReadOnly64, VmcsReadOnlyNW,
        },
        machine::Fields,
    },
};

/// What the guest does, or what happens meanwhile.
pub(super) enum Deed {
    /// STI or CLI.
    Interrupts(bool),
    /// A MOV to CR8.
    Cr8(u8),
    /// A MOV to the page, of which the processor says whether it virtualizes it.
    Store {
        index: u16,
        value: u32,
        form: Form,
    },
    Load {
        index: u16,
    },
    Wrmsr(u32, u64),
    Rdmsr(u32),
    Halt,
    /// Somebody else does it.
    Elsewhere(Box<dyn FnOnce()>),
    /// The same, right after the guest's STI.
    InShadow(Box<dyn FnOnce()>),
    /// The next event's delivery meets a page that is not there yet.
    Fault,
}

/// Instructions of SSE and the like may exit whatever they access (30.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Unusual,
}

/// The code of a store and of a load by RDI and EAX.
pub(super) const STORE: [u8; 2] = [0x89, 0x07];
pub(super) const LOAD: [u8; 2] = [0x8b, 0x07];
pub(super) const STORE_AT: u64 = ENTRY;
pub(super) const LOAD_AT: u64 = ENTRY + 0x10;

const VALID: u32 = 1 << 31;
const KIND_NMI: u32 = 2;
const HALTED: u64 = 1;
const STI: u64 = 1;

/// Where the registers are, in 16 bytes each.
const VTPR: u16 = 0x08;
const VPPR: u16 = 0x0a;
const VISR: u16 = 0x10;
const VIRR: u16 = 0x20;

/// Exit reasons.
mod reason {
    pub(super) const EXTERNAL_INTERRUPT: u64 = 1;
    pub(super) const INTERRUPT_WINDOW: u64 = 7;
    pub(super) const NMI_WINDOW: u64 = 8;
    pub(super) const HLT: u64 = 12;
    pub(super) const CR_ACCESS: u64 = 28;
    pub(super) const RDMSR: u64 = 31;
    pub(super) const WRMSR: u64 = 32;
    pub(super) const TPR_BELOW_THRESHOLD: u64 = 43;
    pub(super) const APIC_ACCESS: u64 = 44;
    pub(super) const VIRTUALIZED_EOI: u64 = 45;
    pub(super) const EPT_VIOLATION: u64 = 48;
    pub(super) const APIC_WRITE: u64 = 56;
}

/// The guest is left, or goes on.
enum Flow {
    Exits,
    GoesOn,
}

/// Where a read that exited finds its value.
enum Answer {
    Eax,
    EdxEax,
}

pub(super) struct Processor {
    pub(super) deed: Option<Deed>,
    /// What the guest took.
    pub(super) taken: Vec<Taken>,
    /// What it read last.
    pub(super) read: Option<u64>,
    awaited: Option<Answer>,
    faults: bool,
    wires: Arc<Wires>,
}

impl Processor {
    pub(super) fn new(wires: Arc<Wires>) -> Self {
        Self {
            deed: None,
            taken: Vec::new(),
            read: None,
            awaited: None,
            faults: false,
            wires,
        }
    }

    /// From an entry to an exit.
    pub(super) fn turn(
        &mut self,
        registers: &mut GuestRegisters,
        fields: &mut Fields<'_>,
        injected: u32,
    ) {
        let mut turn = Turn {
            processor: self,
            registers,
            fields,
            recognized: false,
        };
        turn.check_controls(injected);
        if let Flow::GoesOn = turn.begin(injected) {
            while let Flow::GoesOn = turn.step() {}
        }
    }
}

struct Turn<'a, 'b> {
    processor: &'a mut Processor,
    registers: &'a mut GuestRegisters,
    fields: &'a mut Fields<'b>,
    /// A pending virtual interrupt is (30.2.1).
    recognized: bool,
}

/// A register of the page at this host-physical address.
fn word(page: u64, index: u16) -> &'static AtomicU32 {
    let at = core::ptr::with_exposed_provenance::<AtomicU32>(page as usize + 16 * index as usize);
    // SAFETY: the frames of the tests' host are never given back, and the page that the VMCS names consists of atomic words.
    unsafe { &*at }
}

impl Turn<'_, '_> {
    fn get<F: VmcsField>(&self, field: F) -> u64 {
        self.fields.get(field.encoding())
    }

    fn set<F: VmcsField>(&mut self, field: F, value: u64) {
        self.fields.set(field.encoding(), value);
    }

    fn has(&self, control: u32) -> bool {
        self.get(VmcsControl32::SecondaryProcBased) as u32 & control != 0
    }

    fn has_primary(&self, control: u32) -> bool {
        self.get(VmcsControl32::PrimaryProcBased) as u32 & control != 0
    }

    fn delivers(&self) -> bool {
        self.has(secondary::VIRTUAL_INTERRUPT_DELIVERY)
    }

    fn page(&self, index: u16) -> u32 {
        word(self.get(VmcsControl64::VirtualApicAddress), index).load(Ordering::Relaxed)
    }

    fn set_page(&self, index: u16, value: u32) {
        word(self.get(VmcsControl64::VirtualApicAddress), index).store(value, Ordering::Relaxed);
    }

    fn highest(&self, set: u16) -> u8 {
        let last = (0..8).rev().find_map(|n| {
            let bits = self.page(set + n);
            (bits != 0).then(|| n as u8 * 32 + 31 - bits.leading_zeros() as u8)
        });
        last.unwrap_or(0)
    }

    fn put(&self, set: u16, vector: u8, present: bool) {
        let (index, bit) = (set + u16::from(vector / 32), 1 << (vector % 32));
        let others = self.page(index) & !bit;
        self.set_page(index, if present { others | bit } else { others });
    }

    fn rvi(&self) -> u8 {
        self.get(VmcsInterrupt16::Status) as u8
    }

    fn svi(&self) -> u8 {
        (self.get(VmcsInterrupt16::Status) >> 8) as u8
    }

    fn set_status(&mut self, rvi: u8, svi: u8) {
        self.set(
            VmcsInterrupt16::Status,
            u64::from(svi) << 8 | u64::from(rvi),
        );
    }

    fn flag(&self) -> bool {
        self.get(VmcsGuestNW::Rflags) & rflags::INTERRUPT != 0
    }

    fn set_flag(&mut self, on: bool) {
        let others = self.get(VmcsGuestNW::Rflags) & !rflags::INTERRUPT;
        let flag = if on { rflags::INTERRUPT } else { 0 };
        self.set(VmcsGuestNW::Rflags, others | flag);
    }

    fn is_shadowed(&self) -> bool {
        self.get(VmcsGuest32::Interruptibility) & STI != 0
    }

    fn is_halted(&self) -> bool {
        self.get(VmcsGuest32::ActivityState) == HALTED
    }

    /// What an entry checks of the controls (27.2.1.1) and of the injection (27.3.1.4), and what software promises that leaves all to the processor.
    fn check_controls(&self, injected: u32) {
        let tpr = self.has_primary(primary::USE_TPR_SHADOW);
        let x2apic = self.has(secondary::VIRTUALIZE_X2APIC_MODE);
        let accesses = self.has(secondary::VIRTUALIZE_APIC_ACCESSES);
        let needs_tpr =
            x2apic || self.has(secondary::APIC_REGISTER_VIRTUALIZATION) || self.delivers();
        assert!(tpr || !needs_tpr);
        assert!(!(x2apic && accesses));
        let pin = self.get(VmcsControl32::PinBased) as u32;
        assert!(!self.delivers() || pin & pin::EXTERNAL_INTERRUPT_EXITING != 0);
        if tpr && !self.delivers() {
            let threshold = self.get(VmcsControl32::TprThreshold);
            assert!(threshold < 16);
            assert!(accesses || threshold <= u64::from(self.page(VTPR) as u8 >> 4));
        }
        if self.delivers() {
            assert_eq!(self.rvi(), self.highest(VIRR), "RVI");
            assert_eq!(self.svi(), self.highest(VISR), "SVI");
        }
        if injected & VALID != 0 {
            let is_nmi = injected >> 8 & 7 == KIND_NMI;
            assert!(is_nmi || self.flag());
            assert!(!self.is_shadowed());
        }
    }

    fn begin(&mut self, injected: u32) -> Flow {
        if let Some(answer) = self.processor.awaited.take() {
            let [eax, edx] = [gpr::RAX, gpr::RDX].map(|n| self.registers.gpr[n] & 0xffff_ffff);
            self.processor.read = Some(match answer {
                Answer::Eax => eax,
                Answer::EdxEax => edx << 32 | eax,
            });
        }
        if injected & VALID != 0
            && let Flow::Exits = self.take(injected)
        {
            return Flow::Exits;
        }
        // 27.3.2.5.
        if self.delivers() {
            self.virtualize_ppr();
            self.evaluate();
            return Flow::GoesOn;
        }
        // 27.7.7. Without the control it was checked before.
        match self.has(secondary::VIRTUALIZE_APIC_ACCESSES) {
            true => self.compare_threshold(),
            false => Flow::GoesOn,
        }
    }

    /// What comes between instructions, or the next one.
    fn step(&mut self) -> Flow {
        if self.processor.wires.take_kick() {
            return self.exit(reason::EXTERNAL_INTERRUPT, 0);
        }
        let open = !self.is_shadowed();
        if open && self.has_primary(primary::NMI_WINDOW_EXITING) {
            return self.exit(reason::NMI_WINDOW, 0);
        }
        if open && self.flag() {
            if self.has_primary(primary::INTERRUPT_WINDOW_EXITING) {
                return self.exit(reason::INTERRUPT_WINDOW, 0);
            }
            if self.recognized {
                return self.deliver();
            }
        }
        let deed = self.processor.deed.take();
        match deed {
            Some(Deed::Elsewhere(happens)) => {
                happens();
                Flow::GoesOn
            }
            // Instructions that nobody sees.
            _ if !open => {
                self.set(VmcsGuest32::Interruptibility, 0);
                self.processor.deed = deed;
                Flow::GoesOn
            }
            Some(deed) if !self.is_halted() => self.execute(deed),
            Some(_) | None => {
                self.processor.wires.end_round();
                self.exit(reason::EXTERNAL_INTERRUPT, 0)
            }
        }
    }

    fn execute(&mut self, deed: Deed) -> Flow {
        match deed {
            Deed::Interrupts(on) => self.set_flag(on),
            Deed::Cr8(class) => return self.write_cr8(class),
            Deed::Store { index, value, form } => return self.store(index, value, form),
            Deed::Load { index } => return self.load(index),
            Deed::Wrmsr(number, value) => return self.write_msr(number, value),
            Deed::Rdmsr(number) => return self.read_msr(number),
            Deed::Halt => {
                if self.has_primary(primary::HLT_EXITING) {
                    self.set(VmcsReadOnly32::ExitInstructionLength, 1);
                    return self.exit(reason::HLT, 0);
                }
                self.set(VmcsGuest32::ActivityState, HALTED);
            }
            Deed::Elsewhere(happens) => happens(),
            Deed::InShadow(happens) => {
                if !self.flag() {
                    self.set(VmcsGuest32::Interruptibility, STI);
                }
                self.set_flag(true);
                happens();
            }
            Deed::Fault => self.processor.faults = true,
        }
        Flow::GoesOn
    }

    fn exit(&mut self, reason: u64, qualification: u64) -> Flow {
        self.set(VmcsReadOnly32::ExitReason, reason);
        self.set(VmcsReadOnlyNW::ExitQualification, qualification);
        Flow::Exits
    }

    /// An event goes through the guest's table. `info`: as an injection tells of it.
    fn take(&mut self, info: u32) -> Flow {
        self.set(VmcsGuest32::ActivityState, 0);
        if core::mem::take(&mut self.processor.faults) {
            self.set(VmcsReadOnly32::IdtVectoringInfo, info.into());
            self.set(VmcsReadOnly64::GuestPhysicalAddress, 0x7000);
            return self.exit(reason::EPT_VIOLATION, 0x182);
        }
        let taken = if info >> 8 & 7 == KIND_NMI {
            Taken::Nmi
        } else {
            self.set_flag(false);
            Taken::Interrupt(info as u8)
        };
        self.processor.taken.push(taken);
        Flow::GoesOn
    }

    /// 30.1.3.
    fn virtualize_ppr(&mut self) {
        let (tpr, svi) = (self.page(VTPR) as u8, self.svi());
        let ppr = if tpr >> 4 >= svi >> 4 {
            tpr
        } else {
            svi & 0xf0
        };
        self.set_page(VPPR, ppr.into());
    }

    /// 30.2.1.
    fn evaluate(&mut self) {
        self.recognized = !self.has_primary(primary::INTERRUPT_WINDOW_EXITING)
            && self.rvi() >> 4 > self.page(VPPR) as u8 >> 4;
    }

    /// 30.2.2.
    fn deliver(&mut self) -> Flow {
        let vector = self.rvi();
        self.put(VISR, vector, true);
        self.set_page(VPPR, (vector & 0xf0).into());
        self.put(VIRR, vector, false);
        self.set_status(self.highest(VIRR), vector);
        self.recognized = false;
        self.take(VALID | u32::from(vector))
    }

    fn compare_threshold(&mut self) -> Flow {
        let threshold = self.get(VmcsControl32::TprThreshold) & 0xf;
        if threshold > u64::from(self.page(VTPR) as u8 >> 4) {
            self.exit(reason::TPR_BELOW_THRESHOLD, 0)
        } else {
            Flow::GoesOn
        }
    }

    /// 30.1.2.
    fn virtualize_tpr(&mut self) -> Flow {
        if !self.delivers() {
            return self.compare_threshold();
        }
        self.virtualize_ppr();
        self.evaluate();
        Flow::GoesOn
    }

    /// 30.1.4.
    fn virtualize_eoi(&mut self) -> Flow {
        let vector = self.svi();
        self.put(VISR, vector, false);
        self.set_status(self.rvi(), self.highest(VISR));
        self.virtualize_ppr();
        let bitmap = [
            VmcsControl64::EoiExitBitmap0,
            VmcsControl64::EoiExitBitmap1,
            VmcsControl64::EoiExitBitmap2,
            VmcsControl64::EoiExitBitmap3,
        ];
        if self.get(bitmap[usize::from(vector / 64)]) >> (vector % 64) & 1 != 0 {
            return self.exit(reason::VIRTUALIZED_EOI, vector.into());
        }
        self.evaluate();
        Flow::GoesOn
    }

    /// 30.1.5.
    fn virtualize_self_ipi(&mut self, vector: u8) -> Flow {
        self.put(VIRR, vector, true);
        self.set_status(self.rvi().max(vector), self.svi());
        self.evaluate();
        Flow::GoesOn
    }
}
