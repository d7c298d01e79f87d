//! Model-specific registers: their numbers, and which of them a guest has.

/// Numbers of MSRs (Intel SDM 4; AMD APM 2, "MSR Cross-Reference").
pub(crate) mod number {
    pub(crate) const SYSENTER_CS: u32 = 0x174;
    pub(crate) const SYSENTER_ESP: u32 = 0x175;
    pub(crate) const SYSENTER_EIP: u32 = 0x176;
    pub(crate) const EFER: u32 = 0xc000_0080;
    pub(crate) const STAR: u32 = 0xc000_0081;
    pub(crate) const LSTAR: u32 = 0xc000_0082;
    pub(crate) const CSTAR: u32 = 0xc000_0083;
    pub(crate) const SFMASK: u32 = 0xc000_0084;
    pub(crate) const FS_BASE: u32 = 0xc000_0100;
    pub(crate) const GS_BASE: u32 = 0xc000_0101;
    pub(crate) const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

use number::{
    CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE, LSTAR, SFMASK, STAR, SYSENTER_CS, SYSENTER_EIP,
    SYSENTER_ESP,
};

/// The MSRs that a guest reads and writes without an exit: both vendors' bitmaps let these and no others through. They are the guest's while it runs.
pub(crate) const PASS_THROUGH: [u32; 10] = [
    SYSENTER_CS,
    SYSENTER_ESP,
    SYSENTER_EIP,
    STAR,
    LSTAR,
    CSTAR,
    SFMASK,
    FS_BASE,
    GS_BASE,
    KERNEL_GS_BASE,
];

/// Those of them that no VMCS holds. The host does not use them, so VMX switches them at `load` and `put`; VMLOAD and VMSAVE know them.
pub(crate) const SWITCHED: [u32; 5] = [STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE];
