//! The local APIC as the processor keeps it (SDM vol. 3, chapter 30 "APIC Virtualization and Virtual Interrupts").
//!
//! How much it keeps is one of four: nothing; the TPR shadow alone, with a threshold for what it holds back; registers; or everything. From registers on the
//! controls follow the mode:
//!
//! | mode | virtualized |
//! |---|---|
//! | xAPIC | accesses to the APIC-access page and registers; with everything, interrupts |
//! | x2APIC | the MSRs that the bitmap lets through; with everything, interrupts |
//! | none | accesses to the APIC-access page: all but those of the task priority exit, since nothing is there |

use axaddrspace::HostPhysAddr;
use axdevice::{ApicMode, HandOver, Keeps, Standing};

use super::{
    caps::VmxCapabilities,
    controls::{primary, secondary},
    fields::{VmcsControl32, VmcsControl64, VmcsInterrupt16},
    guest_state::Home,
    msr_bitmap::VirtualMsrs,
    percpu,
    vmcs::Forget,
};
use crate::{LocalApicHardware, backend::VendorConfig};

/// What of a local APIC the processor keeps, and what the VMCS says of that.
#[derive(Debug)]
pub(super) struct VirtualApic {
    keeps: Option<Keeps>,
    /// The virtual-APIC page.
    registers: HostPhysAddr,
    /// The APIC-access page.
    stand_in: HostPhysAddr,
    /// The secondary controls without it.
    secondary: u32,
    mode: ApicMode,
    /// RVI and SVI, while the VMCS does not hold them.
    status: u16,
    levels: [u64; 4],
    threshold: u8,
}

/// The secondary controls of a mode.
const fn controls(keeps: Option<Keeps>, mode: ApicMode) -> u32 {
    let always = match keeps {
        None | Some(Keeps::TaskPriority) => return 0,
        Some(Keeps::Registers) => secondary::APIC_REGISTER_VIRTUALIZATION,
        Some(Keeps::Everything) => {
            secondary::APIC_REGISTER_VIRTUALIZATION | secondary::VIRTUAL_INTERRUPT_DELIVERY
        }
    };
    match mode {
        ApicMode::Disabled => secondary::VIRTUALIZE_APIC_ACCESSES,
        ApicMode::XApic => secondary::VIRTUALIZE_APIC_ACCESSES | always,
        ApicMode::X2Apic => secondary::VIRTUALIZE_X2APIC_MODE | always,
    }
}

impl VirtualApic {
    /// As `config` asks for; `None`: the processor cannot.
    pub(super) fn new(capabilities: &VmxCapabilities, config: &VendorConfig) -> Option<Self> {
        const NONE: HostPhysAddr = HostPhysAddr::new(0);
        let (hardware, registers) = config.local.unwrap_or((LocalApicHardware::Nothing, NONE));
        let keeps = hardware.keeps();
        let stand_in = match hardware {
            LocalApicHardware::Nothing | LocalApicHardware::TaskPriority => NONE,
            LocalApicHardware::Registers { stand_in }
            | LocalApicHardware::Everything { stand_in } => stand_in,
        };
        (keeps <= capabilities.keeps).then_some(Self {
            keeps,
            registers,
            stand_in,
            secondary: capabilities.secondary,
            mode: ApicMode::Disabled,
            status: 0,
            levels: [0; 4],
            threshold: 0,
        })
    }

    /// The primary controls that follow from `negotiated`.
    pub(super) const fn primary(&self, negotiated: u32) -> u32 {
        match self.keeps {
            None => negotiated,
            Some(_) => {
                negotiated & !(primary::CR8_LOAD_EXITING | primary::CR8_STORE_EXITING)
                    | primary::USE_TPR_SHADOW
            }
        }
    }

    /// Whether interrupts are the processor's.
    fn has_interrupts(&self) -> bool {
        self.keeps == Some(Keeps::Everything)
    }

    /// Writes all of it, once in a VMCS's life.
    pub(super) fn prepare(&self) {
        self.write_controls();
        if self.keeps.is_some() {
            VmcsControl64::VirtualApicAddress.write(self.registers.as_u64());
            VmcsControl32::TprThreshold.write(self.threshold.into());
        }
        if self.keeps >= Some(Keeps::Registers) {
            VmcsControl64::ApicAccessAddress.write(self.stand_in.as_u64());
        }
        if self.has_interrupts() {
            self.write_levels();
        }
    }

    fn write_controls(&self) {
        VmcsControl32::SecondaryProcBased.write(self.secondary | controls(self.keeps, self.mode));
    }

