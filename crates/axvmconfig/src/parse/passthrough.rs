//! `[[devices.passthrough]]`: the machine's devices that the VM is given.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use axaddrspace::{GuestPhysAddr, HostPhysAddr};

use super::reader::{Report, Table, Value};
use crate::{DeviceSpace, Dma, Isa, PassedDevice, PassedIrq, PassedPorts, PassedRegisters, keys};

/// Nobody needs more, and every device is held against every other.
const MAX_DEVICES: usize = 32;

/// What is mapped, is mapped in pages of this size at least.
const PAGE_SIZE: u64 = 0x1000;

/// No device has more registers: what is larger is a mistake.
const MAX_SIZE: u64 = 1 << 40;

/// Pages of this size map large devices, where both sides lie alike in them. In small ones the tables alone would take a 512th of what is mapped.
const LARGE_PAGE: u64 = 2 << 20;

/// Up to this, small pages will do: their tables take 2 MiB.
const MAX_IN_SMALL_PAGES: u64 = 1 << 30;

/// A device tree's names are short (Devicetree Specification 0.4, section 2.3.1).
const MAX_COMPATIBLE: usize = 128;

const DMA: [(&str, Dma); 2] = [("none", Dma::None), ("trusted", Dma::Trusted)];

pub(super) fn read(table: &mut Table<'_>, isa: Isa, report: &mut Report) -> Vec<PassedDevice> {
    let list = table.get(keys::PASSTHROUGH, report);
    let list = list.and_then(|list| list.list(MAX_DEVICES, report));
    list.into_iter()
        .flatten()
        .filter_map(|device| read_device(device, isa, report))
        .collect()
}

/// A key that was read: not there, wrong, or right.
type Read<T> = Option<Option<T>>;

fn read_device(device: Value<'_>, isa: Isa, report: &mut Report) -> Option<PassedDevice> {
    let mut table = device.table(report)?;
    let key = table.key().to_owned();
    // All are read before any is missed, so that all errors are reported.
    let id = table.get("id", report).map(|value| value.name(report));
    let registers = read_registers(&mut table, &key, report);
    let ports = table
        .get("ports", report)
        .map(|value| read_ports(value, isa, report));
    let irq = read_irq(&mut table, &key, isa, report);
    let compatible = table
        .get("compatible", report)
        .map(|value| read_compatible(&value, isa, report));
    let dma = table
        .get("dma", report)
        .map(|value| value.word(&DMA, report));
    table.refuse_unknown_keys(report);

    if id.is_none() {
        let rule = "the device's name, like `id = \"rtc0\"`";
        report.missing(&format!("{key}.id"), rule);
    }
    if dma.is_none() {
        let rule = "\"none\" for a device that never reads or writes memory by itself; \"trusted\" for one that \
                    does: there is no IOMMU, so that by it the guest reaches all memory, the hypervisor's too";
        report.missing(&format!("{key}.dma"), rule);
    }
    if registers.is_none() && ports.is_none() {
        let what = match isa.guest_map().device_space {
            DeviceSpace::Memory => "",
            DeviceSpace::Ports => ", or `ports`, like [0x2f8, 8]",
        };
        let rule = format_args!("where its registers are, `addr` and `size`{what}");
        report.missing(&format!("{key}.addr"), rule);
    }
    Some(PassedDevice {
        id: id??,
        registers: right(registers)?,
        ports: right(ports)?,
        irq: right(irq)?,
        compatible: right(compatible)?,
        dma: dma??,
    })
}

