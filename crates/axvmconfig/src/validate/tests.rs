//! Several VMs: who starts, who is refused, and what that is told.

use proptest::prelude::*;

use super::{MachineLimits, Refusal, validate};
use crate::{Isa, VmConfig};

const MACHINE: MachineLimits = MachineLimits {
    pcpus: 4,
    ram_bytes: 1 << 30,
    guest_phys_bits: 41,
    devices: None,
};

/// A config whose `[base]` has the id, the name and the line `placement`.
fn vm(id: usize, name: &str, placement: &str) -> VmConfig {
    vm_with_memory(id, name, placement, "[\"64MiB\"]")
}

fn vm_with_memory(id: usize, name: &str, placement: &str, memory: &str) -> VmConfig {
    let text = format!(
        "[base]\nid = {id}\nname = \"{name}\"\n{placement}\n[kernel]\nkernel_path = \"Image\"\n\
         memory_regions = {memory}\n"
    );
    VmConfig::parse(&format!("{name}.toml"), &text, Isa::Riscv64).expect("valid by itself")
}

/// The refusals as `vm: message`.
fn refusals(configs: &[VmConfig], machine: &MachineLimits) -> Vec<String> {
    let refusals = validate(configs, machine).err().unwrap_or_default();
    refusals
        .iter()
        .map(|Refusal { vm, error }| format!("{vm}: {error}"))
        .collect()
}

#[test]
fn vms_that_share_nothing_start() {
    let configs = [
        vm(1, "a", "phys_cpu_ids = [2, 3]"),
        vm(2, "b", "phys_cpu_sets = [0b0011]"),
        vm(3, "c", "phys_cpu_sets = [0b0001, 0b0010]"),
    ];
    assert_eq!(validate(&configs, &MACHINE), Ok(()));
    assert_eq!(validate(&[], &MACHINE), Ok(()));
}

#[test]
fn an_id_or_a_name_has_one_owner() {
    let mut configs = vec![
        vm(1, "a", "phys_cpu_ids = [1]"),
        vm(1, "b", "phys_cpu_ids = [2]"),
    ];
    assert_eq!(
        refusals(&configs, &MACHINE),
        ["1: b.toml:2: base.id: 1 is VM \"a\" (a.toml:2) already"]
    );
    configs[1] = vm(2, "a", "phys_cpu_ids = [2]");
    assert_eq!(
        refusals(&configs, &MACHINE),
        ["1: a.toml:3: base.name: this is the name of VM \"a\" (a.toml:3) already, with id 1"]
    );
}

#[test]
fn pcpus_exist() {
    let configs = [
        vm(1, "a", "phys_cpu_ids = [1, 4]"),
        vm(2, "b", "phys_cpu_sets = [0b110010]"),
        vm(3, "c", "phys_cpu_ids = [63]"),
    ];
    assert_eq!(
        refusals(&configs, &MACHINE),
        [
            "0: a.toml:4: base.phys_cpu_ids[1]: this machine has pCPUs 0, 1, 2, 3, and not 4",
            "1: b.toml:4: base.phys_cpu_sets[0]: this machine has pCPUs 0, 1, 2, 3, and not 4, 5",
            "2: c.toml:4: base.phys_cpu_ids[0]: this machine has pCPUs 0, 1, 2, 3, and not 63",
        ]
    );
    let huge = MachineLimits {
        pcpus: 1000,
        ..MACHINE
    };
    assert_eq!(validate(&configs[2..], &huge), Ok(()));
}

#[test]
fn pcpu_0_is_shared_or_nobodys() {
    let dedicated = [vm(1, "a", "phys_cpu_ids = [0]")];
    let shared = [vm(1, "a", "phys_cpu_sets = [1]")];
    assert!(refusals(&dedicated, &MACHINE)[0].contains("pCPU 0 runs the hypervisor's own tasks"));
    assert_eq!(validate(&shared, &MACHINE), Ok(()));
    // On a machine of one pCPU dedicated means shared.
    let one = MachineLimits {
        pcpus: 1,
        ..MACHINE
    };
    let both = [
        vm(1, "a", "phys_cpu_ids = [0, 0]"),
        vm(2, "b", "phys_cpu_ids = [0]"),
    ];
    assert_eq!(validate(&both, &one), Ok(()));
}

#[test]
fn a_dedicated_pcpu_has_one_owner() {
    let a = || vm(1, "a", "phys_cpu_ids = [1, 2]");
    let b = || vm(2, "b", "phys_cpu_ids = [3, 2]");
    let sharer = || vm(3, "c", "phys_cpu_sets = [0b1110]");
    assert_eq!(
        refusals(&[a(), b()], &MACHINE),
        ["1: b.toml:4: base.phys_cpu_ids[1]: pCPU 2 is dedicated to vCPU 1 of VM \"a\" (a.toml:4)"]
    );
    assert_eq!(
        refusals(&[a(), sharer()], &MACHINE),
        [
            "1: c.toml:4: base.phys_cpu_sets[0]: pCPU 1 is dedicated to vCPU 0 of VM \"a\" (a.toml:4)",
            "1: c.toml:4: base.phys_cpu_sets[0]: pCPU 2 is dedicated to vCPU 1 of VM \"a\" (a.toml:4)",
        ]
    );
    assert_eq!(
        refusals(&[sharer(), vm(1, "a", "phys_cpu_ids = [1]")], &MACHINE),
        [
            "1: a.toml:4: base.phys_cpu_ids[0]: pCPU 1 cannot be dedicated: it is shared by vCPU 0 of VM \
          \"c\" (c.toml:4)"
        ]
    );
    assert_eq!(
        refusals(&[vm(1, "a", "phys_cpu_ids = [1, 1]")], &MACHINE),
        ["0: a.toml:4: base.phys_cpu_ids[1]: pCPU 1 is dedicated to vCPU 0 of this VM already"]
    );
}

