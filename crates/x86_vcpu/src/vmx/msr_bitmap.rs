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
}
