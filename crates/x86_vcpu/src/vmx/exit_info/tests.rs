use axvcpu::AccessWidth;

use super::*;

#[test]
fn tells_exits_from_failed_entries() {
    assert_eq!(
        VmxExitInfo::decode(10).kind,
        VmxExitKind::Exit(VmxExitReason::Cpuid)
    );
    assert_eq!(
        VmxExitInfo::decode(0x8000_0021).kind,
        VmxExitKind::EntryFailure(VmxExitReason::InvalidGuestState)
    );
    assert_eq!(VmxExitInfo::decode(35).kind, VmxExitKind::Unknown);
    assert_eq!(VmxExitInfo::decode(0xffff).kind, VmxExitKind::Unknown);
    // Bit 27, "in enclave mode", and its neighbours are not the reason's.
    assert_eq!(
        VmxExitInfo::decode(1 << 27 | 12).kind,
        VmxExitKind::Exit(VmxExitReason::Hlt)
    );
}

#[test]
fn names_every_reason_by_its_number() {
    let gaps = [35, 38, 42, 71];
    for number in 0..80 {
        let reason = VmxExitReason::from_number(number);
        assert_eq!(reason.is_none(), gaps.contains(&number), "{number}");
        if let Some(reason) = reason {
            assert_eq!(reason as u16, number);
            assert!(!reason.words().is_empty());
        }
    }
    assert_eq!(VmxExitReason::from_number(80), None);
}

#[test]
fn decodes_port_accesses() {
    let access = |port, width, direction, kind| IoExit {
        port,
        width,
        direction,
        kind,
    };
    let (byte, word, dword) = (AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword);
    for (qualification, expected) in [
        (
            0x0080_0000,
            access(0x80, byte, Direction::Write, IoKind::Register),
        ),
        // INS with a REP prefix, and OUTS without one.
        (
            0x01f0_0039,
            access(0x1f0, word, Direction::Read, IoKind::String),
        ),
        (
            0xcf8_0013,
            access(0xcf8, dword, Direction::Write, IoKind::String),
        ),
    ] {
        assert_eq!(IoExit::of_qualification(qualification), expected);
    }
}

#[test]
fn decodes_accesses_to_control_registers() {
    use ControlAccess as Access;
    let (cr4, cr8) = (ControlRegister::Cr4, ControlRegister::Cr8);
    for (qualification, expected) in [
        (
            0x0f04,
            Some(Access::Write {
                register: cr4,
                gpr: 15,
            }),
        ),
        (
            0x0318,
            Some(Access::Read {
                register: cr8,
                gpr: 3,
            }),
        ),
        (0x20, Some(Access::Clts)),
        (0xbeef_0030, Some(Access::Lmsw { source: 0xbeef })),
        (0x02, None),
    ] {
        assert_eq!(Access::of_qualification(qualification), expected);
    }
}

#[test]
fn tells_page_walks_from_accesses() {
    let fault = |qualification| {
        let fault = NestedFault::of_qualification(qualification, GuestPhysAddr::new(0));
        (fault.access, fault.purpose)
    };
    let (read, write) = (MappingFlags::READ, MappingFlags::WRITE);
    assert_eq!(fault(0x183), (read | write, NestedPurpose::Access));
    assert_eq!(fault(0x081), (read, NestedPurpose::PageWalk));
    assert_eq!(fault(0x001), (read, NestedPurpose::Access));
    assert_eq!(fault(0x184), (MappingFlags::EXECUTE, NestedPurpose::Access));
}

#[test]
fn knows_which_exits_interrupted_an_iret() {
    const VALID: u32 = 1 << 31;
    const IRET: u32 = 1 << 12;
    assert!(undid_nmi_blocking(VALID | IRET | 0x30e));
    assert!(!undid_nmi_blocking(VALID | 0x30e));
    assert!(!undid_nmi_blocking(IRET | 0x30e));
    // Of a double fault it would say nothing.
    assert!(!undid_nmi_blocking(VALID | IRET | 0x308));
    assert!(interrupted_iret(1 << 12));
    assert!(!interrupted_iret(0x181));
}

#[test]
fn decodes_accesses_to_the_apic_page() {
    let (read, write) = (MappingFlags::READ, MappingFlags::WRITE);
    for (qualification, offset, access, purpose) in [
        (0x0390, 0x390, read, NestedPurpose::Access),
        (0x1ffc, 0xffc, write, NestedPurpose::Access),
        (0x2000, 0, MappingFlags::EXECUTE, NestedPurpose::Access),
        // Bit 16: asynchronous to the instruction.
        (0x1_3123, 0x123, read, NestedPurpose::Access),
        (0xa456, 0, read, NestedPurpose::PageWalk),
        (0xf456, 0, read, NestedPurpose::PageWalk),
    ] {
        let fault = NestedFault {
            gpa: GuestPhysAddr::new(0xfee0_0000_u64 + offset),
            access,
            purpose,
        };
        assert_eq!(NestedFault::of_apic_access(qualification), Some(fault));
    }
    for qualification in [0x4000, 0x9000, 0xb000] {
        assert_eq!(NestedFault::of_apic_access(qualification), None);
    }
}