/// What is not there is right; what is wrong is reported already.
fn right<T>(read: Read<T>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn read_registers(table: &mut Table<'_>, key: &str, report: &mut Report) -> Read<PassedRegisters> {
    let host = table.get("addr", report);
    let size = table.get("size", report);
    let guest = table.get("guest_addr", report);
    let Some(host) = host else {
        for value in size.iter().chain(&guest) {
            value.wrong("means nothing without `addr`", report);
        }
        return (size.is_some() || guest.is_some()).then_some(None);
    };
    let host = read_pages(&host, report);
    let guest = guest.map(|value| read_pages(&value, report));
    let Some(size) = size else {
        let rule = "how many bytes of registers, a multiple of 4 KiB";
        report.missing(&format!("{key}.size"), rule);
        return Some(None);
    };
    let bytes = size.size(report).filter(|&bytes| {
        let whole = bytes != 0 && bytes.is_multiple_of(PAGE_SIZE);
        if !whole {
            size.wrong("must be a multiple of 4 KiB, and not 0", report);
        }
        let fits = bytes <= MAX_SIZE;
        if !fits {
            size.wrong("must not be more than 1 TiB", report);
        }
        whole && fits
    });
    let (Some(host), Some(guest), Some(bytes)) = (host, guest.unwrap_or(host), bytes) else {
        return Some(None);
    };
    if [host, guest]
        .iter()
        .any(|at| at.checked_add(bytes).is_none())
    {
        size.wrong("must end below 2^64", report);
        return Some(None);
    }
    if bytes > MAX_IN_SMALL_PAGES && host % LARGE_PAGE != guest % LARGE_PAGE {
        let rule = "must be `addr` plus or minus a multiple of 2 MiB, since `size` is more than 1 GiB: it is mapped in large pages";
        report.error(&format!("{key}.guest_addr"), rule);
        return Some(None);
    }
    Some(Some(PassedRegisters {
        host: HostPhysAddr::new(host),
        guest: GuestPhysAddr::new(guest),
        size: bytes,
    }))
}

fn read_pages(value: &Value<'_>, report: &mut Report) -> Option<u64> {
    let addr = value.address(report)?;
    if !addr.is_aligned(PAGE_SIZE) {
        value.wrong(
            "must be a multiple of 4 KiB: a guest is given whole pages, with all devices in them",
            report,
        );
        return None;
    }
    Some(addr.as_u64())
}

/// `[first, count]`.
fn read_ports(value: Value<'_>, isa: Isa, report: &mut Report) -> Option<PassedPorts> {
    let space = match isa.guest_map().device_space {
        DeviceSpace::Ports => DeviceSpace::Ports.size(),
        DeviceSpace::Memory => None,
    };
    let Some(ports) = space else {
        value.wrong("means nothing here: only x86 has I/O ports", report);
        return None;
    };
    let key = value.key().to_owned();
    let elements = value.list(2, report)?;
    let [first, count] = &elements[..] else {
        report.error(
            &key,
            "must be the first port and their number, like [0x2f8, 8]",
        );
        return None;
    };
    let first = first.integer(0..=ports - 1, report);
    let count = count.integer(1..=ports, report);
    let (first, count) = (first?, count?);
    if first + count > ports {
        report.error(
            &key,
            format_args!("must end at port {:#x} or below", ports - 1),
        );
        return None;
    }
    Some(PassedPorts {
        first: u16::try_from(first).ok()?,
        count: u32::try_from(count).ok()?,
    })
}

fn read_irq(table: &mut Table<'_>, key: &str, isa: Isa, report: &mut Report) -> Read<PassedIrq> {
    let map = isa.guest_map();
    let host = table.get("irq", report);
    let guest = table.get("guest_irq", report);
    let Some(host) = host else {
        let guest = guest?;
        guest.wrong("means nothing without `irq`", report);
        return Some(None);
    };
    let numbers = (*map.host_irqs.start()).into()..=(*map.host_irqs.end()).into();
    let host = host.integer(numbers, report);
    let (guest_key, remedy, guest) = match guest {
        Some(guest) => {
            let guest = guest.integer(0..=u32::MAX.into(), report);
            ("guest_irq", "", guest)
        }
        None => ("irq", ": say `guest_irq`", host),
    };
    let (Some(host), Some(guest)) = (host, guest) else {
        return Some(None);
    };
    let (host, guest) = (u32::try_from(host).ok()?, u32::try_from(guest).ok()?);
    if !map.passed_irqs.iter().any(|irqs| irqs.contains(&guest)) {
        let ranges: Vec<String> = map
            .passed_irqs
            .iter()
            .map(|irqs| format!("{} to {}", irqs.start(), irqs.end()))
            .collect();
        let rule = format_args!(
            "an interrupt that the guest can have for it is {}, found {guest}{remedy}",
            ranges.join(", ")
        );
        report.error(&format!("{key}.{guest_key}"), rule);
        return Some(None);
    }
    Some(Some(PassedIrq { host, guest }))
}

fn read_compatible(value: &Value<'_>, isa: Isa, report: &mut Report) -> Option<String> {
    match isa {
        Isa::Riscv64 => {}
        Isa::X86_64 => {
            value.wrong(
                "means nothing here: x86 guests have no device tree, and ACPI tables do not tell them of it",
                report,
            );
            return None;
        }
    }
    let text = value.text(report)?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_COMPATIBLE || !visible {
        value.wrong(
            "must be a device tree's name for it, like \"google,goldfish-rtc\"",
            report,
        );
        return None;
    }
    Some(text.to_owned())
}
