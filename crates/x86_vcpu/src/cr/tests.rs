use super::*;

const PAGED: ControlRegisters = ControlRegisters {
    cr0: cr0::PG | cr0::PE | cr0::ET,
    cr3: 0x1000,
    cr4: cr4::PAE,
    efer: efer::LME | efer::LMA,
};
const UNPAGED: ControlRegisters = ControlRegisters {
    cr0: cr0::PE | cr0::ET,
    cr3: 0x1000,
    cr4: cr4::PAE,
    efer: efer::LME,
};
const PG_PE: u64 = cr0::PG | cr0::PE;

#[test]
fn cr0_takes_what_the_manual_allows() {
    use CodeSize::{Legacy, Long};
    let legacy = ControlRegisters { efer: 0, ..UNPAGED };
    let pcid = ControlRegisters {
        cr4: cr4::PAE | cr4::PCIDE,
        ..PAGED
    };
    let no_pae = ControlRegisters { cr4: 0, ..UNPAGED };
    // (before, code, value, CR0 and EFER.LMA after)
    let cases = [
        (UNPAGED, Legacy, PG_PE, Some((PG_PE | cr0::ET, efer::LMA))),
        (UNPAGED, Legacy, cr0::PG, None),
        (no_pae, Legacy, PG_PE, None),
        (UNPAGED, Long, PG_PE, None),
        (legacy, Legacy, PG_PE, Some((PG_PE | cr0::ET, 0))),
        (PAGED, Legacy, cr0::PE, Some((cr0::PE | cr0::ET, 0))),
        (PAGED, Long, cr0::PE, None),
        (pcid, Legacy, cr0::PE, None),
        (
            PAGED,
            Long,
            PG_PE | cr0::TS,
            Some((PG_PE | cr0::TS | cr0::ET, efer::LMA)),
        ),
        (PAGED, Long, PG_PE | cr0::NW, None),
        (
            PAGED,
            Long,
            PG_PE | cr0::NW | cr0::CD,
            Some((PG_PE | cr0::NW | cr0::CD | cr0::ET, efer::LMA)),
        ),
        (PAGED, Long, PG_PE | 1 << 32, None),
        // Reserved bits of the low half are ignored.
        (
            PAGED,
            Long,
            PG_PE | 1 << 6 | 1 << 17,
            Some((PG_PE | cr0::ET, efer::LMA)),
        ),
        (legacy, Legacy, 0, Some((cr0::ET, 0))),
    ];
    for (before, code, value, after) in cases {
        let result = write_cr0(before, code, value).ok();
        let result = result.map(|next| (next.cr0, next.efer & efer::LMA));
        assert_eq!(result, after, "{before:x?} {code:?} {value:#x}");
    }
}

#[test]
fn cr4_takes_what_the_guest_has() {
    let all = u64::MAX >> 32;
    let short = ControlRegisters {
        cr3: 0x1001,
        ..PAGED
    };
    let cases = [
        (PAGED, all, cr4::PAE | cr4::PGE, true),
        (PAGED, cr4::PAE, cr4::PAE | cr4::PGE, false),
        (PAGED, all, cr4::PGE, false),
        (PAGED, all, cr4::PAE | cr4::LA57, false),
        (UNPAGED, all, cr4::PAE | cr4::LA57, true),
        (PAGED, all, cr4::PAE | cr4::PCIDE, true),
        (short, all, cr4::PAE | cr4::PCIDE, false),
        (UNPAGED, all, cr4::PAE | cr4::PCIDE, false),
        (UNPAGED, all, 0, true),
    ];
    for (before, allowed, value, fine) in cases {
        let result = write_cr4(before, allowed, value);
        assert_eq!(result.is_ok(), fine, "{before:x?} {value:#x}");
        if let Ok(next) = result {
            assert_eq!(
                next,
                ControlRegisters {
                    cr4: value,
                    ..before
                }
            );
        }
    }
}

#[test]
fn efer_keeps_lma_and_guards_lme() {
    let all = efer::SCE | efer::LME | efer::NXE;
    let cases = [
        (
            PAGED,
            efer::LME | efer::SCE,
            Some(efer::LME | efer::LMA | efer::SCE),
        ),
        (PAGED, efer::SCE, None),
        (UNPAGED, 0, Some(0)),
        // What is written to LMA does not count.
        (UNPAGED, efer::LMA, Some(0)),
        (UNPAGED, 1 << 12, None),
        (UNPAGED, efer::FFXSR, None),
    ];
    for (before, value, after) in cases {
        assert_eq!(write_efer(before, all, value).ok(), after, "{value:#x}");
    }
}

#[test]
fn xcr0_wants_states_in_company() {
    let all = 0b1110_0111;
    for (value, fine) in [
        (0b1, true),
        (0b11, true),
        (0b111, true),
        (0b101, false),
        (0b110, false),
        (0, false),
        (0b1110_0111, true),
        (0b0010_0111, false),
        (0b1110_0011, false),
        (0b1000, false),
    ] {
        assert_eq!(xcr0_is_valid(all, value), fine, "{value:#b}");
    }
    assert!(!xcr0_is_valid(0b11, 0b111));
}

#[test]
fn lmsw_sets_pe_and_never_clears_it() {
    assert_eq!(lmsw(0x10, 0xffff), 0x1f);
    assert_eq!(lmsw(0x1f, 0), 0x11);
}

#[test]
fn cr4_has_the_bits_of_the_features_shown() {
    crate::testing::power_on();
    // Protection keys are not shown.
    crate::machine::with(|m| m.cpuid.get_mut(&(7, 0)).unwrap().ecx |= 1 << 3);
    let table = CpuidTable::new(0, 1, 0);
    let allowed = cr4_of(|leaf| table.feature(leaf));
    assert_eq!(
        allowed & (cr4::SMEP | cr4::SMAP | cr4::OSXSAVE),
        cr4::SMEP | cr4::SMAP | cr4::OSXSAVE
    );
    assert_eq!(allowed & (cr4::LA57 | 1 << 22), 0);
}
