//! From the exit's words in the current VMCS to the plain [`Exit`] that both vendors share.
//!
//! Reads only what the exit's reason gives a meaning to.

use axaddrspace::{GuestPhysAddr, MappingFlags};
use axdevice::LocalApic;

use super::{
    exit_info::{
        ApicAccessInfo, CrAccessInfo, EptViolationInfo, InterruptKind, IoDirection, IoForm,
        VmxExitInfo, VmxExitKind, VmxInterruptInfo, VmxIoExitInfo,
    },
    exit_reason::VmxExitReason,
    fields::{VmcsReadOnly32, VmcsReadOnly64, VmcsReadOnlyNW},
};
use crate::{
    backend::{
        ControlAccess, ControlRegister, Direction, Exit, Frequent, Instruction, IoExit, IoKind,
        NestedFault, NestedPurpose,
    },
    event::{Event, Exception, vector},
};

/// Which of the frequent exits the word is.
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
        HOST_INTERRUPT => Frequent::HostInterrupt,
        CPUID => Frequent::Cpuid,
        VMCALL => Frequent::Hypercall,
        IO => Frequent::Port,
        RDMSR => Frequent::MsrRead,
        WRMSR => Frequent::MsrWrite,
        EPT_VIOLATION => Frequent::Nested,
        APIC_WRITE => Frequent::LocalWrite,
        _ => Frequent::Other,
    }
}

/// The access to a port that the guest was left for.
#[inline]
pub(super) fn io() -> IoExit {
    port_access(VmxIoExitInfo::decode(qualification()))
}

/// The nested fault that the guest was left for, if it leaves nothing behind.
#[inline]
pub(super) fn plain_nested() -> Option<NestedFault> {
    let info = EptViolationInfo::new(qualification());
    (!info.interrupted_iret()).then(|| nested(info))
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
        Reason::CrAccess => control(CrAccessInfo::decode(qualification())),
        Reason::Io => Exit::Io(io()),
        Reason::MsrRead => Exit::Msr(Direction::Read),
        Reason::MsrWrite => Exit::Msr(Direction::Write),
        Reason::EptViolation => Exit::Nested(nested(EptViolationInfo::new(qualification()))),
        Reason::ApicAccess => apic_access(ApicAccessInfo::decode(qualification())),
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

/// How long the instruction is that caused `exit`, if one did.
pub(super) fn length(exit: Exit) -> Option<u8> {
    match exit {
        Exit::Instruction(_) | Exit::Msr(_) | Exit::Control(_) | Exit::Io(_) => {
            Some(instruction_length())
        }
        Exit::HostInterrupt
        | Exit::HostNmi
        | Exit::InterruptWindow
        | Exit::NmiWindow
        | Exit::Deadline
        | Exit::Exception { .. }
        | Exit::TripleFault
        | Exit::ControlInstruction
        | Exit::Nested(_)
        | Exit::LocalWrite(_)
        | Exit::LocalEnd(_)
        | Exit::TaskPriority
        | Exit::TaskSwitch
        | Exit::Refused(_)
        | Exit::Unknown => None,
    }
}

/// Whether the exit interrupted an event's delivery.
#[inline(always)]
pub(super) fn is_during_delivery() -> bool {
    VmcsReadOnly32::IdtVectoringInfo.read() & VmxInterruptInfo::VALID != 0
}

/// The event whose delivery the exit interrupted.
pub(super) fn interrupted() -> Option<Event> {
    let raw = VmcsReadOnly32::IdtVectoringInfo.read();
    let info = VmxInterruptInfo::decode(raw, || VmcsReadOnly32::IdtVectoringErrorCode.read())?;
    match info.kind {
        InterruptKind::External => Some(Event::Interrupt(info.vector)),
        InterruptKind::Nmi => Some(Event::Nmi),
        InterruptKind::HardwareException => Some(Event::Exception(Exception {
            vector: info.vector,
            error_code: info.error_code,
        })),
        InterruptKind::Software
        | InterruptKind::PrivilegedSoftwareException
        | InterruptKind::SoftwareException => Some(Event::Software),
        InterruptKind::Other => None,
    }
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

fn exit_interrupt() -> Option<VmxInterruptInfo> {
    VmxInterruptInfo::decode(VmcsReadOnly32::ExitInterruptInfo.read(), || {
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

fn control(info: CrAccessInfo) -> Exit {
    let register = |cr| match cr {
        0 => Some(ControlRegister::Cr0),
        3 => Some(ControlRegister::Cr3),
        4 => Some(ControlRegister::Cr4),
        8 => Some(ControlRegister::Cr8),
        _ => None,
    };
    let access = match info {
        CrAccessInfo::Write { cr, gpr } => {
            register(cr).map(|register| ControlAccess::Write { register, gpr })
        }
        CrAccessInfo::Read { cr, gpr } => {
            register(cr).map(|register| ControlAccess::Read { register, gpr })
        }
        CrAccessInfo::Clts => Some(ControlAccess::Clts),
        CrAccessInfo::Lmsw { source } => Some(ControlAccess::Lmsw { source }),
    };
    access.map_or(Exit::Unknown, Exit::Control)
}

fn port_access(info: VmxIoExitInfo) -> IoExit {
    IoExit {
        port: info.port,
        width: info.width,
        direction: match info.direction {
            IoDirection::In => Direction::Read,
            IoDirection::Out => Direction::Write,
        },
        kind: match info.form {
            IoForm::Register => IoKind::Register,
            IoForm::String | IoForm::RepeatedString => IoKind::String,
        },
    }
}

/// An access to the local APIC's page that is not virtualized is one to a device.
fn apic_access(info: ApicAccessInfo) -> Exit {
    let (offset, access, purpose) = match info {
        ApicAccessInfo::Read { offset } => (offset, MappingFlags::READ, NestedPurpose::Access),
        ApicAccessInfo::Write { offset } => (offset, MappingFlags::WRITE, NestedPurpose::Access),
        ApicAccessInfo::Fetch { offset } => (offset, MappingFlags::EXECUTE, NestedPurpose::Access),
        // What was being delivered goes with it, and says so.
        ApicAccessInfo::Delivery { offset } => (offset, MappingFlags::READ, NestedPurpose::Access),
        ApicAccessInfo::Physical => (0, MappingFlags::READ, NestedPurpose::PageWalk),
        ApicAccessInfo::Unknown => return Exit::Unknown,
    };
    Exit::Nested(NestedFault {
        gpa: GuestPhysAddr::new(LocalApic::PAGE.as_u64() + u64::from(offset)),
        access,
        purpose,
    })
}

fn nested(info: EptViolationInfo) -> NestedFault {
    let mut access = MappingFlags::empty();
    access.set(MappingFlags::READ, info.is_read());
    access.set(MappingFlags::WRITE, info.is_write());
    access.set(MappingFlags::EXECUTE, info.is_fetch());
    NestedFault {
        gpa: GuestPhysAddr::new(VmcsReadOnly64::GuestPhysicalAddress.read()),
        access,
        purpose: if info.is_page_walk() {
            NestedPurpose::PageWalk
        } else {
            NestedPurpose::Access
        },
    }
}

#[cfg(test)]
mod tests;
