use super::*;
use crate::regs::SegmentRights;

const DATA: Segment = Segment {
    selector: 0x10,
    rights: SegmentRights(0xc093),
    limit: 0xffff_ffff,
    base: 0,
};
const NONE: Segment = Segment {
    selector: 0,
    rights: SegmentRights(0),
    limit: 0,
    base: 0,
};

/// Linux in 64-bit mode.
pub(crate) fn long_mode() -> GuestState {
    let cs = Segment {
        rights: SegmentRights(0xa09b),
        ..DATA
    };
    let tr = Segment {
        selector: 0x40,
        rights: SegmentRights(0x8b),
        limit: 0x67,
        base: 0xffff_8000_0000_0000,
    };
    GuestState {
        physical_bits: 40,
        control: ControlRegisters {
            cr0: 0x8005_0033,
            cr3: 0x1000,
            cr4: 0x20a0,
            efer: 0xd01,
        },
        pat: 0x0007_0406_0007_0406,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        sysenter_esp: 0,
        sysenter_eip: 0xffff_ffff_8100_0000,
        rip: 0xffff_ffff_8100_0000,
        rflags: 0x202,
        privilege: 0,
        segments: [NONE, cs, DATA, NONE, NONE, NONE, NONE, tr],
        gdtr: DescriptorTable {
            base: 0xffff_8000_0000_0000,
            limit: 0x7f,
        },
        idtr: DescriptorTable {
            base: 0,
            limit: 0xfff,
        },
    }
}

/// The state at reset.
pub(crate) fn real_mode() -> GuestState {
    let data = Segment {
        selector: 0,
        rights: SegmentRights(0x93),
        limit: 0xffff,
        base: 0,
    };
    let mut segments = [data; 8];
    segments[SegmentName::Cs as usize] = Segment {
        selector: 0xf000,
        rights: SegmentRights(0x9b),
        limit: 0xffff,
        base: 0xffff_0000,
    };
    segments[SegmentName::Ldtr as usize].rights.0 = 0x82;
    segments[SegmentName::Tr as usize].rights.0 = 0x8b;
    GuestState {
        control: ControlRegisters {
            cr0: 0x30,
            cr4: 0x2000,
            ..ControlRegisters::default()
        },
        rip: 0xfff0,
        rflags: 2,
        segments,
        ..long_mode()
    }
}

#[test]
fn finds_nothing_wrong_with_good_states() {
    assert_eq!(long_mode().check(), Ok(()));
    assert_eq!(real_mode().check(), Ok(()));
    // Compatibility mode.
    let mut state = long_mode();
    rights(&mut state, SegmentName::Cs).0 = 0xc09b;
    state.rip = 0x1000;
    assert_eq!(state.check(), Ok(()));
}

#[test]
fn a_vcpu_starts_in_good_states() {
    use crate::{X86Start, backend::VendorVcpu, testing::World};
    let mut world = World::new();
    for start in [
        X86Start::Parked,
        X86Start::RealMode {
            cs_base: 0x8000,
            ip: 0,
        },
        X86Start::Protected32 {
            eip: 0x10_0000,
            ebx: 0,
            eax: 0,
        },
        X86Start::Long64 {
            rip: 0x10_0000,
            rsi: 0,
            cr3: 0x1000,
        },
    ] {
        world.vcpu.reset(start);
        let state = world.vcpu.backend.state();
        assert_eq!(state.check(), Ok(()), "{start:?}");
    }
}

fn segment(state: &mut GuestState, name: SegmentName) -> &mut Segment {
    &mut state.segments[name as usize]
}

fn rights(state: &mut GuestState, name: SegmentName) -> &mut SegmentRights {
    &mut segment(state, name).rights
}

type Break = fn(&mut GuestState);

