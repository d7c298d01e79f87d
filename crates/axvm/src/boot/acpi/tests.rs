use std::collections::BTreeMap;

use super::*;
use crate::{
    boot::testing::{number, pc_config},
    testing::{Files, TestConsole},
};
use alloc::{string::String, sync::Arc};

const AT: u64 = 0xe_0000;

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// The tables of a VM, as software finds them, by their signatures.
struct Found {
    area: Vec<u8>,
    tables: BTreeMap<String, Vec<u8>>,
}

impl Found {
    fn at(&mut self, addr: u64) {
        let start = (addr - AT) as usize;
        let len = number::<4>(&self.area, start + 4) as usize;
        let table = self.area[start..start + len].to_vec();
        let name = String::from_utf8(table[..4].to_vec()).unwrap();
        if name != "FACS" {
            assert_eq!(sum(&table), 0, "{name}");
            assert_eq!(table[10..16], OEM);
        }
        assert_eq!(start % 16, 0, "{name}");
        self.tables.insert(name, table);
    }

    fn of(cpus: usize, devices: &str) -> Self {
        let text = format!("memory_regions = [[\"4MiB\"]]\n{devices}");
        let config = pc_config(cpus, &text, Files(vec![]), Arc::new(TestConsole::new()));
        let area = tables(AT, &config.vm);
        assert!(area.len() <= 0x2_0000);
        let mut found = Self {
            area,
            tables: BTreeMap::new(),
        };
        let root = found.area[..36].to_vec();
        assert_eq!((&root[..8], root[15]), (&b"RSD PTR "[..], 2));
        assert_eq!((sum(&root[..20]), sum(&root)), (0, 0));
        found.at(number::<8>(&root, 24));
        let xsdt = found.tables["XSDT"].clone();
        for entry in xsdt[36..].chunks(8) {
            found.at(number::<8>(entry, 0));
        }
        let fadt = found.tables["FACP"].clone();
        found.at(number::<4>(&fadt, 36));
        found.at(number::<4>(&fadt, 40));
        assert_eq!(number::<8>(&fadt, 140), number::<4>(&fadt, 40));
        found
    }
}

#[test]
fn software_finds_all_tables() {
    let found = Found::of(2, "");
    let names: Vec<_> = found.tables.keys().map(String::as_str).collect();
    assert_eq!(names, ["APIC", "DSDT", "FACP", "FACS", "XSDT"]);
}

#[test]
fn the_fadt_says_where_the_power_registers_are() {
    let fadt = &Found::of(1, "").tables["FACP"];
    assert_eq!(number::<2>(fadt, 46), 9, "SCI");
    assert_eq!(number::<4>(fadt, 48), 0, "always in ACPI mode");
    let blocks = [56, 64, 76].map(|at| number::<4>(fadt, at));
    assert_eq!(blocks, [0x600, 0x604, 0x608]);
    assert_eq!([fadt[88], fadt[89], fadt[91]], [4, 2, 4], "their lengths");
    assert_eq!((fadt[108], number::<2>(fadt, 109)), (0x32, 0b1101));
    let wide = [148, 172, 208].map(|at| (fadt[at], fadt[at + 1], number::<8>(fadt, at + 4)));
    assert_eq!(wide, [(1, 32, 0x600), (1, 16, 0x604), (1, 32, 0x608)]);
    assert_eq!(
        (fadt[116], number::<8>(fadt, 120), fadt[128]),
        (1, 0xcf9, 6)
    );
    let flags = number::<4>(fadt, 112);
    assert_eq!(flags & 1 << 10, 1 << 10, "there is a reset register");
    assert_eq!(flags & 1 << 8, 1 << 8, "the timer has 32 bits");
    assert_eq!(flags & 1 << 4, 0, "the power button is no device");
    assert_eq!(flags & 1 << 20, 0, "there is fixed hardware");
}

#[test]
fn the_madt_lists_processors_and_interrupt_controllers() {
    let found = Found::of(3, "");
    let madt = &found.tables["APIC"];
    assert_eq!(number::<4>(madt, 36), 0xfee0_0000);
    assert_eq!(number::<4>(madt, 40), 1);
    let (mut entries, mut rest) = (Vec::new(), &madt[44..]);
    while let Some(&len) = rest.get(1) {
        let (entry, others) = rest.split_at(len.into());
        entries.push(entry.to_vec());
        rest = others;
    }
    assert_eq!(
        entries,
        [
            vec![0, 8, 0, 0, 1, 0, 0, 0],
            vec![0, 8, 1, 1, 1, 0, 0, 0],
            vec![0, 8, 2, 2, 1, 0, 0, 0],
            vec![1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            vec![2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            vec![2, 10, 0, 9, 9, 0, 0, 0, 0b1101, 0],
            vec![4, 6, 0xff, 0, 0, 1],
        ]
    );
    let all = Found::of(4, "");
    assert_eq!(all.tables["APIC"].len(), madt.len() + 8);
}

#[test]
fn the_dsdt_has_the_way_off_and_the_serial_ports() {
    let dsdt = &Found::of(1, "").tables["DSDT"];
    let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
    // Name, package of four: byte 5, byte 5, 0, 0.
    assert!(has(b"\x08_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00"));
    assert!(has(b"UA00"));
    assert!(has(&[0x0c, 0x41, 0xd0, 0x05, 0x01]), "PNP0501");
    // I/O ports 0x3f8 to 0x3ff; interrupt 4, an edge, active high, its own.
    assert!(has(&[0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8]));
    assert!(has(&[0x89, 6, 0, 0b0011, 1, 4, 0, 0, 0]));
    let none = &Found::of(1, "[devices]\nvirtual = []").tables["DSDT"];
    assert!(!none.windows(4).any(|window| window == b"UA00"));
}

#[test]
fn the_most_of_everything_fits_below_1_mib() {
    let list: Vec<_> = (0..5)
        .map(|n| {
            format!(
                "{{ id = \"u{n}\", model = \"ns16550\", addr = {}, irq = {} }}",
                0x200 + 8 * n,
                3 + n
            )
        })
        .collect();
    let devices = format!("[devices]\nvirtual = [{}]", list.join(", "));
    let found = Found::of(63, &devices);
    let dsdt = &found.tables["DSDT"];
    assert!(dsdt.windows(4).any(|window| window == b"UA04"));
}
