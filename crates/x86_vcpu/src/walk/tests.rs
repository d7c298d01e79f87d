use super::*;
use crate::testing::Ram;

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;

fn paging(cr0: u64, cr4: u64, efer: u64) -> Paging {
    Paging {
        registers: ControlRegisters {
            cr0: cr0 | self::cr0::PE,
            cr3: 0x1000,
            cr4,
            efer,
        },
        rflags: 0,
        privilege: Privilege::Supervisor,
    }
}

fn long() -> Paging {
    paging(
        cr0::PG | cr0::WP,
        cr4::PAE,
        efer::LMA | efer::LME | efer::NXE,
    )
}

fn fault(address: u64, error_code: u32) -> Result<u64, WalkFailure> {
    Err(WalkFailure::PageFault {
        address,
        error_code,
    })
}

fn at(paging: &Paging, ram: &Ram, address: u64, access: Access) -> Result<u64, WalkFailure> {
    paging
        .translate(ram, address, access)
        .map(|found| found.as_u64())
}

#[test]
fn without_paging_addresses_are_physical() {
    let ram = Ram::new();
    assert_eq!(
        at(&paging(0, 0, 0), &ram, 0x1_2345_6789, Access::Write),
        Ok(0x2345_6789)
    );
}

#[test]
fn four_levels_and_large_pages() {
    let ram = Ram::new();
    let paging = long();
    ram.put_u64(0x1000 + 8, 0x2000 | P | W);
    ram.put_u64(0x2000 + 8 * 2, 0x3000 | P | W);
    ram.put_u64(0x2000 + 8 * 3, 0x4000_0000 | P | W | PS);
    ram.put_u64(0x3000 + 8 * 3, 0x4000 | P | W);
    ram.put_u64(0x3000 + 8 * 5, 0x60_0000 | P | PS);
    ram.put_u64(0x4000 + 8 * 4, 0x9000 | P | W | NX);
    let base = 1 << 39 | 2 << 30;
    assert_eq!(
        at(
            &paging,
            &ram,
            base | 3 << 21 | 4 << 12 | 0x123,
            Access::Write
        ),
        Ok(0x9123)
    );
    assert_eq!(
        at(&paging, &ram, base | 5 << 21 | 0x12345, Access::Read),
        Ok(0x61_2345)
    );
    assert_eq!(
        at(&paging, &ram, 1 << 39 | 3 << 30 | 0x123_4567, Access::Read),
        Ok(0x4123_4567)
    );
    // Not executable, not writable, not there.
    let address = base | 3 << 21 | 4 << 12;
    assert_eq!(
        at(&paging, &ram, address, Access::Execute),
        fault(address, 0x11)
    );
    let address = base | 5 << 21;
    assert_eq!(at(&paging, &ram, address, Access::Write), fault(address, 3));
    assert_eq!(at(&paging, &ram, 8, Access::Write), fault(8, 2));
    assert_eq!(
        at(&paging, &ram, 1 << 47, Access::Read),
        Err(WalkFailure::NotCanonical)
    );
    // Without NXE the bit is reserved.
    let mut without = paging;
    without.registers.efer = efer::LMA;
    let address = base | 3 << 21 | 4 << 12;
    assert_eq!(at(&without, &ram, address, Access::Read), fault(address, 9));
    // Write protection does not hold the supervisor without CR0.WP.
    without.registers.cr0 &= !cr0::WP;
    assert!(at(&without, &ram, base | 5 << 21, Access::Write).is_ok());
    // Large pages at the fourth level are reserved.
    ram.put_u64(0x1000, P | PS);
    assert_eq!(at(&paging, &ram, 0, Access::Read), fault(0, 9));
}

#[test]
fn five_levels_reach_further() {
    let ram = Ram::new();
    let paging = paging(cr0::PG, cr4::PAE | cr4::LA57, efer::LMA);
    ram.put_u64(0x1000 + 8, 0x2000 | P | W);
    ram.put_u64(0x2000, 0x3000 | P | W);
    ram.put_u64(0x3000, PS | P | W);
    assert_eq!(
        at(&paging, &ram, 1 << 48 | 0x1234, Access::Write),
        Ok(0x1234)
    );
    assert_eq!(
        at(&paging, &ram, 1 << 57, Access::Write),
        Err(WalkFailure::NotCanonical)
    );
}

