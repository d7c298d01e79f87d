//! `[devices]`: what the hypervisor emulates for the VM, and what of the machine's it is given.

use alloc::{borrow::ToOwned, vec, vec::Vec};

use axaddrspace::GuestPhysAddr;

use super::{
    passthrough,
    reader::{Report, Table, Value},
};
use crate::{DeviceModel, Isa, PassedDevice, VirtualDevice, keys};

/// Nobody needs more, and every device is held against every other.
const MAX_DEVICES: usize = 32;

const MODELS: [(&str, DeviceModel); 1] = [("ns16550", DeviceModel::Ns16550)];

/// AxVisor's lists of what AxHV does not do yet. Empty, they ask for nothing.
const UNSUPPORTED: [(&str, &str); 5] = [
    (
        "emu_devices",
        "write emulated devices as `virtual = [{ id = \"uart0\", model = \"ns16550\" }]`",
    ),
    (
        "passthrough_devices",
        "devices of the machine are given to a VM by `[[devices.passthrough]]`",
    ),
    (
        "passthrough_addresses",
        "devices of the machine are given to a VM by `[[devices.passthrough]]`",
    ),
    (
        "passthrough_ports",
        "devices of the machine are given to a VM by `[[devices.passthrough]]`",
    ),
    (
        "excluded_devices",
        "no device of the machine is given to a VM but those of `[[devices.passthrough]]`",
    ),
];

/// AxVisor's words for who serves the guest's interrupts.
const INTERRUPT_MODES: [(&str, InterruptMode); 7] = [
    ("emu", InterruptMode::Emulated),
    ("emulated", InterruptMode::Emulated),
    ("passthrough", InterruptMode::Passthrough),
    ("pt", InterruptMode::Passthrough),
    ("no_irq", InterruptMode::None),
    ("no", InterruptMode::None),
    ("none", InterruptMode::None),
];

#[derive(Clone, Copy)]
enum InterruptMode {
    Emulated,
    Passthrough,
    None,
}

pub(super) fn read(
    mut table: Table<'_>,
    isa: Isa,
    report: &mut Report,
) -> (Vec<VirtualDevice>, Vec<PassedDevice>) {
    let devices = match table.get(keys::VIRTUAL, report) {
        Some(list) => list
            .list(MAX_DEVICES, report)
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(position, device)| read_device(device, position, isa, report))
            .collect(),
        None => vec![default_uart(isa)],
    };
    let passed = passthrough::read(&mut table, isa, report);
    if let Some(mode) = table.get(keys::INTERRUPT_MODE, report) {
        check_interrupt_mode(&mode, report);
    }
    for (key, hint) in UNSUPPORTED {
        if let Some(list) = table.get(key, report).filter(|list| !list.is_empty_list()) {
            list.unsupported(hint, report);
        }
    }
    table.refuse_unknown_keys(report);
    (devices, passed)
}

/// What a VM has that does not speak of devices: a console.
fn default_uart(isa: Isa) -> VirtualDevice {
    let map = isa.guest_map();
    VirtualDevice {
        id: "uart0".to_owned(),
        model: DeviceModel::Ns16550,
        addr: map.uart.base,
        size: map.uart.size,
        irq: map.uart_irq,
    }
}

/// Device `position` of the list. Only the first has a place by default: that a guest finds its console
/// where it looks for it must not depend on what else is listed.
fn read_device(
    device: Value<'_>,
    position: usize,
    isa: Isa,
    report: &mut Report,
) -> Option<VirtualDevice> {
    let mut table = device.table(report)?;
    let id = table.get("id", report).map(|value| value.name(report));
    let model = table
        .get("model", report)
        .map(|value| value.word(&MODELS, report));
    let addr = table
        .get("addr", report)
        .map(|value| read_addr(&value, isa, report));
    let irq = table
        .get("irq", report)
        .map(|value| read_irq(&value, isa, report));

    let first = (position == 0).then(|| default_uart(isa));
    let missing = [
        (
            "id",
            id.is_none(),
            "the device's name, like `id = \"uart0\"`",
        ),
        (
            "model",
            model.is_none(),
            "what it is, like `model = \"ns16550\"`",
        ),
        (
            "addr",
            addr.is_none() && first.is_none(),
            "only the first device has a default",
        ),
        (
            "irq",
            irq.is_none() && first.is_none(),
            "only the first device has a default",
        ),
    ];
    for (name, is_missing, what) in missing {
        if is_missing {
            let key = alloc::format!("{}.{name}", table.key());
            report.missing(&key, what);
        }
    }
    table.refuse_unknown_keys(report);

    // The error is kept; what else is wrong with the device is to be found too.
    let model = model.flatten().unwrap_or(DeviceModel::Ns16550);
    Some(VirtualDevice {
        id: id??,
        model,
        size: model.window_size(isa),
        addr: addr.unwrap_or(first.as_ref().map(|first| first.addr))?,
        irq: irq.unwrap_or(first.as_ref().map(|first| first.irq))?,
    })
}

/// A device's place, in the space that the instruction set has devices in.
fn read_addr(value: &Value<'_>, isa: Isa, report: &mut Report) -> Option<GuestPhysAddr> {
    match isa.guest_map().device_space.size() {
        None => value.address(report),
        Some(size) => value.integer(0..=size - 1, report).map(GuestPhysAddr::new),
    }
}

fn read_irq(value: &Value<'_>, isa: Isa, report: &mut Report) -> Option<u32> {
    let irqs = &isa.guest_map().irqs;
    let irq = value.integer((*irqs.start()).into()..=(*irqs.end()).into(), report)?;
    u32::try_from(irq).ok()
}

fn check_interrupt_mode(value: &Value<'_>, report: &mut Report) {
    match value.word(&INTERRUPT_MODES, report) {
        Some(InterruptMode::Emulated) | None => {}
        Some(InterruptMode::Passthrough) => {
            value.unsupported(
                "the interrupt controller is emulated; say \"emulated\"",
                report,
            );
        }
        Some(InterruptMode::None) => {
            value.unsupported("every VM has interrupts; say \"emulated\"", report);
        }
    }
}
