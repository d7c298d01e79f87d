//! Arithmetic on a device's registers, with the flags that it leaves (AMD APM 3; Intel SDM 2, each instruction's "Flags Affected").

use axvcpu::AccessWidth;

use crate::regs::rflags::{ADJUST, CARRY, OVERFLOW, PARITY, SIGN, ZERO};

/// What is done with two operands, or with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Adc,
    Sub,
    Sbb,
    And,
    Or,
    Xor,
    Inc,
    Dec,
    Neg,
    Not,
}

/// All that arithmetic changes.
const STATUS: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;

/// The result, within `width`, and the flags after it.
pub(crate) fn compute(
    operator: Operator,
    left: u64,
    right: u64,
    width: AccessWidth,
    flags: u64,
) -> (u64, u64) {
    let mask = width.mask();
    let (left, right) = (left & mask, right & mask);
    let carry = flags & CARRY;
    match operator {
        Operator::Add => add(left, right, 0, width, flags),
        Operator::Adc => add(left, right, carry, width, flags),
        Operator::Sub => subtract(left, right, 0, width, flags),
        Operator::Sbb => subtract(left, right, carry, width, flags),
        Operator::Neg => subtract(0, left, 0, width, flags),
        Operator::And => logic(left & right, width, flags),
        Operator::Or => logic(left | right, width, flags),
        Operator::Xor => logic(left ^ right, width, flags),
        Operator::Not => (!left & mask, flags),
        // The carry stays.
        Operator::Inc => {
            let (result, after) = add(left, 1, 0, width, flags);
            (result, after & !CARRY | carry)
        }
        Operator::Dec => {
            let (result, after) = subtract(left, 1, 0, width, flags);
            (result, after & !CARRY | carry)
        }
    }
}

const fn sign(width: AccessWidth) -> u64 {
    width.mask() ^ width.mask() >> 1
}

fn flag(condition: bool, flag: u64) -> u64 {
    if condition { flag } else { 0 }
}

/// The flags that the result alone tells.
fn of_result(result: u64, width: AccessWidth) -> u64 {
    flag(result == 0, ZERO)
        | flag(result & sign(width) != 0, SIGN)
        | flag((result as u8).count_ones().is_multiple_of(2), PARITY)
}

fn add(left: u64, right: u64, carry: u64, width: AccessWidth, flags: u64) -> (u64, u64) {
    let wide = u128::from(left) + u128::from(right) + u128::from(carry);
    let result = wide as u64 & width.mask();
    let status = of_result(result, width)
        | flag(wide > u128::from(width.mask()), CARRY)
        | flag((left ^ right ^ result) & 0x10 != 0, ADJUST)
        | flag(
            !(left ^ right) & (left ^ result) & sign(width) != 0,
            OVERFLOW,
        );
    (result, flags & !STATUS | status)
}

fn subtract(left: u64, right: u64, borrow: u64, width: AccessWidth, flags: u64) -> (u64, u64) {
    let result = left.wrapping_sub(right).wrapping_sub(borrow) & width.mask();
    let status = of_result(result, width)
        | flag(
            u128::from(left) < u128::from(right) + u128::from(borrow),
            CARRY,
        )
        | flag((left ^ right ^ result) & 0x10 != 0, ADJUST)
        | flag(
            (left ^ right) & (left ^ result) & sign(width) != 0,
            OVERFLOW,
        );
    (result, flags & !STATUS | status)
}

/// Carry and overflow are clear; the adjust flag is not defined, and clear here.
fn logic(result: u64, width: AccessWidth, flags: u64) -> (u64, u64) {
    (result, flags & !STATUS | of_result(result, width))
}

/// The flags after a bit of the memory operand was tested: the bit is in the carry.
pub(crate) fn test_bit(value: u64, bit: u64, width: AccessWidth, flags: u64) -> u64 {
    let bit = bit % (width.bytes() as u64 * 8);
    flags & !CARRY | flag(value >> bit & 1 == 1, CARRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessWidth::{Byte, Dword, Qword, Word};

    #[test]
    fn results_and_flags_are_the_processors() {
        let cases = [
            // (operator, left, right, width, result, flags)
            (
                Operator::Add,
                0xff,
                1,
                Byte,
                0,
                CARRY | ZERO | PARITY | ADJUST,
            ),
            (Operator::Add, 0x7f, 1, Byte, 0x80, OVERFLOW | SIGN | ADJUST),
            (
                Operator::Sub,
                0,
                1,
                Word,
                0xffff,
                CARRY | SIGN | PARITY | ADJUST,
            ),
            (
                Operator::Sub,
                1 << 31,
                1,
                Dword,
                (1 << 31) - 1,
                OVERFLOW | PARITY | ADJUST,
            ),
            (Operator::And, 0xf0, 0x0f, Byte, 0, ZERO | PARITY),
            (Operator::Or, 0xf0, 0x0f, Byte, 0xff, SIGN | PARITY),
            (Operator::Xor, 0xff, 0x0f, Byte, 0xf0, SIGN | PARITY),
            (
                Operator::Neg,
                1,
                0,
                Qword,
                u64::MAX,
                CARRY | SIGN | PARITY | ADJUST,
            ),
            (Operator::Inc, u64::MAX, 0, Qword, 0, ZERO | PARITY | ADJUST),
            (Operator::Dec, 0, 0, Byte, 0xff, SIGN | PARITY | ADJUST),
        ];
        for (operator, left, right, width, result, flags) in cases {
            assert_eq!(
                compute(operator, left, right, width, 0x202),
                (result, flags | 0x202),
                "{operator:?} {left:#x} {right:#x}"
            );
        }
    }

    #[test]
    fn carries_go_in_and_stay() {
        assert_eq!(compute(Operator::Adc, 1, 1, Byte, CARRY).0, 3);
        assert_eq!(compute(Operator::Sbb, 1, 1, Byte, CARRY).0, 0xff);
        assert_eq!(compute(Operator::Inc, 1, 0, Byte, CARRY).1 & CARRY, CARRY);
        assert_eq!(compute(Operator::Not, 1, 0, Byte, CARRY), (0xfe, CARRY));
        assert_eq!(test_bit(0b100, 2, Byte, 0), CARRY);
        assert_eq!(test_bit(0b100, 10, Byte, CARRY), CARRY);
        assert_eq!(test_bit(0b100, 3, Byte, CARRY), 0);
    }
}
