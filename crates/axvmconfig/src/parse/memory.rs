//! `kernel.memory_regions`: the VM's memory, each region in one of four ways to write it.

use alloc::{format, vec::Vec};

use axaddrspace::{GuestPhysAddr, MappingFlags};

use super::reader::{Report, Shape, Table, Value};
use crate::{Isa, MapKind, MemoryRegion, Window, keys};

/// What is mapped, is mapped in pages of this size at least.
const PAGE_SIZE: u64 = 0x1000;

/// Nobody needs more, and every region is held against every other.
const MAX_REGIONS: usize = 32;

/// Read, write and execute, as AxVisor numbers them: bits 0, 1 and 2.
const ALL_ACCESS: MappingFlags = MappingFlags::READ
    .union(MappingFlags::WRITE)
    .union(MappingFlags::EXECUTE);

const MAP_KINDS: [(&str, MapType); 4] = [
    ("alloc", MapType::Here(MapKind::Alloc)),
    ("lazy", MapType::Here(MapKind::Lazy)),
    ("identical", MapType::Identical),
    ("reserved", MapType::Reserved),
];

/// A kind of mapping that AxVisor's users know.
#[derive(Clone, Copy)]
enum MapType {
    /// One that AxHV has.
    Here(MapKind),
    /// Guest-physical is host-physical.
    Identical,
    /// Memory that the host set aside.
    Reserved,
}

/// The parts of a region, as they are written.
struct Fields<'a> {
    key: alloc::string::String,
    gpa: Option<Value<'a>>,
    size: Option<Value<'a>>,
    flags: Option<Value<'a>>,
    map_type: Option<Value<'a>>,
}

pub(super) fn read(table: &mut Table<'_>, isa: Isa, report: &mut Report) -> Vec<MemoryRegion> {
    let what = "the VM's memory, like [[\"256MiB\"]]";
    let Some(list) = table.require(keys::MEMORY_REGIONS, what, report) else {
        return Vec::new();
    };
    if list.is_empty_list() {
        list.wrong("a VM needs memory, like [[\"256MiB\"]]", report);
        return Vec::new();
    }
    let mut regions = Vec::new();
    let mut rests = Vec::new();
    let map = isa.guest_map();
    // Regions that do not say where they go lie one behind another from here on.
    let mut next = Some(map.ram_base);
    for element in list.list(MAX_REGIONS, report).unwrap_or_default() {
        let Some(fields) = Fields::of(element, report) else {
            continue;
        };
        let has_place = fields.gpa.is_some();
        let Some(mut region) = fields.read(next, report) else {
            continue;
        };
        if !has_place {
            let rest = go_around(&mut region, map.interrupt_controller);
            next = rest.unwrap_or(region).window().end();
            rests.extend(rest);
        }
        regions.push(region);
    }
    // Last, so that the others are in the list where the file has them.
    regions.extend(rests);
    regions
}

/// Moves `region` out of the way of `taken`: behind it, or, of a region that begins before it, what
/// does not fit there, which is returned. A region that would wrap stays, for the rules to refuse.
fn go_around(region: &mut MemoryRegion, taken: Window) -> Option<MemoryRegion> {
    let behind = taken.end()?;
    if !region.window().overlaps(taken) {
        return None;
    }
    let before = taken.base.checked_sub(region.gpa).unwrap_or(0);
    let rest = MemoryRegion {
        gpa: behind,
        size: region.size.checked_sub(before)?,
        ..*region
    };
    rest.window().end()?;
    if before == 0 {
        *region = rest;
        return None;
    }
    region.size = before;
    Some(rest)
}

