use super::*;
use crate::{machine, testing::power_on};

const TSC_HZ: u64 = 2_400_000_000;
const STATE: CpuidState = CpuidState { cr4: 0, xcr0: 1 };

fn table(id: usize, count: usize) -> CpuidTable {
    power_on();
    CpuidTable::new(id, count, TSC_HZ)
}

fn ask(table: &CpuidTable, leaf: u32, subleaf: u32) -> CpuidResult {
    table.answer(leaf, subleaf, || STATE)
}

#[test]
fn the_hypervisor_says_who_it_is() {
    let table = table(0, 1);
    let answer = ask(&table, 0x4000_0000, 0);
    let name: alloc::vec::Vec<u8> = [answer.ebx, answer.ecx, answer.edx]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    assert_eq!((answer.eax, &name[..]), (0x4000_0010, &b"AxHVAxHVAxHV"[..]));
    assert_eq!(ask(&table, 1, 0).ecx >> 31, 1);
}

#[test]
fn what_guests_cannot_use_is_hidden_and_what_is_emulated_shown() {
    power_on();
    machine::with(|m| {
        for leaf in [1, 7, 0x8000_0001, 0x8000_0007, 0x8000_0008] {
            m.cpuid.insert(
                (leaf, 0),
                CpuidResult {
                    eax: 1,
                    ebx: !0,
                    ecx: !0,
                    edx: !0,
                },
            );
        }
        for leaf in [5, 0xa, 0xf, 0x10, 0x12, 0x14, 0x8000_000a, 0x8000_001f] {
            m.cpuid.insert(
                (leaf, 0),
                CpuidResult {
                    eax: !0,
                    ebx: !0,
                    ecx: !0,
                    edx: !0,
                },
            );
        }
        m.cpuid.get_mut(&(0, 0)).unwrap().eax = 0x1f;
    });
    let table = CpuidTable::new(0, 1, TSC_HZ);
    // MONITOR, VMX, SMX, PDCM; OSXSAVE is the guest's doing.
    for bit in [3, 5, 6, 15, 18, 27] {
        assert_eq!(ask(&table, 1, 0).ecx >> bit & 1, 0, "{bit}");
    }
    assert_eq!(ask(&table, 1, 0).ecx & FORCED_ECX1, FORCED_ECX1);
    // TSX, MPX, SGX, PQM, PT.
    for bit in [1, 2, 4, 11, 12, 14, 15, 25] {
        assert_eq!(ask(&table, 7, 0).ebx >> bit & 1, 0, "{bit}");
    }
    // Protection keys, WAITPKG, shadow stacks.
    for bit in [3, 4, 5, 7, 31] {
        assert_eq!(ask(&table, 7, 0).ecx >> bit & 1, 0, "{bit}");
    }
    // Speculation control, architectural capabilities.
    for bit in [5, 20, 26, 27, 28, 29, 31] {
        assert_eq!(ask(&table, 7, 0).edx >> bit & 1, 0, "{bit}");
    }
    // SVM, IBS, SKINIT, performance counters, MWAITX.
    for bit in [2, 10, 12, 23, 24, 28, 29] {
        assert_eq!(ask(&table, 0x8000_0001, 0).ecx >> bit & 1, 0, "{bit}");
    }
    for leaf in [5, 0xa, 0xf, 0x10, 0x12, 0x14, 0x8000_000a, 0x8000_001f] {
        assert_eq!(ask(&table, leaf, 0), NOTHING, "{leaf:#x}");
    }
    assert_eq!(ask(&table, 0x8000_0007, 0).edx, INVARIANT_TSC);
}

#[test]
fn topology_is_one_package_of_single_threaded_cores() {
    let table = table(2, 3);
    let one = ask(&table, 1, 0);
    assert_eq!((one.ebx >> 24, one.ebx >> 16 & 0xff), (2, 3));
    assert_eq!(one.edx & HTT_EDX1, HTT_EDX1);
    assert_eq!(ask(&table, 0x8000_0008, 0).ecx, 2 << 12 | 2);
    assert_eq!(ask(&table, 0x8000_001e, 0).eax, 2);
    // Private first level, shared third.
    assert_eq!(ask(&table, 0x8000_001d, 0).eax >> 14, 0);
    assert_eq!(ask(&table, 0x8000_001d, 3).eax >> 14, 2);
    machine::with(|m| m.cpuid.get_mut(&(0, 0)).unwrap().eax = 0x1f);
    let table = CpuidTable::new(2, 3, TSC_HZ);
    for leaf in [0xb, 0x1f] {
        assert_eq!(
            ask(&table, leaf, 0),
            CpuidResult {
                eax: 0,
                ebx: 1,
                ecx: 0x100,
                edx: 2
            }
        );
        assert_eq!(
            ask(&table, leaf, 1),
            CpuidResult {
                eax: 2,
                ebx: 3,
                ecx: 0x201,
                edx: 2
            }
        );
        assert_eq!(
            ask(&table, leaf, 2),
            CpuidResult {
                eax: 0,
                ebx: 0,
                ecx: 2,
                edx: 2
            }
        );
    }
}

