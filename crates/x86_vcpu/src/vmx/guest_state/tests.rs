use super::*;
use crate::vmx::machine;

#[test]
fn writes_wait_for_the_next_load() {
    let mut state = GuestState::new();
    state.write(VmcsGuestNW::Rip, 0x1000);
    assert_eq!(state.read(VmcsGuestNW::Rip), 0x1000);
    machine::with(|m| m.load(0x1000)).unwrap();
    state.load();
    assert_eq!(vmcs::read(VmcsGuestNW::Rip as u32), 0x1000);
    assert_eq!(vmcs::read(VmcsGuest64::LinkPointer as u32), u64::MAX);

    // The guest runs.
    vmcs::write(VmcsGuestNW::Rip as u32, 0x2000);
    vmcs::write(VmcsGuest16::CsSelector as u32, 8);
    assert_eq!(state.read(VmcsGuestNW::Rip), 0x2000);
    state.save();
    machine::with(|m| m.load(0x2000)).unwrap();
    assert_eq!(state.read(VmcsGuestNW::Rip), 0x2000);
    assert_eq!(state.read(VmcsGuest16::CsSelector), 8);

    // Only what is changed now is written back.
    state.write(VmcsGuestNW::Rip, 0x3000);
    machine::with(|m| m.load(0x1000)).unwrap();
    vmcs::write(VmcsGuestNW::Rsp as u32, 7);
    state.load();
    assert_eq!(state.read(VmcsGuestNW::Rip), 0x3000);
    assert_eq!(state.read(VmcsGuestNW::Rsp), 7);
}

#[test]
fn every_field_has_a_place_of_its_own() {
    for (at, &encoding) in ENCODINGS.iter().enumerate() {
        assert_eq!(place(encoding), at);
    }
}

#[test]
fn segments_are_unusable_where_they_are_not_present() {
    let mut state = GuestState::new();
    let code = Segment {
        selector: 8,
        rights: SegmentRights(0xa09b),
        limit: 0xffff_ffff,
        base: 0,
    };
    for name in [
        SegmentName::Es,
        SegmentName::Cs,
        SegmentName::Ss,
        SegmentName::Ds,
        SegmentName::Fs,
        SegmentName::Gs,
        SegmentName::Ldtr,
        SegmentName::Tr,
    ] {
        state.set_segment(name, code);
        assert_eq!(state.segment(name), code);
        assert_eq!(state.read(SegmentFields::of(name).access), 0xa09b);
        let absent = Segment {
            rights: SegmentRights(0x0060),
            ..code
        };
        state.set_segment(name, absent);
        assert_eq!(state.read(SegmentFields::of(name).access), 0x1_0060);
        assert_eq!(state.segment(name), absent);
    }
    // The processor leaves rights in unusable segments.
    state.write(VmcsGuest32::DsAccess, 0x1_c0f3);
    assert_eq!(state.segment(SegmentName::Ds).rights, SegmentRights(0xc073));
}

#[test]
fn tables_keep_to_their_registers() {
    let mut state = GuestState::new();
    let gdtr = DescriptorTable {
        base: 0x1234,
        limit: 0x7f,
    };
    state.set_table(TableName::Gdtr, gdtr);
    assert_eq!(state.table(TableName::Gdtr), gdtr);
    assert_eq!(state.table(TableName::Idtr), DescriptorTable::default());
}
