//! The order in which VMs start, and what a failed start leaves to the others.
//!
//! [`validate`] says who may start as far as configs tell. That an image is missing or wrong shows
//! only when it is loaded; what that VM had claimed is then free for those that were refused for it.

use alloc::vec::Vec;

use crate::{ConfigError, MachineLimits, VmConfig, validate};

/// A VM did not start, and has taken nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStarted;

/// Has `start` start every VM that may, in the order of their ids. Where that fails, those that were
/// refused are held against the VMs that run once more. Returns what is wrong with the VMs that stay
/// refused; what is wrong with those that `start` could not start, it has to tell itself.
pub fn start_all(
    configs: Vec<VmConfig>,
    machine: &MachineLimits,
    mut start: impl FnMut(&VmConfig) -> Result<(), NotStarted>,
) -> Vec<ConfigError> {
    let mut running = Vec::new();
    let mut waiting = configs;
    loop {
        // Those that run stand first, so that nobody takes anything from them.
        let all: Vec<VmConfig> = running.iter().chain(&waiting).cloned().collect();
        let refusals = validate(&all, machine).err().unwrap_or_default();
        let is_refused = |vm: usize| refusals.iter().any(|refusal| refusal.vm == vm);
        let (mut due, mut refused) = (Vec::new(), Vec::new());
        for (position, config) in waiting.into_iter().enumerate() {
            if is_refused(running.len() + position) {
                refused.push(config);
            } else {
                due.push(config);
            }
        }
        due.sort_by_key(|config| config.id);
        let before = due.len();
        due.retain(|config| start(config).is_ok());
        if due.len() == before || refused.is_empty() {
            return refusals.into_iter().map(|refusal| refusal.error).collect();
        }
        running.extend(due);
        waiting = refused;
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString, vec, vec::Vec};

    use super::{NotStarted, start_all};
    use crate::{Isa, MachineLimits, VmConfig};

    const MACHINE: MachineLimits = MachineLimits {
        pcpus: 4,
        ram_bytes: 1 << 30,
        guest_phys_bits: 41,
        devices: None,
    };

    fn vm(id: usize, name: &str, pcpus: &str, memory: &str) -> VmConfig {
        let text = format!(
            "[base]\nid = {id}\nphys_cpu_ids = {pcpus}\n[kernel]\nkernel_path = \"Image\"\n\
             memory_regions = [\"{memory}\"]\n"
        );
        VmConfig::parse(&format!("{name}.toml"), &text, Isa::Riscv64).expect("valid by itself")
    }

    /// Who was started, in this order, and what is wrong with who was not; those whose name begins
    /// with `x` cannot start.
    fn start(configs: Vec<VmConfig>) -> (Vec<String>, Vec<String>) {
        let mut started = Vec::new();
        let errors = start_all(configs, &MACHINE, |config| {
            if config.name.starts_with('x') {
                return Err(NotStarted);
            }
            started.push(config.name.clone());
            Ok(())
        });
        (started, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn vms_start_in_the_order_of_their_ids() {
        let configs = vec![
            vm(3, "a", "[1]", "1MiB"),
            vm(1, "b", "[2]", "1MiB"),
            vm(2, "x", "[3]", "1MiB"),
        ];
        assert_eq!(start(configs).0, ["b", "a"]);
    }

    #[test]
    fn what_could_not_start_claims_nothing() {
        let configs = vec![
            vm(1, "x", "[1, 3]", "768MiB"),
            vm(2, "a", "[3]", "1MiB"),
            vm(3, "b", "[2]", "512MiB"),
        ];
        assert_eq!(start(configs), (vec!["a".into(), "b".into()], vec![]));
    }

    #[test]
    fn what_stays_refused_is_told_once_with_who_stands_in_its_way() {
        let configs = vec![
            vm(1, "x", "[1]", "1MiB"),
            vm(2, "a", "[1, 2]", "1MiB"),
            vm(3, "b", "[1]", "1MiB"),
            vm(4, "c", "[2]", "1MiB"),
        ];
        let (started, errors) = start(configs);
        // The one that ran before keeps what it has.
        assert_eq!(started, ["c", "b"]);
        let [error] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert!(error.starts_with("a.toml:3: base.phys_cpu_ids[1]: pCPU 2 "));
        assert!(error.contains("VM \"c\""));
    }

    #[test]
    fn many_failures_leave_the_machine_to_the_last() {
        let mut configs: Vec<_> = (0..9)
            .map(|id| vm(id, &format!("x{id}"), "[1]", "1GiB"))
            .collect();
        configs.push(vm(9, "z", "[1]", "1GiB"));
        assert_eq!(start(configs), (vec!["z".into()], vec![]));
    }
}
