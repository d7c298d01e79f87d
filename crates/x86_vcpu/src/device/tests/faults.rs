//! Accesses that fault before the device hears of them.

use super::*;

/// The first GiB in pages of 4 KiB: the first 2 MiB of addresses lead to themselves, but for `absent` pages, and `device` to the device.
fn paged(world: &World, absent: &[u64], device: u64) {
    const TABLE: u64 = 0x3000;
    world.ram.put_u64(0x2000, TABLE | 7);
    world.ram.put_u64(TABLE, 0x4007);
    for page in 0..512 {
        let address = page << 12;
        let entry = match address {
            _ if absent.contains(&address) => 0,
            _ if address == device => DEVICE | 7,
            _ => address | 7,
        };
        world.ram.put_u64(0x4000 + page * 8, entry);
    }
}

/// An access that begins in a device's page and ends in one that is absent is a page fault, and the device hears nothing of it: the hardware tells of
/// the first page only.
#[test]
fn accesses_that_reach_into_an_absent_page_are_page_faults() {
    const AT: u64 = 0x1_0ffd;
    for (code, error, code_of_fault) in [
        (&[0x8b, 0x03][..], READ, 0),
        (&[0x89, 0x03], WRITE, 2),
        (&[0x87, 0x03], WRITE, 2),
        (&[0xab], WRITE, 2),
        (&[0xad], READ, 0),
        (&[0xa5], WRITE, 2),
    ] {
        // Twice: what was decoded before is no way around it.
        for absent in [&[][..], &[0x1_1000]] {
            let mut world = world_with(code);
            paged(&world, absent, AT & !0xfff);
            for _ in 0..2 {
                world.vcpu.backend.set(Register::Rip, ENTRY);
                then(move |guest| {
                    let gpr = &mut guest.registers.gpr;
                    for number in [gpr::RBX, gpr::RDI] {
                        gpr[number] = AT;
                    }
                    gpr[gpr::RSI] = if error == READ { AT } else { 0x5000 };
                    guest.exits(NESTED, error, DEVICE + 0xffd);
                });
                if absent.is_empty() {
                    let exit = world.run();
                    assert!(
                        matches!(exit, MmioRead { .. } | MmioWrite { .. }),
                        "{code:x?}: {exit:?}"
                    );
                    world.vcpu.fault_access().unwrap();
                    then(|guest| guest.exits(HOST_INTERRUPT, 0, 0));
                    while world.run() != HOST {
                        world.vcpu.fault_access().unwrap();
                    }
                } else {
                    then(move |guest| {
                        assert_eq!(
                            guest.injected(),
                            0x8000_0b0e | code_of_fault << 32,
                            "{code:x?}"
                        );
                        guest.exits(HOST_INTERRUPT, 0, 0);
                    });
                    assert_eq!(world.run(), HOST);
                    assert_eq!(world.vcpu.backend.get(Register::Cr2), 0x1_1000);
                    assert_eq!(rip(&world), ENTRY);
                }
            }
        }
    }
}

/// INS from here on.
const INSB: u64 = 0x0060_001d;

const OUTSB: u64 = 0x0060_001c;

#[test]
fn an_address_on_the_stack_that_is_not_canonical_is_a_stack_fault() {
    const NOT_CANONICAL: u64 = 1 << 62;
    for (code, info, vector) in [
        (&[0x36, 0x6e][..], OUTSB, 12),
        (&[0x6e], OUTSB, 13),
        (&[0x36, 0x6c], INSB, 13),
    ] {
        let mut world = world_with(code);
        then(move |guest| {
            guest.registers.gpr[gpr::RSI] = NOT_CANONICAL;
            guest.registers.gpr[gpr::RDI] = NOT_CANONICAL;
            guest.exits(0x7b, info, ENTRY + code.len() as u64);
        });
        then(move |guest| {
            assert_eq!(guest.injected(), 0x8000_0b00 | vector, "{code:x?}");
            guest.exits(HOST_INTERRUPT, 0, 0);
        });
        assert_eq!(world.run(), HOST);
    }
}

/// As for a store by the guest itself.
#[test]
fn strings_into_ram_that_is_only_for_reading_are_faults_of_the_guests() {
    let mut world = world_with(&[0x6c]);
    then(|guest| {
        guest.registers.gpr[gpr::RDI] = READ_ONLY;
        guest.exits(0x7b, INSB, ENTRY + 1);
    });
    assert!(matches!(world.run(), IoRead { .. }));
    world.vcpu.finish_read(7).unwrap();
    then(|guest| {
        assert_eq!(guest.injected(), 0x8000_0b0d);
        guest.exits(HOST_INTERRUPT, 0, 0);
    });
    assert_eq!(world.run(), HOST);
    assert_eq!(rip(&world), ENTRY);
}
