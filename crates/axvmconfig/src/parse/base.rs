//! `[base]`: who the VM is, and where its vCPUs run.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use super::reader::{NAME_RULE, Report, Table, Value, is_name, quoted};
use crate::{PcpuSet, Sharing, VCpuPlacement, keys};

/// How many vCPUs a VM may have.
const MAX_VCPUS: usize = 64;

/// The name under which the console shows what the hypervisor says.
const RESERVED: &str = "axhv";
const RESERVED_RULE: &str = "\"axhv\" is the hypervisor's own name at the console";

/// What `[base]` says.
#[derive(Default)]
pub(super) struct Base {
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) vcpus: Vec<VCpuPlacement>,
}

pub(super) fn read(mut table: Table<'_>, file: &str, report: &mut Report) -> Base {
    let base = Base {
        id: read_id(&mut table, report).unwrap_or_default(),
        name: read_name(&mut table, file, report).unwrap_or_default(),
        vcpus: read_vcpus(&mut table, report).unwrap_or_default(),
    };
    check_vm_type(&mut table, report);
    table.refuse_unknown_keys(report);
    base
}

fn read_id(table: &mut Table<'_>, report: &mut Report) -> Option<usize> {
    let id = table.require(keys::ID, "the VM's number, like `id = 1`", report)?;
    let id = id.integer(0..=u32::MAX.into(), report)?;
    usize::try_from(id).ok()
}

/// The name, by default that of the file.
fn read_name(table: &mut Table<'_>, file: &str, report: &mut Report) -> Option<String> {
    if let Some(value) = table.get(keys::NAME, report) {
        let name = value.name(report)?;
        if name.eq_ignore_ascii_case(RESERVED) {
            value.wrong(RESERVED_RULE, report);
            return None;
        }
        return Some(name);
    }
    let stem = file.rsplit('/').next().unwrap_or(file);
    let stem = stem.strip_suffix(".toml").unwrap_or(stem);
    let rule = if !is_name(stem) {
        format!("{} is no name ({NAME_RULE})", quoted(stem))
    } else if stem.eq_ignore_ascii_case(RESERVED) {
        RESERVED_RULE.to_owned()
    } else {
        return Some(stem.to_owned());
    };
    let missing = "missing, and would be that of the file";
    report.error(
        keys::NAME,
        format_args!("{missing}, but {rule}: say `name = \"…\"`"),
    );
    None
}

fn read_vcpus(table: &mut Table<'_>, report: &mut Report) -> Option<Vec<VCpuPlacement>> {
    let cpu_num = table.get(keys::CPU_NUM, report);
    let ids = table.get(keys::PHYS_CPU_IDS, report);
    let sets = table.get(keys::PHYS_CPU_SETS, report);
    // Read even where the list is wrong, so that both are reported.
    let cpu_num = cpu_num.map(|value| value.integer(1..=MAX_VCPUS as u64, report));

    let (key, placements) = match (ids, sets) {
        (Some(ids), None) => (keys::PHYS_CPU_IDS, read_list(ids, dedicated, report)?),
        (None, Some(sets)) => (keys::PHYS_CPU_SETS, read_list(sets, shared, report)?),
        (Some(_), Some(_)) => {
            let line = report.line(keys::PHYS_CPU_IDS);
            let rule = format_args!("either this or phys_cpu_ids (line {line}), not both");
            report.error(keys::PHYS_CPU_SETS, rule);
            return None;
        }
        (None, None) => {
            let rule = "where the vCPUs run, either phys_cpu_ids (one pCPU for each vCPU, \
                        like [1]) or phys_cpu_sets (bit masks of pCPUs to share, like [0b0110])";
            report.missing(keys::PHYS_CPU_IDS, rule);
            return None;
        }
    };
    if let Some(cpu_num) = cpu_num.map_or(Some(placements.len() as u64), |given| given)
        && cpu_num != placements.len() as u64
    {
        let (listed, line) = (placements.len(), report.line(key));
        let rule = format_args!("must be as many as {key} (line {line}) lists, {listed}");
        report.error(keys::CPU_NUM, format_args!("{rule}, found {cpu_num}"));
    }
    Some(placements)
}

/// One placement for each element; `None` if any is wrong.
fn read_list(
    list: Value<'_>,
    place: fn(&Value<'_>, &mut Report) -> Option<(PcpuSet, Sharing)>,
    report: &mut Report,
) -> Option<Vec<VCpuPlacement>> {
    if list.is_empty_list() {
        list.wrong("must have an element for each vCPU", report);
        return None;
    }
    let elements = list.list(MAX_VCPUS, report)?;
    let places: Vec<_> = elements
        .iter()
        .map(|element| place(element, report))
        .collect();
    let placements = places.into_iter().enumerate().map(|(vcpu_id, place)| {
        let (pcpus, sharing) = place?;
        Some(VCpuPlacement {
            vcpu_id,
            pcpus,
            sharing,
        })
    });
    placements.collect()
}

fn dedicated(pcpu: &Value<'_>, report: &mut Report) -> Option<(PcpuSet, Sharing)> {
    let id = pcpu.integer(0..=PcpuSet::MAX_PCPUS as u64 - 1, report)?;
    let pcpus = PcpuSet::single(usize::try_from(id).ok()?)?;
    Some((pcpus, Sharing::Dedicated))
}

fn shared(mask: &Value<'_>, report: &mut Report) -> Option<(PcpuSet, Sharing)> {
    let pcpus = PcpuSet::from_mask(mask.integer(1..=u64::MAX, report)?);
    Some((pcpus, Sharing::Shared))
}

/// AxVisor's kind of guest: 1 (RTOS) and 2 (Linux) make no difference here; 0 is the Linux that runs on
/// the machine already, which AxHV never has.
fn check_vm_type(table: &mut Table<'_>, report: &mut Report) {
    let Some(value) = table.get(keys::VM_TYPE, report) else {
        return;
    };
    if value.integer(0..=2, report) == Some(0) {
        value.unsupported(
            "vm_type 0, a VM made of the running host; 1 and 2 are",
            report,
        );
    }
}
