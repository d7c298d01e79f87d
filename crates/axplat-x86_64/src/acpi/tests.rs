//! The tables, as firmware writes them and as it should not.

use std::{vec, vec::Vec};

use super::{
    fadt::{self, PmTimer, PowerOff},
    hpet,
    madt::{self, Entry, Polarity, Signal, Trigger},
    mcfg, *,
};
use crate::bytes::testing::Pieces;

fn sdt(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = vec![0; HEADER_LEN];
    table[..4].copy_from_slice(signature);
    let len = (HEADER_LEN + body.len()) as u32;
    table[4..8].copy_from_slice(&len.to_le_bytes());
    table.extend_from_slice(body);
    table
}

fn rsdp(revision: u8, rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut rsdp = vec![0; 36];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    rsdp[15] = revision;
    rsdp[16..20].copy_from_slice(&rsdt.to_le_bytes());
    rsdp[20] = 36;
    rsdp[24..32].copy_from_slice(&xsdt.to_le_bytes());
    for (at, len) in [(8, 20), (32, 36)] {
        let sum = rsdp[..len]
            .iter()
            .fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        rsdp[at] = sum.wrapping_neg();
    }
    rsdp
}

const DSDT_AT: u32 = 0x7fe_1000;

/// QEMU's `\_S5`.
const S5: [u8; 12] = [
    0x08, b'_', b'S', b'5', b'_', 0x12, 0x06, 0x04, 0x00, 0x00, 0x00, 0x00,
];

fn fadt_body() -> Vec<u8> {
    let mut fadt = vec![0; 244];
    let mut put = |at: usize, bytes: &[u8]| fadt[at..at + bytes.len()].copy_from_slice(bytes);
    put(40, &DSDT_AT.to_le_bytes());
    put(48, &0xb2_u32.to_le_bytes());
    put(52, &[2]);
    put(64, &0x604_u32.to_le_bytes());
    put(76, &0x608_u32.to_le_bytes());
    put(108, &[0x32]);
    put(112, &(1_u32 << 8).to_le_bytes());
    fadt.split_off(HEADER_LEN)
}

/// A machine with an RSDT and, in revision 2, an XSDT that knows one table more.
fn machine(revision: u8) -> Pieces {
    let (rsdt, xsdt) = (0x7fe_0000_u32, 0x7fe_0200_u64);
    let (facp, apic) = (0x7fe_0400_u32, 0x7fe_0600_u32);
    Pieces(vec![
        (0x40e, 0x9fc0_u16.to_le_bytes().to_vec()),
        (0x9fc00, vec![0; 1024]),
        (0xf_5a40, rsdp(revision, rsdt, xsdt)),
        (u64::from(rsdt), sdt(b"RSDT", &facp.to_le_bytes())),
        (
            xsdt,
            sdt(
                b"XSDT",
                &[u64::from(facp).to_le_bytes(), u64::from(apic).to_le_bytes()].concat(),
            ),
        ),
        (u64::from(facp), sdt(b"FACP", &fadt_body())),
        (u64::from(apic), sdt(b"APIC", &[])),
        (
            u64::from(DSDT_AT),
            sdt(b"DSDT", &[&[0x10, 0x20][..], &S5].concat()),
        ),
    ])
}

#[test]
fn the_root_leads_to_the_tables() {
    let memory = machine(0);
    let old = Tables::find(&memory).unwrap();
    assert!(old.get(b"FACP").is_some() && old.get(b"APIC").is_none());
    let memory = machine(2);
    let new = Tables::find(&memory).unwrap();
    assert!(new.get(b"FACP").is_some() && new.get(b"APIC").is_some());
    assert!(new.get(b"HPET").is_none());
}

#[test]
fn the_extended_data_area_is_searched_too() {
    let mut memory = machine(0);
    let root = memory.0.remove(2).1;
    assert!(Tables::find(&memory).is_none());
    memory.0[1].1[0x30..0x54].copy_from_slice(&root);
    assert!(Tables::find(&memory).is_some());
}

#[test]
fn a_root_with_a_bad_checksum_is_none() {
    let mut memory = machine(0);
    memory.0[2].1[9] ^= 1;
    assert!(Tables::find(&memory).is_none());
}

