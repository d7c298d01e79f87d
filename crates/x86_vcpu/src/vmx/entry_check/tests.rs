use super::*;

const USABLE_DATA: RawSegment = RawSegment {
    selector: 0x10,
    base: 0,
    limit: 0xffff_ffff,
    access: 0xc093,
};
const UNUSABLE: RawSegment = RawSegment {
    selector: 0,
    base: 0,
    limit: 0,
    access: access::UNUSABLE,
};

/// Linux in 64-bit mode.
fn long_mode() -> GuestSnapshot {
    let cs = RawSegment {
        access: 0xa09b,
        ..USABLE_DATA
    };
    let tr = RawSegment {
        selector: 0x40,
        base: 0xffff_8000_0000_0000,
        limit: 0x67,
        access: 0x8b,
    };
    GuestSnapshot {
        cr0_fixed: FixedBits {
            must_be_set: 0x8000_0021,
            may_be_set: 0xffff_ffff,
        },
        cr4_fixed: FixedBits {
            must_be_set: 0x2000,
            may_be_set: 0x0037_27ff,
        },
        physical_bits: 40,
        ia32e: true,
        injected: None,
        cr0: 0x8005_0033,
        cr3: 0x1000,
        cr4: 0x20a0,
        efer: 0xd01,
        pat: 0x0007_0406_0007_0406,
        dr7: 0x400,
        debugctl: 0,
        sysenter_esp: 0,
        sysenter_eip: 0xffff_ffff_8100_0000,
        rip: 0xffff_ffff_8100_0000,
        rflags: 0x202,
        segments: [
            UNUSABLE,
            cs,
            USABLE_DATA,
            UNUSABLE,
            UNUSABLE,
            UNUSABLE,
            UNUSABLE,
            tr,
        ],
        gdtr: (0xffff_8000_0000_0000, 0x7f),
        idtr: (0, 0xfff),
        activity: 0,
        interruptibility: 0,
        pending_debug: 0,
        link_pointer: u64::MAX,
        pdptes: [0; 4],
    }
}

/// The state at reset.
fn real_mode() -> GuestSnapshot {
    let data = RawSegment {
        selector: 0,
        base: 0,
        limit: 0xffff,
        access: 0x93,
    };
    let mut segments = [data; 8];
    segments[SegmentName::Cs as usize] = RawSegment {
        selector: 0xf000,
        base: 0xffff_0000,
        limit: 0xffff,
        access: 0x9b,
    };
    segments[SegmentName::Ldtr as usize].access = 0x82;
    segments[SegmentName::Tr as usize].access = 0x8b;
    GuestSnapshot {
        ia32e: false,
        cr0: 0x30,
        cr3: 0,
        cr4: 0x2000,
        efer: 0,
        rip: 0xfff0,
        rflags: 2,
        segments,
        gdtr: (0, 0xffff),
        idtr: (0, 0xffff),
        ..long_mode()
    }
}

#[test]
fn finds_nothing_wrong_with_good_states() {
    assert_eq!(long_mode().check(), Ok(()));
    assert_eq!(real_mode().check(), Ok(()));
    // Compatibility mode, and PAE paging.
    let mut state = long_mode();
    state.segments[SegmentName::Cs as usize].access = 0xc09b;
    state.rip = 0x1000;
    assert_eq!(state.check(), Ok(()));
    state.ia32e = false;
    state.efer = 0;
    state.pdptes = [0x1001, 0, 0x2001, 0];
    assert_eq!(state.check(), Ok(()));
}

fn inject(kind: InterruptKind) -> Option<InterruptInfo> {
    Some(InterruptInfo {
        vector: 2,
        kind,
        error_code: None,
    })
}

fn segment(state: &mut GuestSnapshot, name: SegmentName) -> &mut RawSegment {
    &mut state.segments[name as usize]
}

type Break = fn(&mut GuestSnapshot);

