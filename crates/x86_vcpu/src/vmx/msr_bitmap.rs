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
}
