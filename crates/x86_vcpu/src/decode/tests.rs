use super::*;
use crate::backend::{ControlAccess, ControlRegister};
use AccessWidth::{Byte, Dword, Qword, Word};
use CodeMode::{Bits16, Bits32, Bits64};

const fn part(number: u8, width: AccessWidth) -> Part {
    Part {
        number,
        width,
        place: Place::Low,
    }
}

fn decode64(bytes: &[u8]) -> Option<(Operation, AccessWidth, u8)> {
    memory_instruction(bytes, Bits64).map(|found| (found.operation, found.width, found.length))
}

#[test]
fn moves_are_decoded() {
    let from = |part| Operation::Store {
        from: Source::Register(part),
    };
    let imm = |value| Operation::Store {
        from: Source::Immediate(value),
    };
    let load = |to, extend| Operation::Load { to, extend };
    let cases: &[(&[u8], Operation, AccessWidth)] = &[
        (&[0x8b, 0x03], load(part(0, Dword), Extend::Zero), Dword),
        (
            &[0x48, 0x8b, 0x03],
            load(part(0, Qword), Extend::Zero),
            Qword,
        ),
        (&[0x66, 0x8b, 0x03], load(part(0, Word), Extend::Zero), Word),
        (
            &[0x8a, 0x23],
            load(
                Part {
                    number: 0,
                    width: Byte,
                    place: Place::SecondByte,
                },
                Extend::Zero,
            ),
            Byte,
        ),
        (
            &[0x44, 0x8a, 0x23],
            load(part(12, Byte), Extend::Zero),
            Byte,
        ),
        // SPL, with REX.
        (&[0x40, 0x8a, 0x23], load(part(4, Byte), Extend::Zero), Byte),
        (
            &[0x4c, 0x8b, 0x7b, 0x10],
            load(part(15, Qword), Extend::Zero),
            Qword,
        ),
        (
            &[0x0f, 0xb6, 0x03],
            load(part(0, Dword), Extend::Zero),
            Byte,
        ),
        (
            &[0x0f, 0xb7, 0x03],
            load(part(0, Dword), Extend::Zero),
            Word,
        ),
        (
            &[0x48, 0x0f, 0xbe, 0x03],
            load(part(0, Qword), Extend::Sign),
            Byte,
        ),
        (
            &[0x48, 0x63, 0x03],
            load(part(0, Qword), Extend::Sign),
            Dword,
        ),
        (&[0x89, 0x0b], from(part(1, Dword)), Dword),
        (&[0x88, 0x0b], from(part(1, Byte)), Byte),
        (&[0x0f, 0xc3, 0x0b], from(part(1, Dword)), Dword),
        (
            &[0xc7, 0x03, 0x78, 0x56, 0x34, 0x12],
            imm(0x1234_5678),
            Dword,
        ),
        (&[0xc6, 0x03, 0xff], imm(0xff), Byte),
        (
            &[0x48, 0xc7, 0x03, 0xff, 0xff, 0xff, 0xff],
            imm(u64::MAX),
            Qword,
        ),
        // MOV RAX, moffs64 and back.
        (
            &[0xa1, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0],
            load(part(0, Dword), Extend::Zero),
            Dword,
        ),
        (
            &[0xa3, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0],
            from(part(0, Dword)),
            Dword,
        ),
        (
            &[0x87, 0x03],
            Operation::Exchange {
                with: part(0, Dword),
            },
            Dword,
        ),
    ];
    for (bytes, operation, width) in cases {
        assert_eq!(
            decode64(bytes),
            Some((*operation, *width, bytes.len() as u8)),
            "{bytes:x?}"
        );
    }
}

