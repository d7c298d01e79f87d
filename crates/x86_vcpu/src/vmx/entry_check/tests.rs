use super::*;
use crate::legal::tests::{long_mode, real_mode};

fn snapshot(state: GuestState) -> GuestSnapshot {
    GuestSnapshot {
        cr0_fixed: FixedBits {
            must_be_set: 0x8000_0021,
            may_be_set: 0xffff_ffff,
        },
        cr4_fixed: FixedBits {
            must_be_set: 0x2000,
            may_be_set: 0x0037_27ff,
        },
        cr0: state.control.cr0,
        cr4: state.control.cr4,
        ia32e: state.is_long(),
        injected: None,
        debugctl: 0,
        activity: 0,
        interruptibility: 0,
        pending_debug: 0,
        link_pointer: u64::MAX,
        pdptes: [0; 4],
        state,
    }
}

/// Outside long mode, with PAE paging.
fn pae() -> GuestSnapshot {
    let mut state = real_mode();
    (state.control.cr0, state.control.cr4) = (0x8000_0031, 0x2020);
    snapshot(state)
}

#[test]
fn finds_nothing_wrong_with_good_states() {
    assert_eq!(snapshot(long_mode()).check(), Ok(()));
    assert_eq!(snapshot(real_mode()).check(), Ok(()));
    let mut state = pae();
    state.pdptes = [0x1001, 0, 0x2001, 0];
    assert_eq!(state.check(), Ok(()));
    state.pdptes = [0x1001, 0x3, 0, 0];
    assert_eq!(state.check(), Err("a PDPTE has reserved bits"));
}

fn inject(kind: InterruptKind) -> Option<InterruptInfo> {
    Some(InterruptInfo {
        vector: 2,
        kind,
        error_code: None,
    })
}

type Break = fn(&mut GuestSnapshot);

#[test]
fn names_the_rule_that_is_broken() {
    let broken: &[(&str, Break)] = &[
        ("CR0 breaks bits that VMX fixes", |s| s.cr0 &= !0x20),
        ("CR4 breaks bits that VMX fixes", |s| s.cr4 = 0xa0),
        ("CR4 breaks bits that VMX fixes", |s| s.cr4 |= 1 << 30),
        ("IA32_DEBUGCTL has reserved bits", |s| s.debugctl = 1 << 20),
        ("EFER has reserved bits", |s| {
            s.state.control.efer |= 1 << 12
        }),
        ("EFER.LMA differs from the entry's mode", |s| {
            s.ia32e = false
        }),
        // One of the architecture's.
        ("RIP is not canonical", |s| s.state.rip = 1 << 47),
        ("an interrupt is injected while RFLAGS.IF is clear", |s| {
            (s.injected, s.state.rflags) = (inject(InterruptKind::External), 2)
        }),
        ("the activity state does not exist", |s| s.activity = 4),
        (
            "a state other than active while STI or MOV SS blocks",
            |s| (s.activity, s.interruptibility) = (1, 1),
        ),
        ("the interruptibility state has reserved bits", |s| {
            s.interruptibility = 1 << 5
        }),
        ("STI and MOV SS block both", |s| s.interruptibility = 3),
        ("STI blocks while RFLAGS.IF is clear", |s| {
            (s.interruptibility, s.state.rflags) = (1, 2)
        }),
        ("an interrupt is injected while STI or MOV SS blocks", |s| {
            (s.injected, s.interruptibility) = (inject(InterruptKind::External), 2)
        }),
        ("an NMI is injected while MOV SS blocks", |s| {
            (s.injected, s.interruptibility) = (inject(InterruptKind::Nmi), 2)
        }),
        ("an NMI is injected while NMIs are blocked", |s| {
            (s.injected, s.interruptibility) = (inject(InterruptKind::Nmi), 8)
        }),
        ("the pending debug exceptions have reserved bits", |s| {
            s.pending_debug = 1 << 4
        }),
        (
            "the pending single step does not agree with RFLAGS.TF",
            |s| (s.interruptibility, s.state.rflags) = (2, 0x302),
        ),
        ("the VMCS link pointer is not all ones", |s| {
            s.link_pointer = 0
        }),
    ];
    for (rule, spoil) in broken {
        let mut state = snapshot(long_mode());
        spoil(&mut state);
        assert_eq!(state.check(), Err(*rule));
    }
}
