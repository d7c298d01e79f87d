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
fn decodes_what_it_encodes() {
    for kind in [
        InterruptKind::External,
        InterruptKind::Nmi,
        InterruptKind::HardwareException,
        InterruptKind::Software,
        InterruptKind::PrivilegedSoftwareException,
        InterruptKind::SoftwareException,
        InterruptKind::Other,
    ] {
        for error_code in [None, Some(0x18)] {
            let info = VmxInterruptInfo {
                vector: 0x0e,
                kind,
                error_code,
            };
            assert_eq!(VmxInterruptInfo::decode(info.encode(), || 0x18), Some(info));
        }
    }
    assert_eq!(VmxInterruptInfo::decode(0x7fff_ffff, || 0), None);
}

#[test]
fn tells_accesses_to_the_apic_page() {
    for (qualification, info) in [
        (0x0390, ApicAccessInfo::Read { offset: 0x390 }),
        (0x1ffc, ApicAccessInfo::Write { offset: 0xffc }),
        (0x2000, ApicAccessInfo::Fetch { offset: 0 }),
        // Bit 16: asynchronous to the instruction.
        (0x1_3123, ApicAccessInfo::Delivery { offset: 0x123 }),
        (0xa456, ApicAccessInfo::Physical),
        (0xf456, ApicAccessInfo::Physical),
        (0x4000, ApicAccessInfo::Unknown),
        (0x9000, ApicAccessInfo::Unknown),
    ] {
        assert_eq!(ApicAccessInfo::decode(qualification), info);
    }
}

#[test]
fn encodes_as_the_manual_says() {
    let page_fault = VmxInterruptInfo {
        vector: 14,
        kind: InterruptKind::HardwareException,
        error_code: Some(2),
    };
    assert_eq!(page_fault.encode(), 0x8000_0b0e);
    assert!(!page_fault.is_software());
}

#[test]
fn decodes_port_accesses() {
    let out = VmxIoExitInfo::decode(0x0080_0000);
    assert_eq!((out.port, out.width), (0x80, AccessWidth::Byte));
    assert_eq!(
        (out.direction, out.form),
        (IoDirection::Out, IoForm::Register)
    );
    let ins = VmxIoExitInfo::decode(0x01f0_0039);
    assert_eq!((ins.port, ins.width), (0x1f0, AccessWidth::Word));
    assert_eq!(
        (ins.direction, ins.form),
        (IoDirection::In, IoForm::RepeatedString)
    );
    let outsd = VmxIoExitInfo::decode(0xcf8_0013);
    assert_eq!(
        (outsd.width, outsd.form),
        (AccessWidth::Dword, IoForm::String)
    );
}

#[test]
fn decodes_accesses_to_control_registers() {
    assert_eq!(
        CrAccessInfo::decode(0x0f04),
        CrAccessInfo::Write { cr: 4, gpr: 15 }
    );
    assert_eq!(
        CrAccessInfo::decode(0x0318),
        CrAccessInfo::Read { cr: 8, gpr: 3 }
    );
    assert_eq!(CrAccessInfo::decode(0x20), CrAccessInfo::Clts);
    assert_eq!(
        CrAccessInfo::decode(0xbeef_0030),
        CrAccessInfo::Lmsw { source: 0xbeef }
    );
}

#[test]
fn tells_page_walks_from_accesses() {
    let access = EptViolationInfo::new(0x181 | 1 << 1);
    assert!(access.is_read() && access.is_write() && !access.is_fetch());
    assert!(!access.is_page_walk());
    assert!(EptViolationInfo::new(0x081).is_page_walk());
    assert!(!EptViolationInfo::new(0x001).is_page_walk());
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
    assert!(EptViolationInfo::new(1 << 12).interrupted_iret());
    assert!(!EptViolationInfo::new(0x181).interrupted_iret());
}
