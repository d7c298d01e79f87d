//! Why VMRUN would not have a guest, in words (APM 2, "Canonicalization and Consistency Checks").

use super::{percpu::EFER_SVME, vmcb::Vmcb};
use crate::{
    cr::efer,
    legal::{GuestState, NO_RULE, rule},
};

/// The bits of EFER beyond the first, by their places: LMSLE, FFXSR, TCE, MCOMMIT, INTWB, UAIE and AIBRSE.
const LATER_EFER: u64 = 1 << 13 | efer::FFXSR | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 20 | 1 << 21;
const EFER: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE | EFER_SVME | LATER_EFER;

/// The first check that the guest fails: of those that only SVM makes, or of the architecture's.
pub(super) fn refusal(vmcb: &Vmcb, state: &GuestState) -> &'static str {
    let checked = check(vmcb).and_then(|()| state.check());
    checked.err().unwrap_or(NO_RULE)
}

fn check(vmcb: &Vmcb) -> Result<(), &'static str> {
    rule!(vmcb.control.asid != 0, "ASID 0 is the host's");
    rule!(vmcb.save.efer & EFER_SVME != 0, "EFER.SVME is clear");
    rule!(vmcb.save.efer & !EFER == 0, "EFER has reserved bits");
    Ok(())
}
