use alloc::{collections::BTreeMap, string::ToString};

use super::*;

/// What Bochs 2.7 answers as `corei7_skylake_x`.
const SKYLAKE: VmxCapabilityWords = VmxCapabilityWords {
    basic: 0x00d8_1000_0000_002b,
    pin: 0x0000_007f_0000_0016,
    primary: 0xf7f9_fffe_0400_6172,
    secondary: 0x0217_7fff_0000_0000,
    exit: 0x007f_ffff_0003_6dfb,
    entry: 0x0000_ffff_0000_11fb,
    ept_vpid: 0x0000_0f01_0633_4141,
    misc: 0x2000_41e5,
    cr0: FixedBits {
        must_be_set: 0x8000_0021,
        may_be_set: 0xffff_ffff,
    },
    cr4: FixedBits {
        must_be_set: 0x2000,
        may_be_set: 0x0037_27ff,
    },
};

/// The same as `corei7_haswell_4770`, where it differs.
const HASWELL: VmxCapabilityWords = VmxCapabilityWords {
    secondary: 0x0004_7fff_0000_0000,
    cr4: FixedBits {
        must_be_set: 0x2000,
        may_be_set: 0x0017_27ff,
    },
    ..SKYLAKE
};

fn negotiate(
    change: impl FnOnce(&mut VmxCapabilityWords),
) -> Result<VmxCapabilities, &'static str> {
    let mut words = SKYLAKE;
    change(&mut words);
    VmxCapabilities::negotiate(&words).map_err(|missing| missing.0)
}

#[test]
fn takes_what_skylake_has() {
    let found = negotiate(|_| {}).unwrap();
    assert_eq!(found.revision, 0x2b);
    assert_eq!(found.pin, 0x16 | 0b10_1001);
    assert_eq!(found.secondary, 0x0010_10ea);
    assert_eq!(found.timer_shift, Some(5));
    assert_eq!(found.invvpid, Some(InvvpidType::SingleContext));
    assert_eq!(found.ept_leaf, LargestLeaf::Size1G);
    assert_eq!(found.primary & WINDOWS, 0, "the windows begin shut");
    assert_eq!(
        found.primary & (primary::CR3_LOAD_EXITING | primary::CR3_STORE_EXITING),
        0
    );
    assert_eq!(found.entry & entry::IA32E_MODE_GUEST, 0);
    assert_eq!(found.entry & entry::LOAD_EFER, entry::LOAD_EFER);
}

#[test]
fn takes_what_haswell_has() {
    let found = VmxCapabilities::negotiate(&HASWELL).unwrap();
    assert_eq!(found.secondary & secondary::ENABLE_XSAVES, 0);
    assert_eq!(
        found.secondary & secondary::ENABLE_INVPCID,
        secondary::ENABLE_INVPCID
    );
}

#[test]
fn every_control_that_is_forced_is_set_and_none_that_is_not_allowed() {
    let found = negotiate(|_| {}).unwrap();
    for (value, word) in [
        (found.pin, SKYLAKE.pin),
        (found.primary, SKYLAKE.primary),
        (found.secondary, SKYLAKE.secondary),
        (found.exit, SKYLAKE.exit),
        (found.entry, SKYLAKE.entry),
    ] {
        assert_eq!(value & forced(word), forced(word));
        assert_eq!(value & !allowed(word), 0);
    }
}

#[test]
fn names_the_control_that_is_missing() {
    let without = |bit: u32| !(u64::from(bit) << 32);
    for &(bit, name) in PIN.must {
        assert_eq!(negotiate(|w| w.pin &= without(bit)), Err(name));
    }
    for &(bit, name) in PRIMARY.must {
        assert_eq!(negotiate(|w| w.primary &= without(bit)), Err(name));
    }
    for &(bit, name) in SECONDARY.must {
        assert_eq!(negotiate(|w| w.secondary &= without(bit)), Err(name));
    }
    for &(bit, name) in EXIT.must {
        assert_eq!(negotiate(|w| w.exit &= without(bit)), Err(name));
    }
    for &(bit, name) in ENTRY.must {
        assert_eq!(negotiate(|w| w.entry &= without(bit)), Err(name));
    }
    for (bit, name) in EPT_VPID {
        assert_eq!(negotiate(|w| w.ept_vpid &= !bit), Err(name));
    }
    for &(bit, name) in PRIMARY.unwanted {
        assert_eq!(negotiate(|w| w.primary |= u64::from(bit)), Err(name));
    }
}

#[test]
fn names_what_is_wrong_with_the_structures() {
    assert_eq!(
        negotiate(|w| w.basic |= 1 << 32),
        Err("VMX structures of at most 4 KiB")
    );
    assert_eq!(
        negotiate(|w| w.basic &= !(6 << 50)),
        Err("VMX structures in write-back memory")
    );
    assert_eq!(
        negotiate(|w| w.basic |= basic::ADDRESSES_32_BIT),
        Err("VMX structures above 4 GiB")
    );
    assert_eq!(
        MissingCapability("EPT").to_string(),
        "this processor's VMX lacks EPT: guests need an Intel processor of 2010 or later, or a hypervisor below that offers it"
    );
}

