//! IA32_APIC_BASE: off, xAPIC or x2APIC (Intel SDM volume 3, 12.4.3, 12.4.4 and 12.12.5).

use crate::AccessFault;

/// Where the registers lie in memory. They cannot be moved.
pub(super) const PAGE: u64 = 0xfee0_0000;

/// The vCPU that starts first.
const BSP: u64 = 1 << 8;
/// x2APIC, together with `ENABLE`.
const EXTD: u64 = 1 << 10;
const ENABLE: u64 = 1 << 11;

/// How the local APIC is reached, if at all.
pub(super) use crate::ApicMode as Mode;

impl Mode {
    /// The value of IA32_APIC_BASE on vCPU `cpu`.
    pub(super) fn base(self, cpu: u32) -> u64 {
        let bsp = if cpu == 0 { BSP } else { 0 };
        PAGE | bsp
            | match self {
                Self::Disabled => 0,
                Self::XApic => ENABLE,
                Self::X2Apic => ENABLE | EXTD,
            }
    }

    /// The mode that a write of IA32_APIC_BASE switches to: a transition that SDM figure 12-27 does not show, a reserved bit, or another
    /// address is refused. Who starts first is not decided here.
    pub(super) fn switched(self, base: u64) -> Result<Self, AccessFault> {
        if base & !(BSP | EXTD | ENABLE) != PAGE {
            return Err(AccessFault);
        }
        let next = match (base & ENABLE != 0, base & EXTD != 0) {
            (false, false) => Self::Disabled,
            (true, false) => Self::XApic,
            (true, true) => Self::X2Apic,
            (false, true) => return Err(AccessFault),
        };
        match (self, next) {
            (Self::Disabled, Self::X2Apic) | (Self::X2Apic, Self::XApic) => Err(AccessFault),
            (Self::Disabled | Self::XApic, Self::Disabled | Self::XApic)
            | (Self::XApic | Self::X2Apic, Self::X2Apic)
            | (Self::X2Apic, Self::Disabled) => Ok(next),
        }
    }
}
