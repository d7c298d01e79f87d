//! RFENCE: on oneself at once, on others by leaving.

use super::*;

/// The fences that a call made the hart run.
fn fences(vcpu: &mut TestCpu, function: u64, args: &[u64]) -> alloc::vec::Vec<machine::Fence> {
    machine::with(|m| m.fences.clear());
    assert_eq!(answered(vcpu, RFENCE, function, args), (0, 0));
    machine::with(|m| m.fences.clone())
}

#[test]
fn fences_on_oneself_are_run_at_once() {
    use machine::Fence::{Instructions, Translations as T};
    let own = 0b10;
    let mut vcpu = vcpu();
    let _ = run(&mut vcpu);
    assert_eq!(fences(&mut vcpu, 0, &[own, 0]), [Instructions]);
    for (start, size) in [(0, 0), (0, u64::MAX), (0x1234, u64::MAX), (0, 1 << 40)] {
        assert_eq!(
            fences(&mut vcpu, 1, &[own, 0, start, size]),
            [T(Translations::All)]
        );
        assert_eq!(
            fences(&mut vcpu, 2, &[own, 0, start, size, 5]),
            [T(Translations::AddressSpace { asid: 5 })]
        );
    }
    let page = |address| T(Translations::Page { address });
    assert_eq!(
        fences(&mut vcpu, 1, &[own, 0, 0x1fff, 2]),
        [page(0x1000), page(0x2000)]
    );
    assert_eq!(
        fences(&mut vcpu, 1, &[own, 0, 0x1000, 0x1000]),
        [page(0x1000)]
    );
    // The very last page.
    let last = 0u64.wrapping_sub(0x1000);
    assert_eq!(fences(&mut vcpu, 1, &[own, 0, last, 0x1000]), [page(last)]);
    assert_eq!(
        fences(&mut vcpu, 2, &[own, 0, 0x1000, 1, 6]),
        [T(Translations::PageIn {
            address: 0x1000,
            asid: 6
        })]
    );
    // On nobody.
    assert_eq!(fences(&mut vcpu, 0, &[0, 0]), []);
}

#[test]
fn fences_on_others_leave() {
    let mut vcpu = vcpu();
    let target = mask(0b1101);
    let _ = run(&mut vcpu);
    machine::with(|m| m.fences.clear());
    assert_eq!(
        left(&mut vcpu, RFENCE, 2, &[0, ALL_HARTS, 0x5000, 0x2000, 9]),
        AxVCpuExitReason::RemoteFence {
            target,
            fence: Fence::Translations {
                start: GuestVirtAddr::new(0x5000),
                len: 0x2000,
                asid: Some(9),
            },
        }
    );
    assert_eq!(machine::with(|m| m.fences.len()), 2, "its own part is done");
    vcpu.set_return_value(Ok(0));
    assert_eq!(result(&vcpu), (0, 0));
    let everything = Fence::Translations {
        start: GuestVirtAddr::new(0),
        len: u64::MAX,
        asid: None,
    };
    for range in [[0, 0], [7, u64::MAX]] {
        let exit = left(&mut vcpu, RFENCE, 1, &[1, 0, range[0], range[1]]);
        let expected = AxVCpuExitReason::RemoteFence {
            target: mask(1),
            fence: everything,
        };
        assert_eq!(exit, expected);
    }
}

#[test]
fn fences_that_are_not_there() {
    let mut vcpu = vcpu();
    for function in 3..=6 {
        assert_eq!(
            answered(&mut vcpu, RFENCE, function, &[1, 0, 0, 0]),
            (NOT_SUPPORTED, 0)
        );
    }
    assert_eq!(
        answered(&mut vcpu, RFENCE, 1, &[1, 0, u64::MAX, 2]),
        (INVALID_ADDRESS, 0)
    );
}