    /// Which vectors' ends exit.
    fn write_levels(&self) {
        let bitmap = [
            VmcsControl64::EoiExitBitmap0,
            VmcsControl64::EoiExitBitmap1,
            VmcsControl64::EoiExitBitmap2,
            VmcsControl64::EoiExitBitmap3,
        ];
        for (field, word) in bitmap.into_iter().zip(self.levels) {
            field.write(word);
        }
    }

    /// The VMCS, which is current, holds the guest's state from now on.
    pub(super) fn load(&self) {
        if self.has_interrupts() {
            VmcsInterrupt16::Status.write(self.status);
        }
    }

    /// The opposite.
    pub(super) fn save(&mut self) {
        if self.has_interrupts() {
            self.status = VmcsInterrupt16::Status.read();
        }
    }

    /// What changed; the VMCS is current, and whether it holds the guest's state says `home`. The answer: the mode, if it is another.
    pub(super) fn take_over(&mut self, news: HandOver, home: Home) -> Option<ApicMode> {
        match news {
            HandOver::Nothing => None,
            HandOver::Requests(vector) => {
                let [requested, served] = self.status(home).to_le_bytes();
                self.set_status(home, [requested.max(vector), served]);
                None
            }
            HandOver::All(standing) => self.stand(standing, home),
        }
    }

    #[cold]
    fn stand(&mut self, standing: Standing, home: Home) -> Option<ApicMode> {
        if self.has_interrupts() {
            self.set_status(home, [standing.requested, standing.served]);
            self.levels = standing.levels;
            self.write_levels();
        }
        if self.mode == standing.mode {
            return None;
        }
        if self.mode == ApicMode::X2Apic && self.keeps >= Some(Keeps::Registers) {
            // What the guest found of the APIC-access page as memory may be cached, and would be found again (SDM vol. 3, "Guidelines for Use of the
            // INVEPT Instruction").
            percpu::forget(Forget::Nested);
        }
        self.mode = standing.mode;
        self.write_controls();
        Some(self.mode)
    }

    fn status(&self, home: Home) -> u16 {
        match home {
            Home::Vmcs => VmcsInterrupt16::Status.read(),
            Home::Memory => self.status,
        }
    }

    fn set_status(&mut self, home: Home, status: [u8; 2]) {
        let status = u16::from_le_bytes(status);
        match home {
            Home::Vmcs => VmcsInterrupt16::Status.write(status),
            Home::Memory => self.status = status,
        }
    }

    /// What of the x2APIC's MSRs the bitmap lets through.
    pub(super) fn msrs(&self) -> VirtualMsrs {
        match (self.keeps, self.mode) {
            (Some(Keeps::Registers), ApicMode::X2Apic) => VirtualMsrs::Registers,
            (Some(Keeps::Everything), ApicMode::X2Apic) => VirtualMsrs::Everything,
            (None | Some(Keeps::TaskPriority), _) | (_, ApicMode::Disabled | ApicMode::XApic) => {
                VirtualMsrs::None
            }
        }
    }

    /// The class below which a task priority exits. The VMCS is current.
    pub(super) fn set_threshold(&mut self, class: u8) {
        if self.threshold != class {
            self.threshold = class;
            VmcsControl32::TprThreshold.write(class.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        HltPolicy,
        vmx::machine::{self, power_on},
    };

    /// In x2APIC mode the guest finds the APIC-access page as memory, which must not stay cached.
    #[test]
    fn accesses_to_the_page_are_known_again_after_x2apic_mode() {
        power_on();
        machine::with(|m| m.load(0x6000)).unwrap();
        let hardware = LocalApicHardware::Registers {
            stand_in: HostPhysAddr::new(0x8000),
        };
        let config = VendorConfig {
            hlt: HltPolicy::Exit,
            longest_turn: u64::MAX,
            local: Some((hardware, HostPhysAddr::new(0x7000))),
        };
        let mut apic = VirtualApic::new(&percpu::capabilities().unwrap(), &config).unwrap();
        for (mode, forgotten) in [
            (ApicMode::XApic, 0),
            (ApicMode::X2Apic, 0),
            (ApicMode::X2Apic, 0),
            (ApicMode::Disabled, 1),
            (ApicMode::XApic, 0),
            (ApicMode::X2Apic, 0),
            (ApicMode::XApic, 1),
        ] {
            let standing = Standing {
                mode,
                requested: 0,
                served: 0,
                levels: [0; 4],
            };
            apic.take_over(HandOver::All(standing), Home::Memory);
            let all = machine::with(|m| core::mem::take(&mut m.forgotten));
            assert_eq!(all, [Forget::Nested][..forgotten], "{mode:?}");
        }
    }
}
