//! Tests of the buses: what a build refuses, what a lookup finds, what a device sees.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use spin::Mutex;

use super::*;
use crate::testing::any_width;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Read(u64, AccessWidth),
    Write(u64, AccessWidth, u64),
    Reset,
}

/// Answers every read with `answer`, refuses accesses at offset 13, and remembers all calls.
struct Probe {
    name: String,
    answer: u64,
    calls: Mutex<Vec<Call>>,
}

impl Probe {
    fn new(name: &str, answer: u64) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_string(),
            answer,
            calls: Mutex::default(),
        })
    }

    fn take_calls(&self) -> Vec<Call> {
        core::mem::take(&mut self.calls.lock())
    }
}

impl Device for Probe {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        self.calls.lock().push(Call::Read(offset, width));
        if offset == 13 {
            Err(AccessFault)
        } else {
            Ok(self.answer)
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        self.calls.lock().push(Call::Write(offset, width, data));
        if offset == 13 {
            Err(AccessFault)
        } else {
            Ok(())
        }
    }

    fn reset(&self) {
        self.calls.lock().push(Call::Reset);
    }
}

fn gpa(addr: u64) -> GuestPhysAddr {
    GuestPhysAddr::new(addr)
}

fn refusal(builder: AxVmDevicesBuilder) -> BuildError {
    builder.build().err().expect("must be refused")
}

#[test]
fn an_empty_bus_answers_nothing() {
    let devices = AxVmDevices::builder().build().unwrap();
    assert_eq!(
        devices.handle_mmio_read(gpa(0), AccessWidth::Byte),
        Err(BusError::NoDevice)
    );
    assert_eq!(
        devices.handle_port_read(u16::MAX, AccessWidth::Byte),
        Err(BusError::NoDevice)
    );
    assert_eq!(
        devices.handle_sys_reg_read(u32::MAX),
        Err(BusError::NoDevice)
    );
    devices.reset_all();
}

#[test]
fn a_device_sees_offsets_and_what_the_width_carries() {
    let probe = Probe::new("probe", u64::MAX);
    let devices = AxVmDevices::builder()
        .mmio(gpa(0x1000), 0x10, probe.clone())
        .build()
        .unwrap();

    assert_eq!(
        devices.handle_mmio_read(gpa(0x1004), AccessWidth::Word),
        Ok(0xffff)
    );
    assert_eq!(
        devices.handle_mmio_write(gpa(0x1008), AccessWidth::Byte, u64::MAX),
        Ok(())
    );
    assert_eq!(
        probe.take_calls(),
        [
            Call::Read(4, AccessWidth::Word),
            Call::Write(8, AccessWidth::Byte, 0xff)
        ]
    );
}

#[test]
fn a_device_may_refuse() {
    let probe = Probe::new("probe", 0);
    let devices = AxVmDevices::builder()
        .mmio(gpa(0x1000), 0x10, probe)
        .build()
        .unwrap();
    assert_eq!(
        devices.handle_mmio_read(gpa(0x100d), AccessWidth::Byte),
        Err(BusError::Fault)
    );
    assert_eq!(
        devices.handle_mmio_write(gpa(0x100d), AccessWidth::Byte, 1),
        Err(BusError::Fault)
    );
}

#[test]
fn an_access_past_the_end_is_refused_before_the_device() {
    let low = Probe::new("low", 1);
    let high = Probe::new("high", 2);
    let devices = AxVmDevices::builder()
        .mmio(gpa(0x1000), 8, low.clone())
        .mmio(gpa(0x1008), 8, high.clone())
        .build()
        .unwrap();

    for (addr, width) in [
        (0x1001, AccessWidth::Qword),
        (0x1005, AccessWidth::Dword),
        (0x1007, AccessWidth::Word),
        (0x100f, AccessWidth::Word),
    ] {
        assert_eq!(
            devices.handle_mmio_read(gpa(addr), width),
            Err(BusError::Fault),
            "{addr:#x}"
        );
        assert_eq!(
            devices.handle_mmio_write(gpa(addr), width, 0),
            Err(BusError::Fault)
        );
    }
    // One that begins before a device belongs to nobody.
    assert_eq!(
        devices.handle_mmio_read(gpa(0xfff), AccessWidth::Word),
        Err(BusError::NoDevice)
    );
    assert_eq!(low.take_calls(), []);
    assert_eq!(high.take_calls(), []);
    assert_eq!(
        devices.handle_mmio_read(gpa(0x1000), AccessWidth::Qword),
        Ok(1)
    );
    assert_eq!(
        devices.handle_mmio_read(gpa(0x1008), AccessWidth::Qword),
        Ok(2)
    );
}