#[test]
fn an_xsdt_that_is_not_there_gives_way_to_the_rsdt() {
    let mut memory = machine(2);
    memory.0[4].1[0] = b'?';
    assert!(Tables::find(&memory).unwrap().get(b"FACP").is_some());
}

#[test]
fn a_table_longer_than_memory_is_none() {
    let mut memory = machine(0);
    memory.0[5].1[4..8].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    assert!(Tables::find(&memory).unwrap().get(b"FACP").is_none());
    memory.0[5].1[4..8].copy_from_slice(&35_u32.to_le_bytes());
    assert!(Tables::find(&memory).unwrap().get(b"FACP").is_none());
}

#[test]
fn the_fadt_says_how_to_power_off() {
    let memory = machine(0);
    let tables = Tables::find(&memory).unwrap();
    let facp = tables.get(b"FACP").unwrap();
    let timer = PmTimer {
        port: 0x608,
        mask: u32::MAX,
    };
    assert_eq!(fadt::pm_timer(facp), Some(timer));
    assert_eq!(fadt::century(facp), Some(0x32));
    let expected = PowerOff {
        control: [Some((0x604, 0)), None],
        enable: Some((0xb2, 2)),
    };
    assert_eq!(fadt::power_off(&tables, facp), Some(expected));
}

/// Also of a machine that does not say how they are used: its DSDT names no S5, and nothing says what brings it into ACPI mode.
#[test]
fn ports_of_power_are_known_without_the_way_to_use_them() {
    let mut facp = sdt(b"FACP", &fadt_body());
    facp[52] = 0;
    facp[68..72].copy_from_slice(&0x704_u32.to_le_bytes());
    facp[116..128].copy_from_slice(&[1, 8, 0, 1, 0xfe, 0x0c, 0, 0, 0, 0, 0, 0]);
    let mut memory = machine(0);
    memory.0.retain(|&(at, _)| at != u64::from(DSDT_AT));
    let tables = Tables::find(&memory).unwrap();
    assert_eq!(fadt::power_off(&tables, &facp), None);
    let ports = [(0x604, 2), (0x704, 2), (0xb2, 1), (0xcfe, 1)].map(Some);
    assert_eq!(fadt::power_ports(&facp), ports);
    // A register in memory is no port, and a short table has none.
    facp[116] = 0;
    assert_eq!(fadt::power_ports(&facp)[3], None);
    assert_eq!(fadt::power_ports(&facp[..60])[0], None);
}

#[test]
fn generic_addresses_count_where_they_are_ports() {
    let mut facp = sdt(b"FACP", &fadt_body());
    facp[172..184].copy_from_slice(&[1, 16, 0, 2, 0x04, 0x40, 0, 0, 0, 0, 0, 0]);
    facp[208..220].copy_from_slice(&[0, 32, 0, 3, 0x08, 0x40, 0, 0, 0, 0, 0, 0]);
    let memory = machine(0);
    let tables = Tables::find(&memory).unwrap();
    let off = fadt::power_off(&tables, &facp).unwrap();
    assert_eq!(off.control[0], Some((0x4004, 0)));
    assert_eq!(fadt::pm_timer(&facp).unwrap().port, 0x608);
    // A table of the first revision ends before them, a shorter one before all.
    assert_eq!(fadt::pm_timer(&facp[..116]).unwrap().port, 0x608);
    assert_eq!(fadt::pm_timer(&facp[..70]), None);
    assert_eq!(fadt::century(&facp[..108]), None);
    facp[108] = 0;
    assert_eq!(fadt::century(&facp), None, "there is none");
    assert_eq!(fadt::power_off(&tables, &facp[..40]), None);
}

#[test]
fn s5_is_found_among_other_bytes() {
    assert_eq!(fadt::s5_types_of(&S5), Some([0, 0]));
    // By its absolute name, with a long package length, bytes, and a mention before.
    let aml = [
        &b"_S5_\x12"[..],
        &[0x08, b'\\', b'_', b'S', b'5', b'_', 0x12, 0x4a, 0x00, 0x04],
        &[0x0a, 0x05, 0x0b, 0x07, 0x00, 0x00, 0x00],
    ]
    .concat();
    assert_eq!(fadt::s5_types_of(&aml), Some([5, 7]));
    let one = [0x08, b'_', b'S', b'5', b'_', 0x12, 0x03, 0x01, 0x01];
    assert_eq!(fadt::s5_types_of(&one), Some([1, 1]));
    for len in 0..one.len() {
        assert_eq!(fadt::s5_types_of(&one[..len]), None);
    }
    let method = [0x14, b'_', b'S', b'5', b'_', 0x12, 0x03, 0x01, 0x01];
    assert_eq!(fadt::s5_types_of(&method), None);
}

