//! `[kernel]`: what the VM boots, and its memory.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use super::{
    memory,
    reader::{Report, Table, Value},
};
use crate::{Blob, Isa, KernelConfig, KernelFormat, MemoryRegion, bundle, keys};

/// Linux takes 1023 bytes and an end mark on RISC-V, more elsewhere.
const MAX_CMDLINE: usize = 1023;

const FORMATS: [(&str, KernelFormat); 4] = [
    ("auto", KernelFormat::Auto),
    ("linux", KernelFormat::Linux),
    ("elf", KernelFormat::Elf),
    ("flat", KernelFormat::Flat),
];

/// Where AxVisor looks for images. Here both mean the bundle.
const IMAGE_LOCATIONS: [(&str, ()); 2] = [("fs", ()), ("memory", ())];

/// AxVisor's keys for what AxHV does not do yet.
const UNSUPPORTED: [(&str, &str); 3] = [
    ("bios_path", "a VM has no BIOS"),
    ("bios_load_addr", "a VM has no BIOS"),
    ("disk_path", "a VM has no disk"),
];

pub(super) fn read(
    mut table: Table<'_>,
    isa: Isa,
    report: &mut Report,
) -> (KernelConfig, Vec<MemoryRegion>) {
    let kernel = KernelConfig {
        path: read_kernel_path(&mut table, report).unwrap_or_default(),
        format: read_format(&mut table, report).unwrap_or_default(),
        entry_point: table
            .get(keys::ENTRY_POINT, report)
            .and_then(|value| value.address(report)),
        load_addr: table
            .get(keys::KERNEL_LOAD_ADDR, report)
            .and_then(|value| value.address(report)),
        cmdline: read_cmdline(&mut table, report),
        dtb: read_blob(&mut table, keys::DTB_PATH, keys::DTB_LOAD_ADDR, report),
        ramdisk: read_blob(
            &mut table,
            keys::RAMDISK_PATH,
            keys::RAMDISK_LOAD_ADDR,
            report,
        ),
    };
    if let (Isa::X86_64, Some(_)) = (isa, &kernel.dtb) {
        let rule = "is not supported: an x86_64 VM has ACPI tables instead of a device tree";
        report.error(keys::DTB_PATH, rule);
    }
    let memory = memory::read(&mut table, isa, report);

    if let Some(value) = table.get(keys::IMAGE_LOCATION, report) {
        value.word(&IMAGE_LOCATIONS, report);
    }
    for (key, reason) in UNSUPPORTED {
        if let Some(value) = table.get(key, report) {
            value.unsupported(reason, report);
        }
    }
    table.refuse_unknown_keys(report);
    (kernel, memory)
}

fn read_kernel_path(table: &mut Table<'_>, report: &mut Report) -> Option<String> {
    let what = "the kernel image's path in the bundle, like \"guests/Image\"";
    image_path(&table.require(keys::KERNEL_PATH, what, report)?, report)
}

fn read_format(table: &mut Table<'_>, report: &mut Report) -> Option<KernelFormat> {
    table
        .get(keys::KERNEL_FORMAT, report)?
        .word(&FORMATS, report)
}

fn read_cmdline(table: &mut Table<'_>, report: &mut Report) -> Option<String> {
    let value = table.get(keys::CMDLINE, report)?;
    let text = value.text(report)?;
    if text.len() > MAX_CMDLINE || text.contains(char::is_control) {
        let rule = format_args!("must be at most {MAX_CMDLINE} bytes and no control characters");
        value.wrong(rule, report);
        return None;
    }
    Some(text.to_owned())
}

/// A file and the address it goes to, which means nothing without the file.
fn read_blob(
    table: &mut Table<'_>,
    path_key: &'static str,
    addr_key: &'static str,
    report: &mut Report,
) -> Option<Blob> {
    let path = table.get(path_key, report);
    let load_addr = table.get(addr_key, report);
    if path.is_none() && load_addr.is_some() {
        report.error(addr_key, format_args!("has no meaning without {path_key}"));
    }
    let load_addr = load_addr.and_then(|value| value.address(report));
    Some(Blob {
        path: image_path(&path?, report)?,
        load_addr,
    })
}

fn image_path(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let path = bundle::entry_path(value.text(report)?);
    if path.is_none() {
        let rule = format_args!(
            "must be a path in the bundle: names with `/` between them, none of them `.` or `..`, \
             at most {} bytes and no control characters",
            bundle::MAX_PATH
        );
        value.wrong(rule, report);
    }
    path.map(str::to_owned)
}