#[test]
fn every_bus_goes_up_to_its_last_address() {
    let probe = Probe::new("probe", 7);
    let devices = AxVmDevices::builder()
        .mmio(gpa(u64::MAX - 7), 8, probe.clone())
        .port(u16::MAX - 1, 2, probe.clone())
        .sys_reg(u32::MAX, 1, probe.clone())
        .build()
        .unwrap();

    assert_eq!(
        devices.handle_mmio_read(gpa(u64::MAX - 7), AccessWidth::Qword),
        Ok(7)
    );
    assert_eq!(
        devices.handle_mmio_read(gpa(u64::MAX), AccessWidth::Byte),
        Ok(7)
    );
    assert_eq!(
        devices.handle_mmio_read(gpa(u64::MAX), AccessWidth::Word),
        Err(BusError::Fault)
    );
    assert_eq!(
        devices.handle_port_read(u16::MAX - 1, AccessWidth::Word),
        Ok(7)
    );
    assert_eq!(
        devices.handle_port_write(u16::MAX, AccessWidth::Word, 0),
        Err(BusError::Fault)
    );
    assert_eq!(devices.handle_sys_reg_read(u32::MAX), Ok(7));
    assert_eq!(devices.handle_sys_reg_write(u32::MAX, u64::MAX), Ok(()));
    assert_eq!(
        probe.take_calls(),
        [
            Call::Read(0, AccessWidth::Qword),
            Call::Read(7, AccessWidth::Byte),
            Call::Read(0, AccessWidth::Word),
            Call::Read(0, AccessWidth::Qword),
            Call::Write(0, AccessWidth::Qword, u64::MAX),
        ]
    );
}

#[test]
fn the_buses_are_apart() {
    let devices = AxVmDevices::builder()
        .mmio(gpa(0x60), 8, Probe::new("memory", 1))
        .port(0x60, 8, Probe::new("port", 2))
        .sys_reg(0x60, 8, Probe::new("register", 3))
        .build()
        .unwrap();
    assert_eq!(
        devices.handle_mmio_read(gpa(0x60), AccessWidth::Byte),
        Ok(1)
    );
    assert_eq!(devices.handle_port_read(0x60, AccessWidth::Byte), Ok(2));
    assert_eq!(devices.handle_sys_reg_read(0x60), Ok(3));
}

#[test]
fn an_overlap_names_both_owners_and_ranges() {
    let builder = AxVmDevices::builder()
        .mmio(gpa(0x1000), 0x100, Probe::new("uart0", 0))
        .mmio(gpa(0x0), 0x1001, Probe::new("plic", 0));
    assert_eq!(
        refusal(builder).to_string(),
        "the MMIO ranges of `plic` at 0x0 (length 0x1001) and `uart0` at 0x1000 (length 0x100) \
         overlap"
    );
}

#[test]
fn overlaps_of_every_shape_are_refused() {
    for (start, len) in [
        (0x100, 0x10),
        (0x104, 4),
        (0xf0, 0x30),
        (0xf1, 0x10),
        (0x10f, 1),
    ] {
        let a = Probe::new("a", 0);
        let builder = AxVmDevices::builder()
            .port(0x100, 0x10, a.clone())
            .port(start, len, a);
        assert!(matches!(
            refusal(builder),
            BuildError::Overlap(BusKind::Port, _, _)
        ));
    }
}

#[test]
fn a_range_that_is_empty_or_overruns_is_refused() {
    let probe = || Probe::new("x", 0);
    for (builder, message) in [
        (
            AxVmDevices::builder().mmio(gpa(0x10), 0, probe()),
            "the MMIO range of `x` at 0x10 (length 0x0) is empty",
        ),
        (
            AxVmDevices::builder().mmio(gpa(u64::MAX), 2, probe()),
            "the MMIO range of `x` at 0xffffffffffffffff (length 0x2) goes on past \
             0xffffffffffffffff",
        ),
        (
            AxVmDevices::builder().port(0xffff, 2, probe()),
            "the port range of `x` at 0xffff (length 0x2) goes on past 0xffff",
        ),
        (
            AxVmDevices::builder().port(0, 0x1_0001, probe()),
            "the port range of `x` at 0x0 (length 0x10001) goes on past 0xffff",
        ),
        (
            AxVmDevices::builder().sys_reg(2, u32::MAX, probe()),
            "the system register range of `x` at 0x2 (length 0xffffffff) goes on past 0xffffffff",
        ),
    ] {
        assert_eq!(refusal(builder).to_string(), message);
    }
}

#[test]
fn a_device_at_several_places_is_reset_once() {
    let pic = Probe::new("pic", 0);
    let uart = Probe::new("uart", 0);
    let devices = AxVmDevices::builder()
        .port(0xa0, 2, pic.clone())
        .port(0x20, 2, pic.clone())
        .mmio(gpa(0), 8, uart.clone())
        .build()
        .unwrap();
    assert_eq!(
        devices.iter().map(Device::name).collect::<Vec<_>>(),
        ["pic", "uart"]
    );
    devices.reset_all();
    assert_eq!(pic.take_calls(), [Call::Reset]);
    assert_eq!(uart.take_calls(), [Call::Reset]);
}

