//! From the exit's words in the current VMCS (SDM vol. 3, 28.2) to the plain [`Exit`] that both vendors share.
//!
//! Reads only what the exit's reason gives a meaning to.

use axaddrspace::GuestPhysAddr;

use super::{
    exit_info::{VmxExitInfo, VmxExitKind, interrupted_iret},
    exit_reason::VmxExitReason,
    fields::{VmcsReadOnly32, VmcsReadOnly64, VmcsReadOnlyNW},
};
use crate::{
    backend::{ControlAccess, Direction, Exit, Frequent, Instruction, IoExit, NestedFault},
    event::{Event, InterruptInfo, InterruptKind, vector},
};

/// Which of the frequent exits the word is. Those for an instruction are not asked whether they interrupted a delivery: an instruction does not run in one
/// (SDM vol. 3, 28.2.4).
#[inline(always)]
pub(super) fn frequent(raw: u32) -> Frequent {
    const HOST_INTERRUPT: u32 = VmxExitReason::ExternalInterrupt as u32;
    const CPUID: u32 = VmxExitReason::Cpuid as u32;
    const VMCALL: u32 = VmxExitReason::Vmcall as u32;
    const IO: u32 = VmxExitReason::Io as u32;
    const RDMSR: u32 = VmxExitReason::MsrRead as u32;
    const WRMSR: u32 = VmxExitReason::MsrWrite as u32;
    const EPT_VIOLATION: u32 = VmxExitReason::EptViolation as u32;
    const APIC_WRITE: u32 = VmxExitReason::ApicWrite as u32;
    match raw {
        CPUID => Frequent::Cpuid,
        VMCALL => Frequent::Hypercall,
        IO => Frequent::Port,
        RDMSR => Frequent::MsrRead,
        WRMSR => Frequent::MsrWrite,
        HOST_INTERRUPT | EPT_VIOLATION | APIC_WRITE if is_during_delivery() => Frequent::Other,
        HOST_INTERRUPT => Frequent::HostInterrupt,
        EPT_VIOLATION => Frequent::Nested,
        APIC_WRITE => Frequent::LocalWrite,
        _ => Frequent::Other,
    }
}

/// The access to a port that the guest was left for.
#[inline]
pub(super) fn io() -> IoExit {
    IoExit::of_qualification(qualification())
}

/// The nested fault that the guest was left for, if it leaves nothing behind.
#[inline]
pub(super) fn plain_nested() -> Option<NestedFault> {
    let qualification = qualification();
    (!interrupted_iret(qualification)).then(|| nested(qualification))
}

/// Why the guest was left.
pub(super) fn decode(reason: VmxExitReason) -> Exit {
    use VmxExitReason as Reason;
    match reason {
        Reason::ExceptionOrNmi => exception(),
        Reason::ExternalInterrupt => Exit::HostInterrupt,
        // What INIT and SMI mean is the machine's and its firmware's own affair, and over.
        Reason::Init | Reason::IoSmi | Reason::OtherSmi => Exit::HostNmi,
        Reason::TripleFault => Exit::TripleFault,
        Reason::InterruptWindow => Exit::InterruptWindow,
        Reason::NmiWindow => Exit::NmiWindow,
        Reason::PreemptionTimer => Exit::Deadline,
        Reason::TaskSwitch => Exit::TaskSwitch,
        Reason::Cpuid => Exit::Instruction(Instruction::Cpuid),
        Reason::Hlt => Exit::Instruction(Instruction::Hlt),
        Reason::Invd => Exit::Instruction(Instruction::Invd),
        Reason::Wbinvd => Exit::Instruction(Instruction::Wbinvd),
        Reason::Rdpmc => Exit::Instruction(Instruction::Rdpmc),
        Reason::Vmcall => Exit::Instruction(Instruction::Hypercall),
        Reason::Xsetbv => Exit::Instruction(Instruction::Xsetbv),
        Reason::Pause => Exit::Instruction(Instruction::Pause),
        Reason::Getsec
        | Reason::Rsm
        | Reason::Vmclear
        | Reason::Vmlaunch
        | Reason::Vmptrld
        | Reason::Vmptrst
        | Reason::Vmread
        | Reason::Vmresume
        | Reason::Vmwrite
        | Reason::Vmxoff
        | Reason::Vmxon
        | Reason::Invept
        | Reason::Invvpid
        | Reason::Vmfunc
        | Reason::Mwait
        | Reason::Monitor
        | Reason::Encls
        | Reason::Enclv
        | Reason::Pconfig
        | Reason::Umwait
        | Reason::Tpause
        | Reason::Loadiwkey
        | Reason::Seamcall
        | Reason::Tdcall
        | Reason::RdmsrList
        | Reason::WrmsrList => Exit::Instruction(Instruction::Absent),
        Reason::CrAccess => {
            ControlAccess::of_qualification(qualification()).map_or(Exit::Unknown, Exit::Control)
        }
        Reason::Io => Exit::Io(io()),
        Reason::MsrRead => Exit::Msr(Direction::Read),
        Reason::MsrWrite => Exit::Msr(Direction::Write),
        Reason::EptViolation => Exit::Nested(nested(qualification())),
        Reason::ApicAccess => {
            NestedFault::of_apic_access(qualification()).map_or(Exit::Unknown, Exit::Nested)
        }
        Reason::ApicWrite => Exit::LocalWrite(page_offset()),
        Reason::VirtualizedEoi => Exit::LocalEnd(qualification() as u8),
        Reason::TprBelowThreshold => Exit::TaskPriority,
        // Nothing asks for these, or they are failed entries.
        Reason::Sipi
        | Reason::Invlpg
        | Reason::Rdtsc
        | Reason::Rdtscp
        | Reason::DrAccess
        | Reason::InvalidGuestState
        | Reason::MsrLoadFailure
        | Reason::MonitorTrapFlag
        | Reason::EntryMachineCheck
        | Reason::GdtrIdtrAccess
        | Reason::LdtrTrAccess
        | Reason::EptMisconfiguration
        | Reason::Rdrand
        | Reason::Invpcid
        | Reason::Rdseed
        | Reason::PageModificationLogFull
        | Reason::Xsaves
        | Reason::Xrstors
        | Reason::SubPagePermission
        | Reason::EnqcmdPasid
        | Reason::EnqcmdsPasid
        | Reason::BusLock
        | Reason::InstructionTimeout => Exit::Unknown,
    }
}

