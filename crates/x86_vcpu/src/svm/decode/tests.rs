use axvcpu::AccessWidth;

use super::*;
use crate::event::Exception;

fn raw(code: u64, info1: u64, info2: u64) -> RawSvmExit {
    RawSvmExit {
        code,
        info1,
        info2,
        rip: 0x1000,
        ..RawSvmExit::default()
    }
}

#[test]
fn exits_are_decoded() {
    use Exit as E;
    let io = |port, width, direction, kind| {
        E::Io(IoExit {
            port,
            width,
            direction,
            kind,
        })
    };
    let nested = |gpa, access, purpose| {
        E::Nested(NestedFault {
            gpa: GuestPhysAddr::new(gpa),
            access,
            purpose,
        })
    };
    let cases = [
        (raw(0x72, 0, 0), E::Instruction(Instruction::Cpuid)),
        (raw(0x60, 0, 0), E::HostInterrupt),
        (raw(0x61, 0, 0), E::HostNmi),
        (raw(0x63, 0, 0), E::HostNmi),
        (raw(0x64, 0, 0), E::InterruptWindow),
        (raw(0x74, 0, 0), E::NmiWindow),
        (raw(0x78, 0, 0), E::Instruction(Instruction::Hlt)),
        (raw(0x7c, 0, 0), E::Msr(Direction::Read)),
        (raw(0x7c, 1, 0), E::Msr(Direction::Write)),
        (raw(0x7f, 0, 0), E::TripleFault),
        (raw(0x7d, 0, 0), E::TaskSwitch),
        (raw(0x81, 0, 0), E::Instruction(Instruction::Hypercall)),
        (raw(0x80, 0, 0), E::Instruction(Instruction::Absent)),
        (raw(0x8a, 0, 0), E::Instruction(Instruction::Absent)),
        (raw(0x8d, 0, 0), E::Instruction(Instruction::Xsetbv)),
        (
            raw(0x41, 0, 0),
            E::Exception {
                vector: 1,
                error_code: None,
            },
        ),
        (
            raw(0x51, 0, 0),
            E::Exception {
                vector: 17,
                error_code: Some(0),
            },
        ),
        (raw(0x14, 0, 0), E::ControlInstruction),
        (raw(0x30, 0, 0), E::Unknown),
        (
            raw(0x7b, 0x0040_0011, 0x1002),
            io(0x40, AccessWidth::Byte, Direction::Read, IoKind::Register),
        ),
        (
            raw(0x7b, 0x0cf8_0040, 0x1001),
            io(
                0xcf8,
                AccessWidth::Dword,
                Direction::Write,
                IoKind::Register,
            ),
        ),
        (
            raw(0x7b, 0x03f8_002c, 0x1001),
            io(0x3f8, AccessWidth::Word, Direction::Write, IoKind::String),
        ),
        (
            raw(0x400, 1 << 32 | 4, 0x1234),
            nested(0x1234, MappingFlags::READ, NestedPurpose::Access),
        ),
        (
            raw(0x400, 1 << 32 | 6, 0x1234),
            nested(0x1234, MappingFlags::WRITE, NestedPurpose::Access),
        ),
        (
            raw(0x400, 1 << 32 | 0x14, 0x1234),
            nested(0x1234, MappingFlags::EXECUTE, NestedPurpose::Access),
        ),
        (
            raw(0x400, 1 << 33 | 6, 0x1234),
            nested(0x1234, MappingFlags::WRITE, NestedPurpose::PageWalk),
        ),
        (raw(0x402, 0, 0), E::Unknown),
        (raw(0x12345, 0, 0), E::Unknown),
    ];
    for (raw, exit) in cases {
        assert_eq!(decode(&raw).exit, exit, "{raw:x?}");
    }
    assert!(matches!(decode(&raw(u64::MAX, 0, 0)).exit, E::Refused(_)));
}

#[test]
fn decode_assists_name_the_operands() {
    let with = |code, info1| {
        decode(&RawSvmExit {
            decode_assists: true,
            ..raw(code, info1, 0)
        })
        .exit
    };
    let (register, gpr) = (ControlRegister::Cr8, 9);
    assert_eq!(
        with(0x18, 1 << 63 | 9),
        Exit::Control(ControlAccess::Write { register, gpr })
    );
    assert_eq!(
        with(0x08, 1 << 63 | 9),
        Exit::Control(ControlAccess::Read { register, gpr })
    );
    // LMSW and the like.
    assert_eq!(with(0x10, 0), Exit::ControlInstruction);
    assert_eq!(with(0x12, 1 << 63), Exit::Unknown);
}

#[test]
fn lengths_come_from_the_hardware_where_it_has_them() {
    let next = |rip| RawSvmExit {
        next_rip: Some(rip),
        ..raw(0x72, 0, 0)
    };
    for (raw, length) in [
        (raw(0x72, 0, 0), None),
        (next(0x1003), Some(3)),
        (next(0x1000), None),
        (next(0), None),
        (next(0x1010), None),
    ] {
        assert_eq!(decode(&raw).length, length, "{raw:x?}");
    }
}

#[test]
fn an_events_error_code_is_in_the_upper_half() {
    let event = Event::Exception(Exception {
        vector: 14,
        error_code: Some(7),
    });
    let word = 7 << 32 | 0x8000_0b0e;
    let info = InterruptInfo::of(event, || true).unwrap();
    assert_eq!(encode_event(info), word);
    assert_eq!(decode_event(word), Some(event));
    assert_eq!(decode_event(0x30), None);
}