#[test]
fn a_cached_hit_is_not_mistaken_for_another_device() {
    let devices = AxVmDevices::builder()
        .mmio(gpa(0), 8, Probe::new("a", 0))
        .mmio(gpa(0x10), 8, Probe::new("b", 1))
        .mmio(gpa(0x20), 8, Probe::new("c", 2))
        .build()
        .unwrap();
    for index in [0, 1, 2, 1, 0, 2, 0, 0, 2, 2, 1, 1] {
        assert_eq!(
            devices.handle_mmio_read(gpa(index * 0x10), AccessWidth::Dword),
            Ok(index)
        );
        assert_eq!(
            devices.handle_mmio_read(gpa(index * 0x10 + 8), AccessWidth::Dword),
            Err(BusError::NoDevice)
        );
    }
}

/// Ranges on the port bus, small enough to try every address: the gap before each, and its length.
fn layouts() -> impl Strategy<Value = Vec<(u16, u32)>> {
    prop::collection::vec((0..20u16, 1..20u32), 0..12)
}

/// What [`AxVmDevices::handle_port_read`] finds, looked for in the plainest way.
fn linear(ranges: &[(u32, u32)], port: u32, width: AccessWidth) -> Result<u64, BusError> {
    let range = ranges
        .iter()
        .position(|(start, len)| (*start..start + len).contains(&port));
    let index = range.ok_or(BusError::NoDevice)?;
    let (start, len) = ranges[index];
    let fits = port + width.bytes() as u32 <= start + len && port - start != 13;
    if fits {
        Ok(index as u64)
    } else {
        Err(BusError::Fault)
    }
}

proptest! {
    #[test]
    fn lookup_agrees_with_a_linear_search(
        layout in layouts(),
        rotate in 0..12usize,
        accesses in prop::collection::vec((0..500u16, any_width()), 1..200),
    ) {
        let mut ranges = vec![];
        let mut next = 0;
        for (gap, len) in layout {
            let start = next + u32::from(gap);
            ranges.push((start, len));
            next = start + len;
        }
        let middle = rotate.min(ranges.len());
        ranges.rotate_left(middle);
        let mut builder = AxVmDevices::builder();
        for (index, (start, len)) in ranges.iter().enumerate() {
            builder = builder.port(*start as u16, *len, Probe::new("p", index as u64));
        }
        let devices = builder.build().unwrap();
        for (port, width) in accesses {
            let expected = linear(&ranges, port.into(), width);
            prop_assert_eq!(devices.handle_port_read(port, width), expected);
            prop_assert_eq!(devices.handle_port_write(port, width, 0), expected.map(|_| ()));
        }
    }

    #[test]
    fn a_build_is_refused_exactly_if_something_is_wrong(
        wishes in prop::collection::vec((any::<u16>(), 0..0x8000u32), 0..6),
    ) {
        let mut builder = AxVmDevices::builder();
        for (start, len) in &wishes {
            builder = builder.port(*start, *len, Probe::new("p", 0));
        }
        let ranges: Vec<_> =
            wishes.iter().map(|(start, len)| (u32::from(*start), u32::from(*start) + len)).collect();
        let bad_range = ranges.iter().any(|(start, end)| start == end || *end > 0x1_0000);
        let overlap = ranges.iter().enumerate().any(|(i, a)| {
            ranges[..i].iter().any(|b| a.0.max(b.0) < a.1.min(b.1))
        });
        prop_assert_eq!(builder.build().is_err(), bad_range || overlap);
    }

    #[test]
    fn no_address_makes_a_lookup_panic(
        start: u64,
        len: u64,
        addresses in prop::collection::vec((any::<u64>(), any_width(), any::<u64>()), 1..50),
    ) {
        let builder = AxVmDevices::builder().mmio(gpa(start), len, Probe::new("p", 0));
        if let Ok(devices) = builder.build() {
            for (addr, width, data) in addresses {
                for near in [addr, start.wrapping_add(addr % 32), start.wrapping_sub(addr % 32)] {
                    let _ = devices.handle_mmio_read(gpa(near), width);
                    let _ = devices.handle_mmio_write(gpa(near), width, data);
                }
                let _ = devices.handle_port_read(addr as u16, width);
                let _ = devices.handle_sys_reg_write(addr as u32, data);
            }
        }
    }
}

#[test]
fn a_device_by_number_sees_addresses() {
    let probe = Probe::new("probe", 1);
    let devices = AxVmDevices::builder()
        .port_by_number(0x40, 4, probe.clone())
        .port_by_number(0x61, 1, probe.clone())
        .sys_reg_by_number(0x800, 0x100, probe.clone())
        .build()
        .unwrap();
    let byte = AccessWidth::Byte;
    assert_eq!(devices.handle_port_read(0x43, byte), Ok(1));
    assert_eq!(devices.handle_port_write(0x61, byte, 7), Ok(()));
    assert_eq!(devices.handle_sys_reg_read(0x8ff), Ok(1));
    assert_eq!(
        devices.handle_port_read(0x44, byte),
        Err(BusError::NoDevice)
    );
    assert_eq!(
        devices.handle_port_read(0x43, AccessWidth::Word),
        Err(BusError::Fault)
    );
    assert_eq!(
        probe.take_calls(),
        [
            Call::Read(0x43, byte),
            Call::Write(0x61, byte, 7),
            Call::Read(0x8ff, AccessWidth::Qword),
        ]
    );
    assert_eq!(devices.iter().count(), 1);
}
