//! The bitmap that says which MSRs exit (SDM vol. 3, 25.6.9): a quarter each for reads and writes of low and of high numbers.

use super::percpu::REGION_BYTES;
use crate::msr::permissions::PermissionBits;

/// How many MSRs a quarter covers.
const COVERED: u32 = REGION_BYTES as u32 / 4 * 8;
const HIGH: u32 = 0xc000_0000;
const HIGH_END: u32 = HIGH + COVERED;

/// Where the bitmap has an MSR.
pub(super) const fn bits(number: u32) -> Option<PermissionBits> {
    let read = match number {
        0..COVERED => number,
        HIGH..HIGH_END => COVERED + (number - HIGH),
        _ => return None,
    } as usize;
    Some(PermissionBits {
        read,
        write: read + 2 * COVERED as usize,
    })
}

/// The x2APIC's MSRs.
const X2APIC: u32 = 0x800;
const X2APIC_COUNT: u16 = 0x100;

/// Which of the x2APIC's MSRs the processor answers from the virtual-APIC page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VirtualMsrs {
    /// None: there is no x2APIC, or software has it.
    None,
    /// Those that are there for reading, and that interrupts do not change.
    Registers,
    /// With the processor's priority, what is requested and in service, and what asks for an interrupt and ends it.
    Everything,
}

impl VirtualMsrs {
    /// Whether a read of `register` needs no exit: it is no wider than its place in the page, and nobody has to look first.
    const fn is_read(self, register: u16) -> bool {
        match self {
            Self::None => false,
            Self::Registers => matches!(
                register,
                0x02 | 0x03 | 0x08 | 0x0d | 0x0f | 0x28 | 0x32..=0x38 | 0x3e
            ),
            Self::Everything => {
                matches!(register, 0x0a | 0x10..=0x27) || Self::Registers.is_read(register)
            }
        }
    }

    /// The same for writes, of those that the processor virtualizes (SDM vol. 3, 30.5): TPR; EOI and SELF IPI.
    const fn is_written(self, register: u16) -> bool {
        match self {
            Self::None => false,
            Self::Registers => register == 0x08,
            Self::Everything => matches!(register, 0x08 | 0x0b | 0x3f),
        }
    }
}

/// Lets these of the x2APIC's MSRs through, and no others of them.
pub(super) fn set_x2apic(bitmap: &mut [u8; REGION_BYTES], through: VirtualMsrs) {
    for register in 0..X2APIC_COUNT {
        let Some(PermissionBits { read, write }) = bits(X2APIC + u32::from(register)) else {
            continue;
        };
        for (bit, passes) in [
            (read, through.is_read(register)),
            (write, through.is_written(register)),
        ] {
            let mask = 1 << (bit % 8);
            if passes {
                bitmap[bit / 8] &= !mask;
            } else {
                bitmap[bit / 8] |= mask;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msr::{PASS_THROUGH, permissions};

    #[test]
    fn lets_only_the_guests_own_msrs_through() {
        let mut bitmap = [0; REGION_BYTES];
        permissions::fill(&mut bitmap, bits);
        for (quarter, first) in [0, HIGH, 0, HIGH].into_iter().enumerate() {
            for bit in 0..COVERED {
                let place = quarter * COVERED as usize + bit as usize;
                let exits = bitmap[place / 8] >> (place % 8) & 1 == 1;
                let number = first + bit;
                assert_eq!(exits, !PASS_THROUGH.contains(&number), "{number:#x}");
            }
        }
        assert!(bits(COVERED).is_none() && bits(HIGH_END).is_none());
    }

    #[test]
    fn lets_what_the_processor_keeps_of_an_x2apic_through() {
        let mut bitmap = [0; REGION_BYTES];
        permissions::fill(&mut bitmap, bits);
        let before = bitmap;
        let passing = |bitmap: &[u8; REGION_BYTES], of: fn(PermissionBits) -> usize| {
            let passes = |register: &u32| {
                let bit = of(bits(X2APIC + register).unwrap());
                bitmap[bit / 8] >> (bit % 8) & 1 == 0
            };
            (0..u32::from(X2APIC_COUNT))
                .filter(passes)
                .collect::<alloc::vec::Vec<_>>()
        };
        for (through, written, extra) in [
            (VirtualMsrs::Registers, [0x08].as_slice(), None),
            (VirtualMsrs::Everything, &[0x08, 0x0b, 0x3f], Some(0x0a)),
        ] {
            set_x2apic(&mut bitmap, through);
            assert_eq!(passing(&bitmap, |bits| bits.write), written);
            let read = passing(&bitmap, |bits| bits.read);
            assert_eq!(read.contains(&0x0a), extra.is_some());
            // EOI, ICR, the current count and SELF IPI must be looked at; the rest is not there.
            for register in [
                0x00, 0x09, 0x0b, 0x0e, 0x29, 0x2f, 0x30, 0x31, 0x39, 0x3f, 0x40, 0xff,
            ] {
                assert!(!read.contains(&register), "{register:#x}");
            }
            assert_eq!(read.len(), 14 + extra.map_or(0, |_| 25));
            set_x2apic(&mut bitmap, VirtualMsrs::None);
            assert!(bitmap == before);
        }
    }
}