#[test]
fn does_without_vpids() {
    let no_vpid = negotiate(|w| w.secondary &= !(u64::from(secondary::ENABLE_VPID) << 32)).unwrap();
    assert_eq!(no_vpid.invvpid, None);
    let no_single = negotiate(|w| w.ept_vpid &= !ept_vpid::INVVPID_SINGLE).unwrap();
    assert_eq!(no_single.invvpid, Some(InvvpidType::AllContexts));
    let no_invvpid = negotiate(|w| w.ept_vpid &= !ept_vpid::INVVPID).unwrap();
    assert_eq!(no_invvpid.invvpid, None);
    assert_eq!(no_invvpid.secondary & secondary::ENABLE_VPID, 0);
}

#[test]
fn knows_small_leaves() {
    let found = negotiate(|w| w.ept_vpid &= !ept_vpid::LEAF_1G).unwrap();
    assert_eq!(found.ept_leaf, LargestLeaf::Size2M);
}

/// A processor with the MSRs of `present`, on which any other faults.
fn read(present: &[(u32, u64)]) -> VmxCapabilityWords {
    let msrs: BTreeMap<u32, u64> = present.iter().copied().collect();
    VmxCapabilityWords::read(|number| *msrs.get(&number).expect("this MSR would fault"))
}

#[test]
fn reads_only_msrs_that_exist() {
    let old = [
        (msr::BASIC, 0x2b),
        (msr::PIN_BASED, 1),
        (msr::PRIMARY, 2),
        (msr::EXIT, 3),
        (msr::ENTRY, 4),
        (msr::MISC, 0),
        (msr::CR0_FIXED0, 5),
        (msr::CR0_FIXED1, 6),
        (msr::CR4_FIXED0, 7),
        (msr::CR4_FIXED1, 8),
    ];
    let words = read(&old);
    assert_eq!((words.pin, words.primary, words.secondary), (1, 2, 0));
    assert_eq!((words.exit, words.entry, words.ept_vpid), (3, 4, 0));
    assert_eq!((words.cr4.must_be_set, words.cr4.may_be_set), (7, 8));

    let secondary_allowed = u64::from(primary::ACTIVATE_SECONDARY) << 32;
    let ept_allowed = u64::from(secondary::ENABLE_EPT) << 32;
    let words = read(&[
        (msr::BASIC, basic::TRUE_CONTROLS),
        (msr::TRUE_PIN_BASED, 11),
        (msr::TRUE_PRIMARY, secondary_allowed),
        (msr::TRUE_EXIT, 13),
        (msr::TRUE_ENTRY, 14),
        (msr::MISC, 16),
        (msr::SECONDARY, ept_allowed),
        (msr::EPT_VPID, 15),
        (msr::CR0_FIXED0, 0),
        (msr::CR0_FIXED1, 0),
        (msr::CR4_FIXED0, 0),
        (msr::CR4_FIXED1, 0),
    ]);
    assert_eq!((words.pin, words.primary), (11, secondary_allowed));
    assert_eq!((words.secondary, words.ept_vpid), (ept_allowed, 15));
    assert_eq!(words.misc, 16);
}

#[test]
fn finds_both_kinds_of_wrong_bits() {
    let fixed = FixedBits {
        must_be_set: 0b0001,
        may_be_set: 0b0111,
    };
    assert_eq!(fixed.violated_by(0b0011), 0);
    assert_eq!(fixed.violated_by(0b1010), 0b1001);
}

#[test]
fn does_without_the_timer() {
    let found = negotiate(|w| w.pin &= !(u64::from(pin::PREEMPTION_TIMER) << 32)).unwrap();
    assert_eq!(found.timer_shift, None);
}

#[test]
fn keeps_of_a_local_apic_what_both_words_allow() {
    let keeps = |change: fn(&mut VmxCapabilityWords)| negotiate(change).unwrap().keeps;
    assert_eq!(keeps(|_| {}), Some(Keeps::Everything));
    let lacks = |bit: u32| !(u64::from(bit) << 32);
    for (bit, left) in [
        (secondary::VIRTUAL_INTERRUPT_DELIVERY, Keeps::Registers),
        (secondary::APIC_REGISTER_VIRTUALIZATION, Keeps::TaskPriority),
        (secondary::VIRTUALIZE_X2APIC_MODE, Keeps::TaskPriority),
        (secondary::VIRTUALIZE_APIC_ACCESSES, Keeps::TaskPriority),
    ] {
        let mut words = SKYLAKE;
        words.secondary &= lacks(bit);
        let found = VmxCapabilities::negotiate(&words).unwrap();
        assert_eq!(found.keeps, Some(left));
    }
    let mut words = SKYLAKE;
    words.primary &= lacks(primary::USE_TPR_SHADOW);
    assert_eq!(VmxCapabilities::negotiate(&words).unwrap().keeps, None);
    // CR8 exits whatever one wishes.
    assert_eq!(
        keeps(|words| words.primary |= u64::from(primary::CR8_LOAD_EXITING)),
        None
    );
    // Nothing of it is on before a vCPU asks for it.
    let found = negotiate(|_| {}).unwrap();
    assert_eq!(found.secondary & EVERYTHING, 0);
    assert_eq!(found.primary & primary::USE_TPR_SHADOW, 0);
}