#[test]
fn names_the_rule_that_is_broken() {
    use SegmentName::{Cs, Ds, Es, Gs, Ldtr, Ss, Tr};
    let broken: &[(&str, Break)] = &[
        ("CR0 breaks bits that VMX fixes", |s| s.cr0 &= !0x20),
        ("CR0.PG is set without CR0.PE", |s| s.cr0 &= !1),
        ("CR4 breaks bits that VMX fixes", |s| s.cr4 = 0xa0),
        ("CR4 breaks bits that VMX fixes", |s| s.cr4 |= 1 << 30),
        ("IA32_DEBUGCTL has reserved bits", |s| s.debugctl = 1 << 20),
        ("IA-32e mode without CR0.PG", |s| s.cr0 &= !0x8000_0000),
        ("IA-32e mode without CR4.PAE", |s| s.cr4 &= !0x20),
        ("CR4.PCIDE outside IA-32e mode", |s| {
            (s.ia32e, s.cr4) = (false, 0x2_20a0)
        }),
        ("CR3 is beyond physical addresses", |s| s.cr3 = 1 << 40),
        ("DR7 has bits above 31", |s| s.dr7 |= 1 << 32),
        ("IA32_SYSENTER_ESP is not canonical", |s| {
            s.sysenter_esp = 1 << 47
        }),
        ("IA32_PAT has a memory type that does not exist", |s| {
            s.pat = 2
        }),
        ("IA32_EFER has reserved bits", |s| s.efer |= 1 << 12),
        ("IA32_EFER.LMA differs from the entry's mode", |s| {
            s.efer = 0x100
        }),
        ("IA32_EFER.LME differs from LMA while paging is on", |s| {
            s.efer = 0x400
        }),
        ("TR's selector is of the LDT", |s| {
            segment(s, Tr).selector |= 4
        }),
        ("GS's base is not canonical", |s| {
            segment(s, Gs).base = 1 << 63
        }),
        ("CS's base is above 4 GiB", |s| {
            segment(s, Cs).base = 1 << 32
        }),
        ("the base of SS, DS or ES is above 4 GiB", |s| {
            segment(s, Ss).base = 1 << 32
        }),
        ("CS's type is not that of accessed code", |s| {
            segment(s, Cs).access = 0xa09a
        }),
        ("CS's DPL differs from SS's", |s| {
            segment(s, Cs).access |= 0x60
        }),
        ("CS is conforming with a DPL above SS's", |s| {
            segment(s, Cs).access = 0xa0ff
        }),
        ("CS is not present", |s| segment(s, Cs).access &= !0x80),
        ("CS is both 64-bit and 32-bit", |s| {
            segment(s, Cs).access |= 0x4000
        }),
        ("CS's limit does not fit its granularity", |s| {
            segment(s, Cs).limit = 0xffff_0000
        }),
        ("SS's type is not that of accessed writable data", |s| {
            segment(s, Ss).access = 0xc091
        }),
        ("a data segment is not accessed", |s| {
            *segment(s, Ds) = RawSegment {
                access: 0xc092,
                ..USABLE_DATA
            }
        }),
        (
            "a data segment register holds code that is not readable",
            |s| {
                *segment(s, Es) = RawSegment {
                    access: 0xc099,
                    ..USABLE_DATA
                }
            },
        ),
        ("TR's type is not that of a busy TSS", |s| {
            segment(s, Tr).access = 0x89
        }),
        ("TR is unusable", |s| segment(s, Tr).access |= 1 << 16),
        ("LDTR's type is not that of an LDT", |s| {
            segment(s, Ldtr).access = 0x83
        }),
        ("GDTR's limit is above 64 KiB", |s| s.gdtr.1 = 0x1_0000),
        ("RIP is not canonical", |s| s.rip = 1 << 47),
        ("RFLAGS has reserved bits", |s| s.rflags |= 8),
        ("RFLAGS lacks the bit that is always set", |s| {
            s.rflags = 0x200
        }),
        ("RFLAGS.VM is set in IA-32e or real mode", |s| {
            (s.rflags, s.rip) = (0x2_0202, 0x1000);
            for name in [Cs, Ss, Ds, Es, SegmentName::Fs, Gs] {
                *segment(s, name) = RawSegment {
                    selector: 0,
                    base: 0,
                    limit: 0xffff,
                    access: 0xf3,
                };
            }
        }),
        ("an interrupt is injected while RFLAGS.IF is clear", |s| {
            (s.injected, s.rflags) = (inject(InterruptKind::External), 2)
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
            (s.interruptibility, s.rflags) = (1, 2)
        }),
        ("an interrupt is injected while STI or MOV SS blocks", |s| {
            (s.injected, s.interruptibility) = (inject(InterruptKind::External), 2)
        }),
        ("an NMI is injected while NMIs are blocked", |s| {
            (s.injected, s.interruptibility) = (inject(InterruptKind::Nmi), 8)
        }),
        ("the pending debug exceptions have reserved bits", |s| {
            s.pending_debug = 1 << 4
        }),
        (
            "the pending single step does not agree with RFLAGS.TF",
            |s| (s.interruptibility, s.rflags) = (2, 0x302),
        ),
        ("the VMCS link pointer is not all ones", |s| {
            s.link_pointer = 0
        }),
    ];
    for (rule, spoil) in broken {
        let mut state = long_mode();
        spoil(&mut state);
        assert_eq!(state.check(), Err(*rule));
    }
}

#[test]
fn names_rules_of_other_modes() {
    let mut state = real_mode();
    segment(&mut state, SegmentName::Ss).access |= 0x60;
    segment(&mut state, SegmentName::Cs).access |= 0x60;
    assert_eq!(state.check(), Err("SS's DPL is not 0 in real mode"));
    state = real_mode();
    state.rip = 1 << 32;
    assert_eq!(state.check(), Err("RIP is above 4 GiB outside 64-bit mode"));
    state = long_mode();
    (state.ia32e, state.efer, state.rip) = (false, 0, 0);
    state.segments[SegmentName::Cs as usize].access = 0xc09b;
    state.pdptes = [0x1001, 0x3, 0, 0];
    assert_eq!(state.check(), Err("a PDPTE has reserved bits"));
}
