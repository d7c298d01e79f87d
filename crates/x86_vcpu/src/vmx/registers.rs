//! The registers by the names that the shared part has for them: in the VMCS, in its controls, in the processor, or in memory.

use axvcpu::AxVCpuHal;

use super::{
    fields::{VmcsControlNW, VmcsGuest32, VmcsGuest64, VmcsGuestNW},
    vcpu::VmxVcpu,
};
use crate::{
    cr::{cr0, cr4},
    hardware, msr,
    regs::Register,
};

/// These bits of CR0 the guest changes without an exit: the processor does, and checks, all that follows.
pub(super) const GUESTS_CR0: u64 =
    cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::WP | cr0::AM | cr0::PG;

/// The same for CR4. What CPUID hides from some guest, and what the host must know of, is not among them: its write exits and is checked.
pub(super) const GUESTS_CR4: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT;

/// The place of a register in [`msr::SWITCHED`].
const fn place(number: u32) -> usize {
    let mut place = 0;
    while msr::SWITCHED[place] != number {
        place += 1;
    }
    place
}

/// Where the shared part's name for a register leads.
enum Place {
    Guest(VmcsGuestNW),
    Switched(usize),
}

const fn natural_place(register: Register) -> Option<Place> {
    use msr::number::{CSTAR, KERNEL_GS_BASE, LSTAR, SFMASK, STAR};
    Some(match register {
        Register::Rip => Place::Guest(VmcsGuestNW::Rip),
        Register::Rsp => Place::Guest(VmcsGuestNW::Rsp),
        Register::Rflags => Place::Guest(VmcsGuestNW::Rflags),
        Register::Cr3 => Place::Guest(VmcsGuestNW::Cr3),
        Register::Dr7 => Place::Guest(VmcsGuestNW::Dr7),
        Register::SysenterEsp => Place::Guest(VmcsGuestNW::SysenterEsp),
        Register::SysenterEip => Place::Guest(VmcsGuestNW::SysenterEip),
        Register::Star => Place::Switched(const { place(STAR) }),
        Register::Lstar => Place::Switched(const { place(LSTAR) }),
        Register::Cstar => Place::Switched(const { place(CSTAR) }),
        Register::Sfmask => Place::Switched(const { place(SFMASK) }),
        Register::KernelGsBase => Place::Switched(const { place(KERNEL_GS_BASE) }),
        Register::Cr0
        | Register::Cr2
        | Register::Cr4
        | Register::Efer
        | Register::Pat
        | Register::Dr6
        | Register::SysenterCs => return None,
    })
}

impl<H: AxVCpuHal> VmxVcpu<H> {
    /// What the guest sees in `register`.
    #[inline]
    pub(super) fn register(&self, register: Register) -> u64 {
        match register {
            Register::Cr0 => {
                let own = self.guest.read(VmcsGuestNW::Cr0) & GUESTS_CR0;
                own | self.cr0_shadow & !GUESTS_CR0
            }
            Register::Cr4 => {
                let own = self.guest.read(VmcsGuestNW::Cr4) & GUESTS_CR4;
                own | self.cr4_shadow & !GUESTS_CR4
            }
            Register::Cr2 if self.is_loaded() => hardware::read_cr2(),
            Register::Cr2 => self.cr2,
            Register::Dr6 if self.is_loaded() => hardware::read_dr6(),
            Register::Dr6 => self.dr6,
            Register::Efer => self.guest.read(VmcsGuest64::Efer),
            Register::Pat => self.guest.read(VmcsGuest64::Pat),
            Register::SysenterCs => u64::from(self.guest.read(VmcsGuest32::SysenterCs)),
            _ => match natural_place(register) {
                Some(Place::Guest(field)) => self.guest.read(field),
                Some(Place::Switched(place)) => self.switched(place),
                None => 0,
            },
        }
    }

    /// Changes what the guest sees.
    #[inline]
    pub(super) fn set_register(&mut self, register: Register, value: u64) {
        match register {
            Register::Cr0 => self.set_cr0(value),
            Register::Cr4 => self.set_cr4(value),
            Register::Cr2 => {
                self.cr2 = value;
                if self.is_loaded() {
                    hardware::write_cr2(value);
                }
            }
            Register::Dr6 => {
                self.dr6 = value;
                if self.is_loaded() {
                    hardware::write_dr6(value);
                }
            }
            Register::Efer => self.set_efer(value),
            Register::Pat => self.guest.write(VmcsGuest64::Pat, value),
            Register::SysenterCs => self.guest.write(VmcsGuest32::SysenterCs, value as u32),
            _ => match natural_place(register) {
                Some(Place::Guest(field)) => self.guest.write(field, value),
                Some(Place::Switched(place)) => self.set_switched(place, value),
                None => {}
            },
        }
    }

    /// CR0 as the processor must hold it where the guest sees `value`. Caches stay on: EPT says what is cached.
    fn hardware_cr0(&self, value: u64) -> u64 {
        let free = cr0::PE | cr0::PG;
        (value | self.capabilities.cr0.must_be_set & !free) & !(cr0::CD | cr0::NW)
    }

    /// CR4 as the processor must hold it. A machine check while MCE is clear would shut the processor down.
    fn hardware_cr4(&self, value: u64) -> u64 {
        value | self.capabilities.cr4.must_be_set | cr4::MCE
    }

    pub(super) fn set_cr0(&mut self, value: u64) {
        self.cr0_shadow = value;
        self.guest.write(VmcsGuestNW::Cr0, self.hardware_cr0(value));
        if self.is_loaded() {
            VmcsControlNW::Cr0ReadShadow.write(value);
        }
    }

    pub(super) fn set_cr4(&mut self, value: u64) {
        self.cr4_shadow = value;
        self.guest.write(VmcsGuestNW::Cr4, self.hardware_cr4(value));
        if self.is_loaded() {
            VmcsControlNW::Cr4ReadShadow.write(value);
        }
    }

    fn set_efer(&mut self, value: u64) {
        self.guest.write(VmcsGuest64::Efer, value);
        if self.is_loaded() {
            self.write_entry_controls();
        }
    }

    /// The register that [`msr::SWITCHED`] has at `place`.
    fn switched(&self, place: usize) -> u64 {
        if self.is_loaded() {
            hardware::read_msr(msr::SWITCHED[place])
        } else {
            self.switched[place]
        }
    }

    fn set_switched(&mut self, place: usize, value: u64) {
        self.switched[place] = value;
        if self.is_loaded() {
            hardware::write_msr(msr::SWITCHED[place], value);
        }
    }
}
