//! Why VMRUN would not have a guest, in words.

use super::{percpu::EFER_SVME, segment::unpack, vmcb::SaveArea};
use crate::cr::{cr0, cr4, efer};

/// Which of VMRUN's checks a state fails (APM 2, "Canonicalization and Consistency Checks").
pub(super) fn refusal(asid: u32, save: &SaveArea) -> &'static str {
    let long = save.cr0 & cr0::PG != 0 && save.efer & efer::LME != 0;
    let cs = unpack(save.cs.attributes);
    if asid == 0 {
        "VMRUN refused the guest: ASID 0 is the host's"
    } else if save.efer & EFER_SVME == 0 {
        "VMRUN refused the guest: EFER.SVME is clear"
    } else if save.cr0 & cr0::CD == 0 && save.cr0 & cr0::NW != 0 {
        "VMRUN refused the guest: CR0.NW is set and CR0.CD clear"
    } else if save.cr0 >> 32 != 0 {
        "VMRUN refused the guest: CR0 has reserved bits"
    } else if save.dr6 >> 32 != 0 || save.dr7 >> 32 != 0 {
        "VMRUN refused the guest: DR6 or DR7 has reserved bits"
    } else if long && save.cr4 & cr4::PAE == 0 {
        "VMRUN refused the guest: long mode without CR4.PAE"
    } else if long && save.cr0 & cr0::PE == 0 {
        "VMRUN refused the guest: long mode without CR0.PE"
    } else if long && cs.is_long() && cs.is_big() {
        "VMRUN refused the guest: CS is both 64-bit and 32-bit"
    } else {
        "VMRUN refused the guest: a control register or an injected event is not valid"
    }
}