/// How long the instruction is that caused the exit, which one did.
#[inline(always)]
pub(super) fn instruction_length() -> u8 {
    VmcsReadOnly32::ExitInstructionLength.read() as u8
}

/// Whether the exit interrupted an event's delivery.
#[inline(always)]
fn is_during_delivery() -> bool {
    InterruptInfo::is_valid(VmcsReadOnly32::IdtVectoringInfo.read())
}

/// The event whose delivery the exit interrupted.
pub(super) fn interrupted() -> Option<Event> {
    let raw = VmcsReadOnly32::IdtVectoringInfo.read();
    InterruptInfo::decode(raw, || VmcsReadOnly32::IdtVectoringErrorCode.read())?.event()
}

/// The host vector that must see what an exit as [`Exit::HostNmi`] consumed; `None` for what the host needs not see.
pub(super) fn for_the_host() -> Option<u8> {
    let info = VmxExitInfo::decode(VmcsReadOnly32::ExitReason.read());
    match info.kind {
        VmxExitKind::Exit(VmxExitReason::ExceptionOrNmi) => Some(exit_interrupt()?.vector),
        _ => None,
    }
}

#[inline]
pub(super) fn qualification() -> u64 {
    VmcsReadOnlyNW::ExitQualification.read()
}

fn exit_interrupt() -> Option<InterruptInfo> {
    InterruptInfo::decode(VmcsReadOnly32::ExitInterruptInfo.read(), || {
        VmcsReadOnly32::ExitInterruptErrorCode.read()
    })
}

/// Where in the page of the local APIC's registers the access was that the guest was left for.
#[inline]
pub(super) fn page_offset() -> u16 {
    qualification() as u16 & 0xfff
}

/// Whether the exit is for INT1's exception.
pub(super) fn is_int1() -> bool {
    let kind = exit_interrupt().map(|info| info.kind);
    kind == Some(InterruptKind::PrivilegedSoftwareException)
}

fn exception() -> Exit {
    let Some(info) = exit_interrupt() else {
        return Exit::Unknown;
    };
    match (info.kind, info.vector) {
        (InterruptKind::Nmi, _) | (_, vector::MACHINE_CHECK) => Exit::HostNmi,
        _ => Exit::Exception {
            vector: info.vector,
            error_code: info.error_code,
        },
    }
}

fn nested(qualification: u64) -> NestedFault {
    let gpa = GuestPhysAddr::new(VmcsReadOnly64::GuestPhysicalAddress.read());
    NestedFault::of_qualification(qualification, gpa)
}

#[cfg(test)]
mod tests;
