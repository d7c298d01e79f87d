//! The bitmap that says which MSRs exit (SDM vol. 3, 25.6.9): a quarter each for reads and writes of low and of high numbers.

use super::percpu::REGION_BYTES;

const QUARTER: usize = REGION_BYTES / 4;
/// How many MSRs a quarter covers.
const COVERED: u32 = QUARTER as u32 * 8;
const HIGH: u32 = 0xc000_0000;

/// Lets `pass_through` through, and no others.
pub(super) fn fill(bitmap: &mut [u8; REGION_BYTES], pass_through: &[u32]) {
    bitmap.fill(u8::MAX);
    let (reads, writes) = bitmap.split_at_mut(2 * QUARTER);
    for &number in pass_through {
        let (quarter, bit) = match (number, number.wrapping_sub(HIGH)) {
            (low, _) if low < COVERED => (0, low as usize),
            (_, high) if high < COVERED => (QUARTER, high as usize),
            // Accesses outside the bitmap always exit.
            _ => continue,
        };
        reads[quarter + bit / 8] &= !(1 << (bit % 8));
        writes[quarter + bit / 8] &= !(1 << (bit % 8));
    }
}

/// The x2APIC's MSRs.
const X2APIC: u16 = 0x800;
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
    let (reads, writes) = bitmap.split_at_mut(2 * QUARTER);
    for register in 0..X2APIC_COUNT {
        let number = X2APIC + register;
        let (byte, bit) = (usize::from(number / 8), 1 << (number % 8));
        for (half, passes) in [
            (&mut *reads, through.is_read(register)),
            (&mut *writes, through.is_written(register)),
        ] {
            if passes {
                half[byte] &= !bit;
            } else {
                half[byte] |= bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(bitmap: &[u8; REGION_BYTES], at: usize, bit: usize) -> bool {
        bitmap[at + bit / 8] >> (bit % 8) & 1 == 1
    }

    #[test]
    fn lets_only_the_named_msrs_through() {
        let mut bitmap = [0; REGION_BYTES];
        fill(&mut bitmap, &[0x174, 0xc000_0102, 0x4000_0000]);
        for base in [0, 2 * QUARTER] {
            for bit in 0..COVERED as usize {
                assert_eq!(exits(&bitmap, base, bit), bit != 0x174, "{bit:#x}");
                assert_eq!(
                    exits(&bitmap, base + QUARTER, bit),
                    bit != 0x102,
                    "{bit:#x}"
                );
            }
        }
    }

    #[test]
    fn lets_what_the_processor_keeps_of_an_x2apic_through() {
        let mut bitmap = [0; REGION_BYTES];
        fill(&mut bitmap, &[0x174]);
        let before = bitmap;
        let passing = |bitmap: &_, at| {
            let all = 0..COVERED as usize;
            let passing = all.filter(|&bit| !exits(bitmap, at, bit) && bit != 0x174);
            passing
                .map(|bit| bit - 0x800)
                .collect::<alloc::vec::Vec<_>>()
        };
        for (through, written, extra) in [
            (VirtualMsrs::Registers, [0x08].as_slice(), None),
            (VirtualMsrs::Everything, &[0x08, 0x0b, 0x3f], Some(0x0a)),
        ] {
            set_x2apic(&mut bitmap, through);
            assert_eq!(passing(&bitmap, 2 * QUARTER), written);
            let read = passing(&bitmap, 0);
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
