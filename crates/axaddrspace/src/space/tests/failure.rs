//! What cannot be done: it is refused by name, and nothing has changed.

use super::*;

#[test]
fn nonsense_is_refused_by_name() {
    let mut space = space(NestedMode::Sv39x4);
    space.map_alloc(gpa(M2), M2, RW, Fill::Lazy).unwrap();
    let limit = 1u64 << 41;
    let top = !(K4 - 1);
    use AddrSpaceError as E;
    let misaligned = |start, len| E::Misaligned {
        start: gpa(start),
        len,
    };
    let too_high = |start, len| E::TooHigh {
        start: gpa(start),
        len,
    };
    let bad = |flags| E::BadFlags {
        start: gpa(0),
        len: K4,
        flags,
    };
    for (start, len, error) in [
        (0, 0, misaligned(0, 0)),
        (1, K4, misaligned(1, K4)),
        (0, K4 + 1, misaligned(0, K4 + 1)),
        (limit, K4, too_high(limit, K4)),
        (limit - K4, 2 * K4, too_high(limit - K4, 2 * K4)),
        (top, K4, too_high(top, K4)),
        (top, 2 * K4, too_high(top, 2 * K4)),
        (K4, top, too_high(K4, top)),
    ] {
        assert_eq!(space.map_linear(gpa(start), hpa(0), len, RW), Err(error));
        assert_eq!(
            space.map_alloc(gpa(start), len, RW, Fill::Ahead),
            Err(error)
        );
        assert_eq!(space.map_alloc(gpa(start), len, RW, Fill::Lazy), Err(error));
        assert_eq!(space.unmap(gpa(start), len), Err(error));
    }
    for (start, len) in [
        (M2, M2),
        (0, M2 + K4),
        (2 * M2 - K4, M2),
        (M2 + K4, K4),
        (0, 4 * M2),
    ] {
        let error = E::Overlap {
            start: gpa(start),
            len,
            other_start: gpa(M2),
            other_len: M2,
        };
        assert_eq!(space.map_linear(gpa(start), hpa(0), len, RW), Err(error));
        assert_eq!(space.map_alloc(gpa(start), len, RW, Fill::Lazy), Err(error));
    }
    for flags in [
        MappingFlags::empty(),
        MappingFlags::WRITE,
        MappingFlags::EXECUTE,
    ] {
        assert_eq!(space.map_linear(gpa(0), hpa(0), K4, flags), Err(bad(flags)));
    }
    let device = RW.union(MappingFlags::DEVICE);
    assert_eq!(
        space.map_alloc(gpa(0), K4, device, Fill::Lazy),
        Err(bad(device))
    );
    assert_eq!(
        space.map_linear(gpa(0), hpa(1), K4, RW),
        Err(misaligned(0, K4))
    );
    assert_eq!(
        space.map_linear(gpa(0), hpa(1 << 56), K4, RW),
        Err(too_high(0, K4))
    );
    assert_eq!(
        space.map_linear(gpa(0), hpa(top), 2 * K4, RW),
        Err(too_high(0, 2 * K4))
    );
    space
        .map_linear(gpa(0), hpa((1 << 56) - K4), K4, RW)
        .unwrap();
    assert_eq!(leads(&space, 0), Some(((1 << 56) - K4, K4)));
    let message = std::format!(
        "{}",
        E::Overlap {
            start: gpa(K4),
            len: M2,
            other_start: gpa(M2),
            other_len: K4
        }
    );
    assert_eq!(
        message,
        "0x200000 bytes at 0x1000 overlap the 0x1000 bytes that are at 0x200000"
    );
    end(space);
}

#[test]
fn a_failed_call_has_changed_nothing_and_a_frame_never_leaks() {
    type Step = fn(&mut AddrSpace<MockHal>) -> Result<(), AddrSpaceError>;
    fn fault(space: &mut AddrSpace<MockHal>, at: u64) -> Result<(), AddrSpaceError> {
        match space.handle_page_fault(gpa(at), RW) {
            FaultOutcome::Filled | FaultOutcome::WasFilled => Ok(()),
            FaultOutcome::OutOfMemory => Err(AddrSpaceError::OutOfMemory {
                start: gpa(at),
                len: 1,
            }),
            other => panic!("{other:?}"),
        }
    }
    const STEPS: &[Step] = &[
        |space| space.map_linear(gpa(G1 - M2 - K4), hpa(4 * G1 - M2 - K4), 2 * G1, RW),
        |space| space.map_alloc(gpa(16 * G1 - 3 * K4), M2 + 6 * K4, RW, Fill::Ahead),
        |space| space.map_alloc(gpa(8 * G1 - K4), 2 * M2, RW, Fill::Lazy),
        |space| fault(space, 8 * G1 - 1),
        |space| fault(space, 8 * G1),
        |space| space.unmap(gpa(G1 + M2 + K4), M2),
        |space| space.unmap(gpa(16 * G1 - K4), 3 * K4),
        |space| space.unmap(gpa(8 * G1), 4 * K4),
    ];
    for shortage in [Shortage::Once as fn(usize) -> Shortage, Shortage::From] {
        for mode in MODES {
            let mut failures = 0;
            for number in 0.. {
                let mut space = space(mode);
                mock::restart(shortage(number));
                let mut clean = true;
                for step in STEPS {
                    let before = hardware_map(mode, space.nested_root());
                    let ram = space.usage().ram_bytes;
                    let Err(error) = step(&mut space) else {
                        continue;
                    };
                    assert!(
                        matches!(error, AddrSpaceError::OutOfMemory { .. }),
                        "{error}"
                    );
                    clean = false;
                    failures += 1;
                    assert_eq!(
                        hardware_map(mode, space.nested_root()),
                        before,
                        "{:?}",
                        shortage(number)
                    );
                    for (start, _, len) in before {
                        for at in [start - 1, start, start + len - 1, start + len] {
                            leads(&space, at);
                        }
                    }
                    assert_eq!(space.usage().ram_bytes, ram);
                    assert_eq!(space.usage().total_bytes(), mock::outstanding());
                    // With memory it works.
                    mock::restart(Shortage::None);
                    step(&mut space).unwrap();
                }
                let allocs = mock::with(|host| host.allocs);
                mock::restart(Shortage::None);
                end(space);
                if clean && allocs <= number {
                    break;
                }
            }
            assert!(failures > 10, "{failures}");
        }
    }
}

#[test]
fn no_memory_for_the_root() {
    mock::restart(Shortage::From(0));
    let error = AddrSpace::<MockHal>::new(NestedMode::Sv39x4).err().unwrap();
    assert_eq!(
        error,
        AddrSpaceError::OutOfMemory {
            start: gpa(0),
            len: 0
        }
    );
    assert_eq!(
        axerrno::AxError::from(error),
        axerrno::AxErrorKind::NoMemory.into()
    );
}

#[test]
fn a_stand_in_needs_memory_and_leaves_none_behind_without() {
    let mode = NestedMode::Ept(LargestLeaf::Size2M);
    for failing in 0..4 {
        let mut space = space(mode);
        mock::with(|host| host.shortage = Shortage::From(host.allocs + failing));
        let failed = space.map_stand_in(gpa(0x1_0000));
        assert!(matches!(failed, Err(AddrSpaceError::OutOfMemory { .. })));
        mock::with(|host| host.shortage = Shortage::None);
        end(space);
    }
}