#[test]
fn the_hpet_s_table_says_where_it_is() {
    let mut body = [0; 20];
    body[8..16].copy_from_slice(&0xfed8_0000_u64.to_le_bytes());
    let table = sdt(b"HPET", &body);
    assert_eq!(hpet::address(&table), Some(0xfed8_0000));
    assert_eq!(hpet::address(&table[..50]), None);
    // At ports, and nowhere.
    body[4] = 1;
    assert_eq!(hpet::address(&sdt(b"HPET", &body)), None);
    assert_eq!(hpet::address(&sdt(b"HPET", &[0; 20])), None);
}

#[test]
fn the_mcfg_says_where_configuration_is() {
    let entry = |base: u64, first, last| {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&base.to_le_bytes());
        entry[10..12].copy_from_slice(&[first, last]);
        entry
    };
    let body = [
        &[0; 8][..],
        &entry(0xb000_0000, 0, 255),
        &entry(0x1_0000_0000, 0x80, 0x81),
        // Buses that run backwards, and addresses that run over.
        &entry(0xc000_0000, 2, 1),
        &entry(u64::MAX - 0xffff, 0, 0),
        &[0; 15],
    ];
    let table = sdt(b"MCFG", &body.concat());
    assert_eq!(
        mcfg::ranges(&table).collect::<Vec<_>>(),
        [(0xb000_0000, 256 << 20), (0x1_0800_0000, 2 << 20)]
    );
    assert_eq!(mcfg::ranges(&table[..40]).count(), 0);
}

fn madt(entries: &[&[u8]]) -> Vec<u8> {
    let mut body = 0xfee0_0000_u32.to_le_bytes().to_vec();
    body.extend_from_slice(&[1, 0, 0, 0]);
    body.extend(entries.concat());
    sdt(b"APIC", &body)
}

#[test]
fn the_madt_lists_cpus_and_interrupt_controllers() {
    let table = madt(&[
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 2, 0, 0, 0, 0],
        &[0, 8, 2, 4, 1, 0, 0, 0],
        &[9, 16, 0, 0, 0x00, 0x01, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0],
        &[9, 16, 0, 0, 0x01, 0x01, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0],
        &[1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 24, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0x0f, 0],
        &[4, 6, 0xff, 0, 0, 1],
        &[0x7f, 3, 0],
    ]);
    let level_low = Signal {
        polarity: Polarity::ActiveLow,
        trigger: Trigger::Level,
    };
    let expected = [
        Entry::Cpu { apic_id: 0 },
        Entry::Cpu { apic_id: 4 },
        Entry::Cpu { apic_id: 0x100 },
        Entry::IoApic {
            address: 0xfec0_0000,
            first_gsi: 24,
        },
        Entry::Override {
            isa_irq: 0,
            gsi: 2,
            signal: Signal::ISA,
        },
        Entry::Override {
            isa_irq: 9,
            gsi: 9,
            signal: level_low,
        },
        Entry::LocalNmi { lint: 1 },
    ];
    assert_eq!(madt::entries(&table).collect::<Vec<_>>(), expected);
    assert_eq!(madt::local_apic_address(&table), Some(0xfee0_0000));
}

#[test]
fn the_madt_may_move_the_local_apics() {
    let table = madt(&[&[5, 12, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]]);
    assert_eq!(madt::local_apic_address(&table), Some(1 << 32));
}

#[test]
fn a_madt_of_broken_entries_ends() {
    let table = madt(&[
        &[0, 0],
        &[0, 4, 0, 0],
        &[1, 8, 0, 0, 0, 0, 0, 0],
        &[0, 200, 1],
    ]);
    assert_eq!(madt::entries(&table).count(), 0);
    assert_eq!(madt::entries(&table[..40]).count(), 0);
}
