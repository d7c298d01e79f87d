//! VMIDs: unique within a generation, forgotten with it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use proptest::prelude::{any, proptest};

use super::*;

#[test]
fn a_pcpu_hands_out_all_but_zero_and_then_flushes() {
    let mut pcpu = VmidAllocator::new(2);
    let mut tags: Vec<VmidTag> = (0..4).map(|_| VmidTag::default()).collect();
    // Nothing is known of the caches at first.
    assert_eq!(pcpu.assign(&mut tags[0]), VmidAssignment::FlushAll(1));
    assert_eq!(pcpu.assign(&mut tags[1]), VmidAssignment::Fresh(2));
    assert_eq!(pcpu.assign(&mut tags[2]), VmidAssignment::Fresh(3));
    for (tag, vmid) in tags.iter_mut().zip(1..=3) {
        assert_eq!(pcpu.assign(tag), VmidAssignment::Kept(vmid));
    }
    assert_eq!(pcpu.assign(&mut tags[3]), VmidAssignment::FlushAll(1));
    assert_eq!(
        pcpu.assign(&mut tags[2]),
        VmidAssignment::Fresh(2),
        "its old number is void"
    );
    assert_eq!(pcpu.assign(&mut tags[3]), VmidAssignment::Kept(1));
}

#[test]
fn without_bits_every_change_flushes() {
    let mut pcpu = VmidAllocator::new(0);
    let (mut a, mut b) = (VmidTag::default(), VmidTag::default());
    assert_eq!(pcpu.assign(&mut a), VmidAssignment::FlushAll(0));
    assert_eq!(pcpu.assign(&mut a), VmidAssignment::Kept(0));
    assert_eq!(pcpu.assign(&mut b), VmidAssignment::FlushAll(0));
    assert_eq!(pcpu.assign(&mut a), VmidAssignment::FlushAll(0));
    assert_eq!(pcpu.assign(&mut a), VmidAssignment::Kept(0));
}

#[test]
fn every_width_is_used_in_full() {
    for (bits, numbers) in [
        (0, 1),
        (1, 1),
        (2, 3),
        (14, 16383),
        (16, 65535),
        (17, 65535),
        (64, 65535),
    ] {
        let mut pcpu = VmidAllocator::new(bits);
        let mut seen = BTreeSet::new();
        assert_eq!(
            pcpu.assign(&mut VmidTag::default()).vmid(),
            u16::from(bits != 0)
        );
        let fresh = (1..).take_while(|_| {
            let assignment = pcpu.assign(&mut VmidTag::default());
            assert!(seen.insert(assignment.vmid()) || assignment.vmid() == u16::from(bits != 0));
            matches!(assignment, VmidAssignment::Fresh(_))
        });
        assert_eq!(fresh.count() + 1, numbers, "{bits} bits");
        assert_eq!(seen.contains(&0), bits == 0);
    }
}

#[test]
fn another_pcpus_tag_is_nothing_here() {
    let (mut here, mut there) = (VmidAllocator::new(4), VmidAllocator::new(4));
    let (mut a, mut b) = (VmidTag::default(), VmidTag::default());
    let _ = here.assign(&mut a);
    let _ = there.assign(&mut b);
    assert!(!matches!(there.assign(&mut a), VmidAssignment::Kept(_)));
    assert!(
        !matches!(here.assign(&mut a), VmidAssignment::Kept(_)),
        "and not when it comes back"
    );
}

proptest! {
    /// The caches of three pCPUs, as a map from VMID to the vCPU whose translations they hold: no vCPU ever meets another's, nor its own from
    /// before it was elsewhere.
    #[test]
    fn no_vcpu_meets_stale_translations(
        bits in 0u32..4,
        moves in proptest::collection::vec((0usize..3, 0usize..6, any::<bool>()), 0..300),
    ) {
        let mut pcpus: Vec<VmidAllocator> = (0..3).map(|_| VmidAllocator::new(bits)).collect();
        // At power-on, anything.
        let power_on = (0..1u16 << bits).map(|vmid| (vmid, (usize::MAX, 0)));
        let mut caches: Vec<BTreeMap<u16, (usize, u32)>> = (0..3).map(|_| power_on.clone().collect()).collect();
        let mut tags: Vec<VmidTag> = (0..6).map(|_| VmidTag::default()).collect();
        // How often the vCPU has changed pCPU: what it cached before is stale.
        let mut life = [(usize::MAX, 0u32); 6];
        for (pcpu, vcpu, new) in moves {
            if new {
                tags[vcpu] = VmidTag::default();
                life[vcpu] = (usize::MAX, life[vcpu].1 + 1);
            }
            if life[vcpu].0 != pcpu {
                life[vcpu] = (pcpu, life[vcpu].1 + 1);
            }
            let me = (vcpu, life[vcpu].1);
            let cache = &mut caches[pcpu];
            let assignment = pcpus[pcpu].assign(&mut tags[vcpu]);
            let vmid = assignment.vmid();
            assert_eq!(vmid == 0, bits == 0);
            assert!(vmid < 1 << bits);
            match assignment {
                VmidAssignment::Kept(_) => assert_eq!(cache.get(&vmid), Some(&me)),
                VmidAssignment::Fresh(_) => assert_eq!(cache.get(&vmid), None),
                VmidAssignment::FlushAll(_) => cache.clear(),
            }
            cache.insert(vmid, me);
        }
    }
}