#[test]
fn names_the_rule_that_is_broken() {
    use SegmentName::{Cs, Ds, Es, Fs, Gs, Ldtr, Ss, Tr};
    let broken: &[(&str, Break)] = &[
        ("CR0 has bits above 31", |s| s.control.cr0 |= 1 << 40),
        ("CR0.NW is set without CR0.CD", |s| s.control.cr0 |= 1 << 29),
        ("CR0.PG is set without CR0.PE", |s| s.control.cr0 &= !1),
        ("CR4.CET is set without CR0.WP", |s| {
            s.control.cr0 &= !(1 << 16);
            s.control.cr4 |= 1 << 23;
        }),
        ("long mode without CR0.PG", |s| {
            s.control.cr0 &= !0x8000_0000
        }),
        ("long mode without CR4.PAE", |s| s.control.cr4 &= !0x20),
        ("CR4.PCIDE outside long mode", |s| {
            (s.control.efer, s.control.cr4) = (0, 0x2_20a0)
        }),
        ("CR3 is beyond physical addresses", |s| {
            s.control.cr3 = 1 << 40
        }),
        ("DR6 has bits above 31", |s| s.dr6 |= 1 << 32),
        ("DR7 has bits above 31", |s| s.dr7 |= 1 << 32),
        ("the PAT has a memory type that does not exist", |s| {
            s.pat = 2
        }),
        ("EFER.LME differs from LMA while paging is on", |s| {
            s.control.efer = 0x400
        }),
        ("SYSENTER_ESP is not canonical", |s| {
            s.sysenter_esp = 1 << 47
        }),
        ("IDTR's base is not canonical", |s| s.idtr.base = 1 << 47),
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
            rights(s, Cs).0 = 0xa09a
        }),
        ("CS's DPL differs from the privilege level", |s| {
            rights(s, Cs).0 |= 0x60
        }),
        (
            "CS is conforming with a DPL above the privilege level",
            |s| rights(s, Cs).0 = 0xa0ff,
        ),
        ("CS is not present", |s| rights(s, Cs).0 &= !0x80),
        ("CS is both 64-bit and 32-bit", |s| {
            rights(s, Cs).0 |= 0x4000
        }),
        ("CS's limit does not fit its granularity", |s| {
            segment(s, Cs).limit = 0xffff_0000
        }),
        ("SS's type is not that of accessed writable data", |s| {
            rights(s, Ss).0 = 0xc091
        }),
        ("a data segment is not accessed", |s| {
            *segment(s, Ds) = DATA;
            rights(s, Ds).0 = 0xc092;
        }),
        (
            "a data segment register holds code that is not readable",
            |s| {
                *segment(s, Es) = DATA;
                rights(s, Es).0 = 0xc099;
            },
        ),
        ("TR's type is not that of a busy TSS", |s| {
            rights(s, Tr).0 = 0x89
        }),
        ("TR is not present", |s| rights(s, Tr).0 = 0x0b),
        ("LDTR's type is not that of an LDT", |s| {
            rights(s, Ldtr).0 = 0x83
        }),
        ("RIP is not canonical", |s| s.rip = 1 << 47),
        ("RFLAGS has reserved bits", |s| s.rflags |= 8),
        ("RFLAGS lacks the bit that is always set", |s| {
            s.rflags = 0x200
        }),
        ("RFLAGS.VM is set in long or real mode", |s| {
            (s.rflags, s.rip) = (0x2_0202, 0x1000);
            for name in [Cs, Ss, Ds, Es, Fs, Gs] {
                *segment(s, name) = Segment {
                    rights: SegmentRights(0xf3),
                    limit: 0xffff,
                    ..NONE
                };
            }
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
    state.privilege = 3;
    rights(&mut state, SegmentName::Ss).0 |= 0x60;
    rights(&mut state, SegmentName::Cs).0 |= 0x60;
    assert_eq!(state.check(), Err("SS's DPL is not 0 in real mode"));
    state = real_mode();
    state.rip = 1 << 32;
    assert_eq!(state.check(), Err("RIP is above 4 GiB outside 64-bit mode"));
}
