//! Sets of vCPUs are the guest's word; nothing in them may overflow.

use std::format;

use proptest::prelude::{any, proptest};

use super::*;

#[test]
fn a_set_ends_where_its_mask_does() {
    let set = VCpuSet::Mask {
        base: 2,
        mask: 1 | 1 << 63,
    };
    assert!([2, 65].into_iter().all(|id| set.contains(id)));
    assert!(
        [0, 1, 3, 64, 66, 67, 128, usize::MAX]
            .into_iter()
            .all(|id| !set.contains(id))
    );
    let last = VCpuSet::Mask {
        base: usize::MAX,
        mask: u64::MAX,
    };
    assert!(last.contains(usize::MAX) && !last.contains(0) && !last.contains(usize::MAX - 1));
    let none = VCpuSet::Mask { base: 0, mask: 0 };
    assert!((0..100).all(|id| !none.contains(id)));
    assert!(
        [0, 63, 64, usize::MAX]
            .into_iter()
            .all(|id| VCpuSet::All.contains(id))
    );
}

proptest! {
    #[test]
    fn a_member_is_a_set_bit(base in any::<usize>(), mask in any::<u64>(), ahead in 0usize..200) {
        let id = base.wrapping_add(ahead);
        let bit = u32::try_from(ahead).ok().and_then(|ahead| mask.checked_shr(ahead));
        let expected = id >= base && bit.is_some_and(|bit| bit & 1 == 1);
        assert_eq!(VCpuSet::Mask { base, mask }.contains(id), expected);
    }
}

#[test]
fn widths_and_raw_words() {
    use AccessWidth::{Byte, Dword, Qword, Word};
    for width in [Byte, Word, Dword, Qword] {
        assert_eq!(width.mask().count_ones() as usize, 8 * width.bytes());
        assert_eq!(width.mask().trailing_ones(), width.mask().count_ones());
    }
    let raw = RawExit {
        reason: 0x1f,
        info1: 2,
        info2: 3,
        pc: 0x8000,
    };
    assert_eq!(format!("{raw}"), "reason 0x1f, info 0x2 0x3, pc 0x8000");
}