#[test]
fn pae_has_four_entries_at_its_root() {
    let ram = Ram::new();
    let mut paging = paging(cr0::PG, cr4::PAE, 0);
    paging.registers.cr3 = 0x1020;
    ram.put_u64(0x1020 + 8 * 3, 0x3000 | P);
    ram.put_u64(0x3000 + 8 * 2, 0x4000 | P | W);
    ram.put_u64(0x4000 + 8 * 5, 0x7000 | P | W);
    ram.put_u64(0x3000 + 8 * 3, 0x80_0000 | P | W | PS);
    let base = 3 << 30;
    assert_eq!(
        at(&paging, &ram, base | 2 << 21 | 5 << 12 | 7, Access::Write),
        Ok(0x7007)
    );
    assert_eq!(
        at(&paging, &ram, base | 3 << 21 | 0x1_0007, Access::Write),
        Ok(0x81_0007)
    );
    assert_eq!(at(&paging, &ram, 0, Access::Read), fault(0, 0));
}

#[test]
fn two_levels_have_pages_of_4_mib() {
    let ram = Ram::new();
    let mut paging = paging(cr0::PG, cr4::PSE, 0);
    ram.put(0x1000 + 4, &(0x2000u32 | 7).to_le_bytes());
    ram.put(0x2000 + 4 * 2, &(0x9000u32 | 3).to_le_bytes());
    // 4 MiB at 0x1_0040_0000.
    ram.put(
        0x1000 + 4 * 2,
        &(0x0040_0000u32 | 1 << 13 | 0x83).to_le_bytes(),
    );
    assert_eq!(
        at(&paging, &ram, 1 << 22 | 2 << 12 | 5, Access::Write),
        Ok(0x9005)
    );
    assert_eq!(
        at(&paging, &ram, 2 << 22 | 0x12345, Access::Write),
        Ok(0x1_0041_2345)
    );
    // Without PSE the bit says nothing: a table.
    paging.registers.cr4 = 0;
    assert!(at(&paging, &ram, 2 << 22, Access::Write).is_err());
}

#[test]
fn rights_depend_on_who_asks() {
    let ram = Ram::new();
    ram.put_u64(0x1000, 0x2000 | P | W | U);
    ram.put_u64(0x2000, PS | P | W | U);
    ram.put_u64(0x2008, 0x4000_0000 | PS | P | W);
    let supervisor = long();
    let user = Paging {
        privilege: Privilege::User,
        ..supervisor
    };
    let kernel_page = 1 << 30;
    assert_eq!(at(&user, &ram, 5, Access::Write), Ok(5));
    assert_eq!(
        at(&user, &ram, kernel_page, Access::Read),
        fault(kernel_page, 5)
    );
    assert_eq!(
        at(&user, &ram, kernel_page, Access::Write),
        fault(kernel_page, 7)
    );
    let mut guarded = supervisor;
    guarded.registers.cr4 |= cr4::SMEP | cr4::SMAP;
    assert_eq!(at(&guarded, &ram, 5, Access::Execute), fault(5, 0x11));
    assert_eq!(at(&guarded, &ram, 5, Access::Read), fault(5, 1));
    guarded.rflags = rflags::ALIGNMENT_CHECK;
    assert_eq!(at(&guarded, &ram, 5, Access::Read), Ok(5));
    assert_eq!(at(&supervisor, &ram, 5, Access::Execute), Ok(5));
}

#[test]
fn tables_outside_of_ram_are_told_apart() {
    let ram = Ram::new();
    ram.put_u64(0x1000, 0x00ff_ffff_f000 | P);
    let failure = at(&long(), &ram, 0, Access::Read).unwrap_err();
    assert_eq!(
        failure,
        WalkFailure::TableOutsideRam(GuestPhysAddr::new(0x00ff_ffff_f000))
    );
    assert_eq!(failure.exception(), None);
    let fault = WalkFailure::PageFault {
        address: 7,
        error_code: 2,
    };
    assert_eq!(
        fault
            .exception()
            .map(|(exception, cr2)| (exception.vector, cr2)),
        Some((14, Some(7)))
    );
}
