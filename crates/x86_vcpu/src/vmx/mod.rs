//! Intel's VMX.
//!
//! [`VmxVcpu`] is a vCPU's VMCS, [`VmxPerCpuState`] VMX operation on a pCPU. From the hardware up:
//! - `vmcs`, `switch` and `percpu` run the instructions, and are alone in that. On other hosts they drive a processor made of memory.
//! - `fields` gives each field of a VMCS its width, `controls` the controls' bits their names, `guest_state` holds the guest's registers
//!   while no VMCS does.
//! - `caps` negotiates the controls with the processor, `msr_bitmap` fills the bitmap of MSRs.
//! - `exit_reason`, `exit_info` and `exit` decode exits; `instruction_error`, `entry_check` and `refusal` say in words why there was no entry.
//! - `vcpu` is what the shared part sees, with `registers`; `primary` opens windows, `preemption_timer` is the guest's alarm, `virtual_apic` its local APIC, `settle` notes what an exit leaves behind.

mod caps;
mod controls;
mod entry_check;
mod exit;
mod exit_info;
mod exit_reason;
mod fields;
mod guest_state;
mod instruction_error;
#[cfg(test)]
mod kept;
#[cfg(not(target_os = "none"))]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "only tests have a script for it")
)]
mod machine;
mod msr_bitmap;
mod percpu;
mod preemption_timer;
mod primary;
mod refusal;
mod registers;
mod settle;
mod switch;
mod vcpu;
mod virtual_apic;
mod vmcs;

pub use caps::{FixedBits, InvvpidType, MissingCapability, VmxCapabilities, VmxCapabilityWords};
pub use exit_info::{VmxExitInfo, VmxExitKind, interrupted_iret, undid_nmi_blocking};
pub use exit_reason::VmxExitReason;
pub use fields::{
    VmcsControl16, VmcsControl32, VmcsControl64, VmcsControlNW, VmcsGuest16, VmcsGuest32,
    VmcsGuest64, VmcsGuestNW, VmcsHost16, VmcsHost32, VmcsHost64, VmcsHostNW, VmcsInterrupt16,
    VmcsReadOnly32, VmcsReadOnly64, VmcsReadOnlyNW, VmcsTimer32,
};
pub use instruction_error::instruction_error;
pub use percpu::{VmxPerCpuState, VmxRegion};
pub use vcpu::VmxVcpu;