#[test]
fn states_are_consistent_with_xcr0() {
    let table = table(0, 1);
    let with = |cr4, xcr0| move || CpuidState { cr4, xcr0 };
    let states = table.answer(0xd, 0, with(0, 1));
    assert_eq!((states.eax, states.ebx, states.ecx), (7, 0x240, 0x340));
    assert_eq!(table.answer(0xd, 0, with(0, 7)).ebx, 0x340);
    assert_eq!(table.answer(0xd, 1, with(0, 7)).eax, 5);
    let avx = table.answer(0xd, 2, with(0, 7));
    assert_eq!((avx.eax, avx.ebx), (0x100, 0x240));
    assert_eq!(table.answer(0xd, 3, with(0, 7)), NOTHING);
    assert_eq!(table.answer(0xd, 63, with(0, 7)), NOTHING);
    assert_eq!(table.answer(1, 0, with(0, 1)).ecx & OSXSAVE_ECX1, 0);
    assert_eq!(
        table.answer(1, 0, with(cr4::OSXSAVE, 1)).ecx & OSXSAVE_ECX1,
        OSXSAVE_ECX1
    );
}

#[test]
fn leaves_beyond_the_last_are_empty() {
    let table = table(0, 1);
    for leaf in [0xe, 0x1f, 0x20, 0x4000_0001, 0x8000_0020, 0x8fff_ffff, !0] {
        assert_eq!(ask(&table, leaf, 0), NOTHING, "{leaf:#x}");
    }
}

#[test]
fn the_rates_are_those_of_the_guests_own_timers() {
    power_on();
    let one_of = |highest, vendor: &[u8; 4]| {
        machine::with(|m| {
            let first = m.cpuid.get_mut(&(0, 0)).unwrap();
            (first.eax, first.ebx) = (highest, u32::from_le_bytes(*vendor));
        });
        CpuidTable::new(0, 1, TSC_HZ)
    };
    let old = one_of(0xd, b"Auth");
    assert_eq!(ask(&old, 0x15, 0), NOTHING);
    let timing = ask(&old, 0x4000_0010, 0);
    assert_eq!((timing.eax, timing.ebx), (2_400_000, 150_000));
    let is_crystal = |table: &CpuidTable| {
        let crystal = ask(table, 0x15, 0);
        assert_eq!(
            (crystal.eax, crystal.ebx, crystal.ecx),
            (1, 16, 150_000_000)
        );
    };
    is_crystal(&one_of(0x16, b"Auth"));

    // An Intel from before these leaves has them, and nothing in between.
    let older = one_of(0xd, b"Genu");
    is_crystal(&older);
    assert_eq!(ask(&older, 0, 0).eax, 0x16);
    let processor = ask(&older, 0x16, 0);
    assert_eq!((processor.eax, processor.ecx), (2_400, 150));
    for leaf in [0xe, 0xf, 0x10, 0x12, 0x14, 0x17] {
        assert_eq!(ask(&older, leaf, 0), NOTHING, "{leaf:#x}");
    }
    // A newer one says itself how fast it is.
    let said = CpuidResult {
        eax: 3_000,
        ..NOTHING
    };
    machine::with(|m| m.cpuid.insert((0x16, 0), said));
    assert_eq!(ask(&one_of(0x17, b"Genu"), 0x16, 0), said);
}

#[test]
fn a_plain_leaf_shows_the_same_whatever_is_asked_beside() {
    let table = &table(1, 2);
    let states = [0, u64::MAX].map(|word| CpuidState {
        cr4: word,
        xcr0: word,
    });
    let plain: alloc::vec::Vec<u32> = (0..=MAX_BASIC + 2)
        .chain([HYPERVISOR, EXTENDED, u32::MAX])
        .filter(|&leaf| {
            let answer = table.plain(leaf);
            for (state, subleaf) in states
                .into_iter()
                .flat_map(|state| [0, 1, 2, u32::MAX].map(|subleaf| (state, subleaf)))
            {
                let full = table.answer(leaf, subleaf, || state);
                assert!(answer.is_none_or(|answer| *answer == full), "{leaf:#x}");
            }
            answer.is_some()
        })
        .collect();
    assert_eq!(plain.len(), 26);
    assert!(plain.contains(&0) && !plain.contains(&1));
}
