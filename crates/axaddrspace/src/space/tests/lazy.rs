//! RAM that comes with the first touch, and what an access finds that meets none.

use super::*;

#[test]
fn lazy_ram_comes_with_the_first_touch() {
    for mode in MODES {
        let mut space = space(mode);
        space
            .map_alloc(gpa(M2 - K4), 2 * M2, RW, Fill::Lazy)
            .unwrap();
        let empty = space.usage();
        assert_eq!(empty.ram_bytes, 0);
        assert_eq!(leads(&space, M2), None);
        // Its 2 MiB lie within the region: all at once.
        assert_eq!(
            space.handle_page_fault(gpa(M2 + 0x1234), MappingFlags::READ),
            FaultOutcome::Filled
        );
        assert_eq!(leads(&space, M2).unwrap().1, M2);
        assert_eq!(space.usage().ram_bytes, M2);
        // These do not.
        for at in [M2 - 1, 2 * M2 + 5] {
            assert_eq!(leads(&space, at), None);
            assert_eq!(space.handle_page_fault(gpa(at), RW), FaultOutcome::Filled);
            assert_eq!(leads(&space, at).unwrap().1, K4);
        }
        assert_eq!(space.usage().ram_bytes, M2 + 2 * K4);
        assert_eq!(space.usage().total_bytes(), mock::outstanding());
        end(space);
    }
}

#[test]
fn lazy_ram_stays_with_pages_where_it_began_with_them() {
    let mut space = space(NestedMode::Sv39x4);
    space.map_alloc(gpa(0), M2, RW, Fill::Lazy).unwrap();
    mock::restart(Shortage::Above(FrameSize::Size16K));
    assert_eq!(space.handle_page_fault(gpa(0), RW), FaultOutcome::Filled);
    mock::restart(Shortage::None);
    assert_eq!(space.handle_page_fault(gpa(K4), RW), FaultOutcome::Filled);
    assert_eq!([0, K4].map(|at| leads(&space, at).unwrap().1), [K4, K4]);
    end(space);
}

#[test]
fn faults_are_told_apart() {
    let mut space = space(NestedMode::Sv39x4);
    let device = RW.union(MappingFlags::DEVICE);
    space
        .map_alloc(gpa(0), M2, MappingFlags::READ, Fill::Lazy)
        .unwrap();
    space.map_alloc(gpa(M2), M2, RW, Fill::Ahead).unwrap();
    space.map_linear(gpa(2 * M2), hpa(G1), K4, device).unwrap();
    let mut fault = |at, access| space.handle_page_fault(gpa(at), access);
    assert_eq!(fault(0, MappingFlags::WRITE), FaultOutcome::Denied);
    assert_eq!(fault(0, MappingFlags::EXECUTE), FaultOutcome::Denied);
    assert_eq!(fault(0, MappingFlags::READ), FaultOutcome::Filled);
    assert_eq!(fault(M2, MappingFlags::EXECUTE), FaultOutcome::Denied);
    assert_eq!(fault(2 * M2, MappingFlags::EXECUTE), FaultOutcome::Denied);
    assert_eq!(
        fault(2 * M2 + K4, MappingFlags::READ),
        FaultOutcome::NotMapped
    );
    assert_eq!(fault(u64::MAX, MappingFlags::READ), FaultOutcome::NotMapped);
    // Another vCPU was faster, or the hardware remembered: the caller tells it to forget, without the lock under which this runs.
    for (at, access) in [(0, MappingFlags::READ), (M2, RW), (2 * M2, device)] {
        let before = mock::with(|host| host.flushes);
        assert_eq!(
            space.handle_page_fault(gpa(at), access),
            FaultOutcome::WasFilled
        );
        assert_eq!(mock::with(|host| host.flushes), before);
    }
    mock::restart(Shortage::From(0));
    space.map_alloc(gpa(G1), K4, RW, Fill::Lazy).unwrap();
    let before = space.usage();
    assert_eq!(
        space.handle_page_fault(gpa(G1), RW),
        FaultOutcome::OutOfMemory
    );
    assert_eq!(space.usage(), before);
    end(space);
}

/// What a VM does to its memory disturbs only the pCPUs that ran it, and those once.
#[test]
fn lazy_ram_is_emptied_by_one_flush_of_its_holders() {
    use crate::PcpuMask;

    for mode in MODES {
        let mut space = space(mode);
        let lazy = [(0x10_0000, 4 * K4), (M2, 2 * M2), (G1, M2)];
        for (start, len) in lazy {
            space.map_alloc(gpa(start), len, RW, Fill::Lazy).unwrap();
        }
        space.map_alloc(gpa(8 * M2), M2, RW, Fill::Ahead).unwrap();
        let flushes = || mock::with(|host| host.flushes);
        let before = (flushes(), space.usage());
        space.empty_lazy();
        assert_eq!((flushes(), space.usage()), before, "nothing was there");

        for (start, _) in lazy {
            assert_eq!(
                space.handle_page_fault(gpa(start), RW),
                FaultOutcome::Filled
            );
            space.memory().write_u32(gpa(start), 7).unwrap();
        }
        space.holders().add(2);
        space.holders().add(5);
        mock::peek();
        space.empty_lazy();
        assert_eq!(flushes(), before.0 + 1);
        assert_eq!(
            mock::with(|host| host.flushed_on),
            Some(PcpuMask(1 << 5 | 1 << 2))
        );
        assert_eq!(space.usage(), before.1);
        for (start, _) in lazy {
            assert_eq!(leads(&space, start), None);
            assert_eq!(space.memory().read_u32(gpa(start)).unwrap(), 0);
        }
        assert!(
            leads(&space, 8 * M2).is_some(),
            "what was there from the start stays"
        );
        end(space);
    }
}
