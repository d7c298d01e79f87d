extern crate std;

use proptest::prelude::*;

use super::*;
use AccessWidth::{Byte, Dword, Qword, Word};

fn load(width: AccessWidth, extension: Extension, to: u8) -> Operation {
    let to = Register(to);
    Operation::Load(Load {
        width,
        extension,
        to,
    })
}

fn store(width: AccessWidth, from: u8) -> Operation {
    let from = Register(from);
    Operation::Store(Store { width, from })
}

/// Assembled by hand: `imm(rs1)` forms with an immediate whose bits are all over the place.
#[test]
fn standard_loads_and_stores() {
    use Extension::{Sign, Zero};
    let table = [
        (0x0005_0283, load(Byte, Sign, 5)),   // lb t0, 0(a0)
        (0x7ff5_1283, load(Word, Sign, 5)),   // lh t0, 2047(a0)
        (0x8005_2f83, load(Dword, Sign, 31)), // lw t6, -2048(a0)
        (0x0085_b503, load(Qword, Zero, 10)), // ld a0, 8(a1)
        (0x0005_4283, load(Byte, Zero, 5)),   // lbu t0, 0(a0)
        (0x0005_5003, load(Word, Zero, 0)),   // lhu zero, 0(a0)
        (0x0005_6083, load(Dword, Zero, 1)),  // lwu ra, 0(a0)
        (0xfe55_0fa3, store(Byte, 5)),        // sb t0, -1(a0)
        (0x01f5_1123, store(Word, 31)),       // sh t6, 2(a0)
        (0x0005_2023, store(Dword, 0)),       // sw zero, 0(a0)
        (0x00a5_b423, store(Qword, 10)),      // sd a0, 8(a1)
    ];
    for (word, operation) in table {
        let expected = Some(Access {
            operation,
            length: 4,
        });
        assert_eq!(decode(word), expected, "{word:#x}");
    }
}

#[test]
fn compressed_loads_and_stores() {
    use Extension::{Sign, Zero};
    let table = [
        (0x4188, load(Dword, Sign, 10)), // c.lw a0, 0(a1)
        (0x5ffc, load(Dword, Sign, 15)), // c.lw a5, 124(a5)
        (0x6188, load(Qword, Zero, 10)), // c.ld a0, 0(a1)
        (0xc188, store(Dword, 10)),      // c.sw a0, 0(a1)
        (0xe188, store(Qword, 10)),      // c.sd a0, 0(a1)
        (0xe000, store(Qword, 8)),       // c.sd s0, 0(s0)
        (0x4502, load(Dword, Sign, 10)), // c.lwsp a0, 0(sp)
        (0x6fe2, load(Qword, Zero, 31)), // c.ldsp t6, 24(sp)
        (0xc02a, store(Dword, 10)),      // c.swsp a0, 0(sp)
        (0xe07e, store(Qword, 31)),      // c.sdsp t6, 0(sp)
        (0x8188, load(Byte, Zero, 10)),  // c.lbu a0, 0(a1)
        (0x8588, load(Word, Zero, 10)),  // c.lhu a0, 0(a1)
        (0x85c8, load(Word, Sign, 10)),  // c.lh a0, 0(a1)
        (0x8988, store(Byte, 10)),       // c.sb a0, 0(a1)
        (0x8d88, store(Word, 10)),       // c.sh a0, 0(a1)
    ];
    for (half, operation) in table {
        for upper in [0, 0xffff_0000] {
            let expected = Some(Access {
                operation,
                length: 2,
            });
            assert_eq!(decode(upper | half), expected, "{half:#x}");
        }
    }
}

#[test]
fn what_no_device_answers() {
    let words = [
        0x0005_7283, // a load that does not exist: funct3 7
        0x0005_4023, // a store that does not exist: funct3 4
        0x0005_2007, // flw f0, 0(a0)
        0x0005_3027, // fsd f0, 0(a0)
        0x1005_22af, // lr.w t0, (a0)
        0x0055_22af, // amoadd.w t0, t0, (a0)
        0x0005_200f, // cbo.inval (a0)
        0x0205_6007, // vle32.v v0, (a0)
        0x0000_0073, // ecall
        0x2188,      // c.fld f10, 0(a1)
        0xa188,      // c.fsd f10, 0(a1)
        0x4002,      // c.lwsp with zero: reserved
        0x6002,      // c.ldsp with zero: reserved
        0x2502,      // c.fldsp
        0x8dc8,      // beside c.sh: reserved
        0x9188,      // beside c.lbu: reserved
        0x0001,      // c.nop
        0x0000,      // illegal
    ];
    for word in words {
        assert_eq!(decode(word), None, "{word:#x}");
    }
}