impl<'a> Fields<'a> {
    /// The parts of a region that is written as a size, a list or a table.
    fn of(region: Value<'a>, report: &mut Report) -> Option<Self> {
        let key = region.key().into();
        match region.shape(4, report)? {
            Shape::Scalar(size) => Some(Self {
                key,
                gpa: None,
                size: Some(size),
                flags: None,
                map_type: None,
            }),
            Shape::List(elements) => {
                let mut elements = elements.into_iter();
                // One element alone is the size; otherwise the address comes first.
                let gpa = if elements.len() > 1 {
                    elements.next()
                } else {
                    None
                };
                let [size, flags, map_type] = [elements.next(), elements.next(), elements.next()];
                Some(Self {
                    key,
                    gpa,
                    size,
                    flags,
                    map_type,
                })
            }
            Shape::Table(mut table) => {
                let fields = Self {
                    key,
                    gpa: table.get("gpa", report),
                    size: table.get("size", report),
                    flags: table.get("flags", report),
                    map_type: table.get("map_type", report),
                };
                table.refuse_unknown_keys(report);
                Some(fields)
            }
        }
    }

    /// The region; `next` is where it goes if it does not say.
    fn read(self, next: Option<GuestPhysAddr>, report: &mut Report) -> Option<MemoryRegion> {
        // Each is read before any is missed, so that all errors are reported.
        let gpa = self
            .gpa
            .as_ref()
            .map_or(Some(next), |gpa| read_gpa(gpa, report).map(Some));
        let size = self.size.as_ref().map(|size| read_size(size, report));
        let flags = self
            .flags
            .as_ref()
            .map_or(Some(ALL_ACCESS), |flags| read_flags(flags, report));
        let kind = self
            .map_type
            .as_ref()
            .map_or(Some(MapKind::Alloc), |map_type| {
                read_map_type(map_type, report)
            });
        let Some(size) = size else {
            report.missing(
                &format!("{}.size", self.key),
                "how large the region is, like [\"256MiB\"]",
            );
            return None;
        };
        let (gpa, size, flags, kind) = (gpa?, size?, flags?, kind?);

        let window = gpa.map(|base| Window { base, size });
        match window.filter(|window| window.end().is_some()) {
            Some(window) => Some(MemoryRegion {
                gpa: window.base,
                size,
                flags,
                kind,
            }),
            None => {
                report.error(&self.key, "must end below 2^64");
                None
            }
        }
    }
}

fn read_gpa(value: &Value<'_>, report: &mut Report) -> Option<GuestPhysAddr> {
    let gpa = value.address(report)?;
    if !gpa.is_aligned(PAGE_SIZE) {
        value.wrong("must be a multiple of 4 KiB", report);
        return None;
    }
    Some(gpa)
}

fn read_size(value: &Value<'_>, report: &mut Report) -> Option<u64> {
    let size = value.size(report)?;
    if size == 0 || !size.is_multiple_of(PAGE_SIZE) {
        value.wrong("must be a multiple of 4 KiB, and not 0", report);
        return None;
    }
    Some(size)
}

fn read_flags(value: &Value<'_>, report: &mut Report) -> Option<MappingFlags> {
    let bits = value.integer(0..=u64::from(ALL_ACCESS.bits()), report)?;
    let flags = MappingFlags::from_bits_truncate(u32::try_from(bits).ok()?);
    if !flags.contains(MappingFlags::READ) {
        value.wrong(
            "memory must be readable: bit 0 (bits 1 and 2: write, execute)",
            report,
        );
        return None;
    }
    Some(flags)
}

/// By name, or by AxVisor's number.
fn read_map_type(value: &Value<'_>, report: &mut Report) -> Option<MapKind> {
    let map_type = if value.is_text() {
        value.word(&MAP_KINDS, report)?
    } else {
        match value.integer(0..=2, report)? {
            0 => MapType::Here(MapKind::Alloc),
            1 => MapType::Identical,
            _ => MapType::Reserved,
        }
    };
    match map_type {
        MapType::Here(kind) => Some(kind),
        MapType::Identical => {
            value.unsupported(
                "memory at the same address as on the host; use 0 (\"alloc\")",
                report,
            );
            None
        }
        MapType::Reserved => {
            value.unsupported("memory that the host set aside; use 0 (\"alloc\")", report);
            None
        }
    }
}