#[test]
fn arithmetic_is_decoded() {
    use Operator as O;
    let update = |operator, right, keep| Operation::Update {
        operator,
        right,
        keep,
    };
    let combine = |operator, keep| Operation::Combine {
        operator,
        to: part(1, Dword),
        keep,
    };
    let register = Source::Register(part(1, Dword));
    let cases: &[(&[u8], Operation)] = &[
        (&[0x01, 0x0b], update(O::Add, register, Keep::Result)),
        (&[0x09, 0x0b], update(O::Or, register, Keep::Result)),
        (&[0xf0, 0x09, 0x0b], update(O::Or, register, Keep::Result)),
        (&[0x21, 0x0b], update(O::And, register, Keep::Result)),
        (&[0x29, 0x0b], update(O::Sub, register, Keep::Result)),
        (&[0x31, 0x0b], update(O::Xor, register, Keep::Result)),
        (&[0x11, 0x0b], update(O::Adc, register, Keep::Result)),
        (&[0x19, 0x0b], update(O::Sbb, register, Keep::Result)),
        (&[0x39, 0x0b], update(O::Sub, register, Keep::FlagsOnly)),
        (&[0x85, 0x0b], update(O::And, register, Keep::FlagsOnly)),
        (
            &[0x83, 0x0b, 0x10],
            update(O::Or, Source::Immediate(0x10), Keep::Result),
        ),
        (
            &[0x83, 0x23, 0xfe],
            update(O::And, Source::Immediate(!1), Keep::Result),
        ),
        (
            &[0xf7, 0x03, 1, 0, 0, 0],
            update(O::And, Source::Immediate(1), Keep::FlagsOnly),
        ),
        (
            &[0xff, 0x03],
            update(O::Inc, Source::Immediate(0), Keep::Result),
        ),
        (
            &[0xff, 0x0b],
            update(O::Dec, Source::Immediate(0), Keep::Result),
        ),
        (
            &[0xf7, 0x13],
            update(O::Not, Source::Immediate(0), Keep::Result),
        ),
        (
            &[0xf7, 0x1b],
            update(O::Neg, Source::Immediate(0), Keep::Result),
        ),
        (
            &[0x0f, 0xba, 0x23, 5],
            Operation::TestBit {
                bit: Source::Immediate(5),
            },
        ),
        (&[0x03, 0x0b], combine(O::Add, Keep::Result)),
        (&[0x23, 0x0b], combine(O::And, Keep::Result)),
        (&[0x3b, 0x0b], combine(O::Sub, Keep::FlagsOnly)),
    ];
    for (bytes, operation) in cases {
        let found = decode64(bytes).unwrap_or_else(|| panic!("{bytes:x?}"));
        let normal = |value: Operation| match value {
            // Immediates are sign-extended to some width or other: the low 32 bits count here.
            Operation::Update {
                operator,
                right: Source::Immediate(value),
                keep,
            } => update(operator, Source::Immediate(value & 0xffff_ffff), keep),
            other => other,
        };
        assert_eq!(
            (normal(found.0), found.1),
            (normal(*operation), Dword),
            "{bytes:x?}"
        );
    }
}

