use axaddrspace::MappingFlags;
use axvcpu::AccessWidth;

use super::*;
use crate::{
    backend::{ControlRegister, IoKind, NestedPurpose},
    event::Exception,
    vmx::{fields::VmcsField, machine},
};

/// What an exit with these words in the VMCS comes to.
fn exit(reason: VmxExitReason, words: &[(u32, u64)]) -> Exit {
    machine::with(|m| m.load(0x1000)).unwrap();
    for &(encoding, value) in words {
        machine::with(|m| m.set_field(encoding, value));
    }
    decode(reason)
}

fn qualified(reason: VmxExitReason, qualification: u64) -> Exit {
    exit(
        reason,
        &[(VmcsReadOnlyNW::ExitQualification.encoding(), qualification)],
    )
}

fn interrupt(info: u64) -> Exit {
    exit(
        VmxExitReason::ExceptionOrNmi,
        &[
            (VmcsReadOnly32::ExitReason.encoding(), 0),
            (VmcsReadOnly32::ExitInterruptInfo.encoding(), info),
            (VmcsReadOnly32::ExitInterruptErrorCode.encoding(), 0x77),
        ],
    )
}

#[test]
fn tells_exceptions_from_what_is_the_hosts() {
    assert_eq!(interrupt(0x8000_0202), Exit::HostNmi);
    assert_eq!(for_the_host(), Some(2));
    assert_eq!(interrupt(0x8000_0312), Exit::HostNmi);
    assert_eq!(for_the_host(), Some(18));
    assert_eq!(
        interrupt(0x8000_0301),
        Exit::Exception {
            vector: 1,
            error_code: None
        }
    );
    assert_eq!(
        interrupt(0x8000_0b11),
        Exit::Exception {
            vector: 17,
            error_code: Some(0x77)
        }
    );
    assert_eq!(interrupt(0x0000_0301), Exit::Unknown);
    machine::with(|m| m.set_field(VmcsReadOnly32::ExitReason.encoding(), 3));
    assert_eq!(for_the_host(), None);
}

#[test]
fn decodes_port_accesses() {
    assert_eq!(
        qualified(VmxExitReason::Io, 0x03f8_0008),
        Exit::Io(IoExit {
            port: 0x3f8,
            width: AccessWidth::Byte,
            direction: Direction::Read,
            kind: IoKind::Register
        })
    );
    assert_eq!(
        qualified(VmxExitReason::Io, 0x01f0_0031),
        Exit::Io(IoExit {
            port: 0x1f0,
            width: AccessWidth::Word,
            direction: Direction::Write,
            kind: IoKind::String
        })
    );
}

#[test]
fn decodes_control_registers() {
    let register = ControlRegister::Cr4;
    assert_eq!(
        qualified(VmxExitReason::CrAccess, 0x204),
        Exit::Control(ControlAccess::Write { register, gpr: 2 })
    );
    let register = ControlRegister::Cr8;
    assert_eq!(
        qualified(VmxExitReason::CrAccess, 0x918),
        Exit::Control(ControlAccess::Read { register, gpr: 9 })
    );
    assert_eq!(
        qualified(VmxExitReason::CrAccess, 0x1_0030),
        Exit::Control(ControlAccess::Lmsw { source: 1 })
    );
    assert_eq!(qualified(VmxExitReason::CrAccess, 0x005), Exit::Unknown);
}

#[test]
fn decodes_nested_faults() {
    let gpa = VmcsReadOnly64::GuestPhysicalAddress.encoding();
    let qualification = VmcsReadOnlyNW::ExitQualification.encoding();
    assert_eq!(
        exit(
            VmxExitReason::EptViolation,
            &[(gpa, 0xfee0_00b0), (qualification, 0x182)]
        ),
        Exit::Nested(NestedFault {
            gpa: GuestPhysAddr::new(0xfee0_00b0),
            access: MappingFlags::WRITE,
            purpose: NestedPurpose::Access
        })
    );
    assert_eq!(
        exit(
            VmxExitReason::EptViolation,
            &[(gpa, 0x8000_0000), (qualification, 0x081)]
        ),
        Exit::Nested(NestedFault {
            gpa: GuestPhysAddr::new(0x8000_0000),
            access: MappingFlags::READ,
            purpose: NestedPurpose::PageWalk
        })
    );
}

#[test]
fn guests_have_no_vmx() {
    for number in [
        11, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 36, 39, 50, 53, 59, 60,
    ] {
        let reason = VmxExitReason::from_number(number).unwrap();
        assert_eq!(
            decode(reason),
            Exit::Instruction(Instruction::Absent),
            "{reason:?}"
        );
    }
}

fn vectoring(info: u64) -> Option<Event> {
    machine::with(|m| m.load(0x1000)).unwrap();
    machine::with(|m| {
        m.set_field(VmcsReadOnly32::IdtVectoringInfo.encoding(), info);
        m.set_field(VmcsReadOnly32::IdtVectoringErrorCode.encoding(), 6);
    });
    interrupted()
}

#[test]
fn keeps_the_event_that_was_being_delivered() {
    assert_eq!(vectoring(0), None);
    assert_eq!(vectoring(0x8000_0030), Some(Event::Interrupt(0x30)));
    assert_eq!(vectoring(0x8000_0202), Some(Event::Nmi));
    assert_eq!(vectoring(0x8000_0480), Some(Event::Software));
    assert_eq!(vectoring(0x8000_0603), Some(Event::Software));
    assert_eq!(vectoring(0x8000_0501), Some(Event::Software));
    assert_eq!(
        vectoring(0x8000_0b0e),
        Some(Event::Exception(Exception {
            vector: 14,
            error_code: Some(6)
        }))
    );
}

#[test]
fn decodes_what_concerns_the_local_apic() {
    use VmxExitReason as Reason;
    for (reason, qualification, expected) in [
        (Reason::ApicWrite, 0x0b0, Exit::LocalWrite(0xb0)),
        // Only the offset has a meaning.
        (Reason::ApicWrite, 0xffff_f3f0, Exit::LocalWrite(0x3f0)),
        (Reason::VirtualizedEoi, 0x93, Exit::LocalEnd(0x93)),
        (Reason::TprBelowThreshold, 0, Exit::TaskPriority),
        (Reason::ApicAccess, 0x8000, Exit::Unknown),
    ] {
        assert_eq!(qualified(reason, qualification), expected);
        // They come behind the instruction.
        assert!(!expected.is_instruction());
    }
    let access = qualified(Reason::ApicAccess, 0x1040);
    assert!(matches!(access, Exit::Nested(fault) if fault.gpa.as_u64() == 0xfee0_0040));
    assert_eq!(frequent(Reason::ApicWrite as u32), Frequent::LocalWrite);
}