#[test]
fn a_refused_vm_claims_nothing() {
    // The first is wrong by itself, so that the second, which wants the same, starts.
    let configs = [
        vm(1, "a", "phys_cpu_ids = [2, 9]"),
        vm(1, "b", "phys_cpu_ids = [2]"),
        vm(3, "c", "phys_cpu_ids = [2]"),
    ];
    let refused: Vec<_> = validate(&configs, &MACHINE)
        .unwrap_err()
        .iter()
        .map(|refusal| refusal.vm)
        .collect();
    assert_eq!(refused, [0, 2]);
}

#[test]
fn memory_is_there_for_all_that_start() {
    let configs = [
        vm_with_memory(1, "a", "phys_cpu_ids = [1]", "[\"768MiB\"]"),
        vm_with_memory(
            2,
            "b",
            "phys_cpu_ids = [2]",
            "[[0x4000_0000, \"512MiB\", 7, \"lazy\"], \"16MiB\"]",
        ),
        vm_with_memory(3, "c", "phys_cpu_ids = [3]", "[\"256MiB\"]"),
    ];
    assert_eq!(
        refusals(
            &configs[..1],
            &MachineLimits {
                ram_bytes: 1 << 20,
                ..MACHINE
            }
        ),
        ["0: a.toml:7: kernel.memory_regions: 768MiB are more than the 1MiB left of 1MiB for VMs"]
    );
    let machine = MachineLimits {
        ram_bytes: (1 << 30) + 4096,
        ..MACHINE
    };
    assert_eq!(
        refusals(&configs, &machine),
        [
            "1: b.toml:7: kernel.memory_regions: 528MiB are more than the 256MiB left of 1GiB for VMs: VM \"a\" (a.toml:7) has 768MiB"
        ]
    );
}

#[test]
fn addresses_are_within_the_nested_tables_reach() {
    let high = vm_with_memory(
        1,
        "a",
        "phys_cpu_ids = [1]",
        "[[0x1ff_ffff_f000, \"8KiB\"]]",
    );
    assert_eq!(
        refusals(&[high], &MACHINE),
        [
            "0: a.toml:7: kernel.memory_regions[0]: 0x1fffffff000 to 0x20000000fff is past the 41 bits of \
          address that a VM has here"
        ]
    );
    let last = vm_with_memory(
        1,
        "a",
        "phys_cpu_ids = [1]",
        "[[0x1ff_ffff_f000, \"4KiB\"]]",
    );
    assert_eq!(validate(&[last], &MACHINE), Ok(()));
}

/// How a made-up vCPU is placed, on a machine of five pCPUs.
fn placements() -> impl Strategy<Value = (bool, Vec<u64>)> {
    prop_oneof![
        prop::collection::vec(1u64..5, 1..3).prop_map(|ids| (true, ids)),
        prop::collection::vec(1u64..32, 1..3).prop_map(|masks| (false, masks)),
    ]
}

proptest! {
    /// Of the VMs that start, no two vCPUs are on a pCPU that is dedicated to either; and of those that do
    /// not, each collides with itself or one that starts.
    #[test]
    fn no_dedicated_pcpu_is_shared(vms in prop::collection::vec(placements(), 1..6)) {
        let machine = MachineLimits { pcpus: 5, ..MACHINE };
        let configs: Vec<_> = vms
            .iter()
            .enumerate()
            .map(|(id, (dedicated, list))| {
                let key = if *dedicated { "phys_cpu_ids" } else { "phys_cpu_sets" };
                vm(id, &format!("vm{id}"), &format!("{key} = {list:?}"))
            })
            .collect();
        let refused: Vec<_> = validate(&configs, &machine)
            .err()
            .unwrap_or_default()
            .iter()
            .map(|refusal| refusal.vm)
            .collect();

        let masks = |(dedicated, list): &(bool, Vec<u64>)| -> Vec<u64> {
            list.iter().map(|&item| if *dedicated { 1 << item } else { item }).collect()
        };
        let collide = |a: usize, b: usize| {
            (vms[a].0 || vms[b].0)
                && masks(&vms[a]).iter().enumerate().any(|(i, x)| {
                    masks(&vms[b]).iter().enumerate().any(|(j, y)| (a != b || i != j) && x & y != 0)
                })
        };
        let admitted: Vec<_> = (0..vms.len()).filter(|vm| !refused.contains(vm)).collect();
        for &a in &admitted {
            for &b in &admitted {
                prop_assert!(!collide(a, b), "{} and {}", a, b);
            }
        }
        for &a in &refused {
            let guilty = collide(a, a) || admitted.iter().any(|&b| b < a && collide(a, b));
            prop_assert!(guilty, "{} was refused for nothing", a);
        }
    }
}