#[test]
fn string_instructions_are_decoded() {
    let form = |repeat, address_width, source_segment| StringForm {
        repeat,
        address_width,
        source_segment,
    };
    let once = form(Repeat::Once, Qword, 3);
    let many = form(Repeat::ByCount, Qword, 3);
    let cases: &[(&[u8], CodeMode, Operation, AccessWidth)] = &[
        (&[0xa5], Bits64, Operation::Move(once), Dword),
        (&[0xf3, 0x48, 0xa5], Bits64, Operation::Move(many), Qword),
        (
            &[0x64, 0xa4],
            Bits64,
            Operation::Move(form(Repeat::Once, Qword, 4)),
            Byte,
        ),
        (&[0xf3, 0xab], Bits64, Operation::Fill(many), Dword),
        (&[0xad], Bits64, Operation::Fetch(once), Dword),
        (&[0xf3, 0x6c], Bits64, Operation::Input(many), Byte),
        (&[0x66, 0x6d], Bits64, Operation::Input(once), Word),
        (&[0xf3, 0x6f], Bits64, Operation::Output(many), Dword),
        (
            &[0x67, 0x6e],
            Bits64,
            Operation::Output(form(Repeat::Once, Dword, 3)),
            Byte,
        ),
        (
            &[0x6e],
            Bits16,
            Operation::Output(form(Repeat::Once, Word, 3)),
            Byte,
        ),
        (
            &[0x26, 0x6e],
            Bits16,
            Operation::Output(form(Repeat::Once, Word, 0)),
            Byte,
        ),
        (
            &[0xf2, 0xa5],
            Bits32,
            Operation::Move(form(Repeat::ByCount, Dword, 3)),
            Dword,
        ),
    ];
    for (bytes, mode, operation, width) in cases {
        let found = memory_instruction(bytes, *mode).unwrap_or_else(|| panic!("{bytes:x?}"));
        assert_eq!(
            (found.operation, found.width),
            (*operation, *width),
            "{bytes:x?}"
        );
        assert_eq!(usize::from(found.length), bytes.len());
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    for bytes in [
        &[0x0f, 0x6f, 0x03][..],   // MOVQ MM0, [RBX]
        &[0xf3, 0x0f, 0x6f, 0x03], // MOVDQU XMM0, [RBX]
        &[0x0f, 0xb1, 0x0b],       // CMPXCHG
        &[0x0f, 0xa3, 0x0b],       // BT [RBX], ECX
        &[0xff, 0x33],             // PUSH [RBX]
        &[0xd9, 0x03],             // FLD
        &[0x90],
        &[0x8b],
        &[],
        &[0x06], // invalid in 64-bit code
    ] {
        assert_eq!(decode64(bytes), None, "{bytes:x?}");
    }
}

#[test]
fn control_register_instructions_are_decoded() {
    let write = |register, gpr| ControlAccess::Write { register, gpr };
    for (bytes, access) in [
        (&[0x0f, 0x22, 0xe0][..], write(ControlRegister::Cr4, 0)),
        (&[0x0f, 0x22, 0xdc], write(ControlRegister::Cr3, 4)),
        (&[0x44, 0x0f, 0x22, 0xc1], write(ControlRegister::Cr8, 1)),
        (
            &[0x41, 0x0f, 0x20, 0xc7],
            ControlAccess::Read {
                register: ControlRegister::Cr0,
                gpr: 15,
            },
        ),
        (&[0x0f, 0x06], ControlAccess::Clts),
    ] {
        let found = control_instruction(bytes, Bits64).unwrap();
        assert_eq!(
            (found.access, usize::from(found.length)),
            (access, bytes.len())
        );
    }
    assert_eq!(control_instruction(&[0x0f, 0x20, 0xd0], Bits64), None);
    let lmsw = control_instruction(&[0x0f, 0x01, 0xf3], Bits64).unwrap();
    assert_eq!(lmsw.access, ControlAccess::LmswRegister { gpr: 3 });
    let lmsw = control_instruction(&[0x0f, 0x01, 0x33], Bits64).unwrap();
    assert!(matches!(lmsw.access, ControlAccess::LmswMemory { .. }));
}

#[test]
fn parts_of_registers_are_read_and_written_as_the_processor_does() {
    let whole = 0x1122_3344_5566_7788;
    let high = Part {
        number: 0,
        width: Byte,
        place: Place::SecondByte,
    };
    for (part, read, written) in [
        (part(0, Byte), 0x88, 0x1122_3344_5566_77ff),
        (high, 0x77, 0x1122_3344_5566_ff88),
        (part(0, Word), 0x7788, 0x1122_3344_5566_ffff),
        (part(0, Dword), 0x5566_7788, 0xffff_ffff),
        (part(0, Qword), whole, u64::MAX),
    ] {
        assert_eq!(part.read(whole), read);
        assert_eq!(part.write(whole, u64::MAX), written);
    }
}

#[test]
fn decoded_instructions_are_remembered_by_their_bytes() {
    let bytes = |code: &[u8]| {
        let mut bytes = Bytes::default();
        bytes.bytes[..code.len()].copy_from_slice(code);
        bytes.count = code.len();
        bytes
    };
    let (code, other) = (bytes(&[0x8b, 0x03]), bytes(&[0x8b, 0x0b]));
    let found = memory_instruction(code.as_slice(), Bits64).unwrap();
    let mut cache = DecodeCache::default();
    assert_eq!(cache.find(0x1000, code.bytes, Bits64), None);
    cache.note(0x1000, &code, Bits64, found);
    assert_eq!(cache.find(0x1000, code.bytes, Bits64), Some(&found));
    assert_eq!(cache.find(0x1000, code.bytes, Bits32), None);
    assert_eq!(cache.find(0x1000, other.bytes, Bits64), None);
    assert_eq!(cache.find(0x1001, code.bytes, Bits64), None);
    // What follows the instruction is not its own.
    let followed = bytes(&[0x8b, 0x03, 0xcc]).bytes;
    assert_eq!(cache.find(0x1000, followed, Bits64), Some(&found));
}