/// Every 16-bit word: whatever decodes is as long as it says and names a register that it can name.
#[test]
fn every_compressed_word() {
    let decoded = (0..=u16::MAX)
        .filter(|&half| !is_standard(half))
        .filter_map(|half| decode(u32::from(half)));
    let mut count = 0;
    for access in decoded {
        assert_eq!(access.length, 2);
        count += 1;
    }
    // C.LW, C.LD, C.SW, C.SD: 2^11 each; Zcb: 5 × 2^6 × 2 but for half of C.LHU, C.LH, C.SH; from the stack: 2 × 31 × 2^6; to
    // it: 2 × 2^11.
    let zcb = 2 * 256 + 3 * 128;
    assert_eq!(count, 4 * 2048 + zcb + 2 * 31 * 64 + 2 * 2048);
}

#[test]
fn trap_instructions() {
    use TrapInstruction as T;
    let lw = load(Dword, Extension::Sign, 10);
    let sd = store(Qword, 10);
    let standard = |operation| {
        T::Access(Access {
            operation,
            length: 4,
        })
    };
    let compressed = |operation| {
        T::Access(Access {
            operation,
            length: 2,
        })
    };
    let table = [
        (0, T::Absent),
        (0x2000, T::PageTableRead),
        (0x3000, T::PageTableRead),
        (0x2020, T::PageTableWrite),
        (0x3020, T::PageTableWrite),
        (0x0000_2503, standard(lw)),
        (0x0000_2501, compressed(lw)),
        (0x00a0_3023, standard(sd)),
        (0x00a0_3021, compressed(sd)),
        (0x0000_a503, T::Other),  // one byte into a misaligned load
        (0x0000_a50f, T::Other),  // cbo
        (0x1000_252f, T::Other),  // lr.w
        (0x0000_2507, T::Other),  // flw
        (0x0000_1002, T::Absent), // custom
        (0x0000_2504, T::Absent),
        (1 << 32 | 0x2503, T::Absent),
    ];
    for (htinst, expected) in table {
        assert_eq!(decode_trap_instruction(htinst), expected, "{htinst:#x}");
    }
}

#[test]
fn loads_extend() {
    let all = 0x8899_aabb_ccdd_eeff;
    for (width, sign, zero) in [
        (Byte, 0xffff_ffff_ffff_ffff, 0xff),
        (Word, 0xffff_ffff_ffff_eeff, 0xeeff),
        (Dword, 0xffff_ffff_ccdd_eeff, 0xccdd_eeff),
        (Qword, all, all),
    ] {
        let to = Register(1);
        let extended = |extension| {
            Load {
                width,
                extension,
                to,
            }
            .extend(all)
        };
        assert_eq!(extended(Extension::Sign), sign);
        assert_eq!(extended(Extension::Zero), zero);
    }
    let positive = Load {
        width: Byte,
        extension: Extension::Sign,
        to: Register(1),
    };
    assert_eq!(positive.extend(0x17f), 0x7f);
}

#[test]
fn zero_stays_zero() {
    let mut x = [0; 32];
    Register(0).write(&mut x, 5);
    Register(31).write(&mut x, 6);
    assert_eq!((Register(0).read(&x), Register(31).read(&x)), (0, 6));
}

proptest! {
    #[test]
    fn any_word_is_decoded_or_not(word: u32, htinst: u64, small in 0u64..0x1_0000_0000) {
        if let Some(access) = decode(word) {
            prop_assert_eq!(access.length, if word & 3 == 3 { 4 } else { 2 });
        }
        let _ = decode_trap_instruction(htinst);
        let _ = decode_trap_instruction(small);
    }

    /// The hardware's transformation changes nothing that is looked at.
    #[test]
    fn transformed_as_well_as_plain(word: u32) {
        let word = word & !0x7f | if word & 1 == 0 { OPCODE_LOAD } else { OPCODE_STORE };
        let kept = match word & 0x7f {
            OPCODE_LOAD => 0x0000_7fff,
            _ => 0x01f0_707f,
        };
        let transformed = decode_trap_instruction(u64::from(word & kept));
        prop_assert_eq!(transformed, match decode(word) {
            Some(access) => TrapInstruction::Access(access),
            None => TrapInstruction::Other,
        });
    }
}
