use super::*;
use CodeMode::{Bits16, Bits32, Bits64};

#[test]
fn lengths_are_counted_with_prefixes() {
    let cases: [(&[u8], CodeMode, Opcode, Length); 12] = [
        (&[0x0f, 0xa2, 0x90], Bits64, Opcode::CPUID, Length::Known(2)),
        (
            &[0x66, 0x2e, 0x48, 0x0f, 0xa2],
            Bits64,
            Opcode::CPUID,
            Length::Known(5),
        ),
        // In 32-bit code 0x48 is an instruction.
        (&[0x48, 0x0f, 0xa2], Bits32, Opcode::CPUID, Length::Other),
        (&[0x0f, 0x32], Bits64, Opcode::RDMSR, Length::Known(2)),
        (&[0xf3, 0x90], Bits16, Opcode::PAUSE, Length::Known(2)),
        (&[0xf4], Bits64, Opcode::HLT, Length::Known(1)),
        (
            &[0x0f, 0x01, 0xd9],
            Bits64,
            Opcode::VMMCALL,
            Length::Known(3),
        ),
        (&[0x0f, 0x01], Bits64, Opcode::VMMCALL, Length::Short),
        (&[0x66], Bits64, Opcode::CPUID, Length::Short),
        (&[], Bits64, Opcode::CPUID, Length::Short),
        (&[0x0f, 0x30], Bits64, Opcode::RDMSR, Length::Other),
        (&[0x66; 15], Bits64, Opcode::CPUID, Length::Other),
    ];
    for (bytes, mode, opcode, length) in cases {
        assert_eq!(length_of(bytes, mode, &[opcode]), length, "{bytes:x?}");
    }
    let mut longest = [0x66; 15];
    longest[13..].copy_from_slice(&[0x0f, 0xa2]);
    assert_eq!(
        length_of(&longest, Bits64, &[Opcode::CPUID]),
        Length::Known(15)
    );
    assert_eq!(
        length_of(
            &[0x0f, 0x01, 0xc1],
            Bits64,
            &[Opcode::VMMCALL, Opcode::VMCALL]
        ),
        Length::Known(3)
    );
}
