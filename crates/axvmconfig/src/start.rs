//! The order in which VMs start, and what a failed start leaves to the others.
//!
//! [`validate`] says who may start as far as configs tell. That an image is missing or wrong shows
//! only when it is loaded; what that VM had claimed is then free for those that were refused for it.

use alloc::vec::Vec;

use crate::{ConfigError, MachineLimits, VmConfig, validate};

/// A VM did not start, and has taken nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStarted;

/// Who starts VMs, and tells of those that do not.
pub trait Starter {
    /// Starts a VM.
    ///
    /// # Errors
    /// It does not start; why, has been told.
    fn start(&mut self, config: &VmConfig) -> Result<(), NotStarted>;

    /// Tells why a VM may not start.
    fn refuse(&mut self, why: &ConfigError);
}

/// Has `starter` start every VM that may, in the order of their ids. Where that fails, those that were
/// refused are held against the VMs that run once more. Each reason to refuse is told once; those that
/// the configs give, before the first VM starts. Returns how many VMs stay refused.
pub fn start_all(
    configs: Vec<VmConfig>,
    machine: &MachineLimits,
    starter: &mut impl Starter,
) -> usize {
    let mut told: Vec<ConfigError> = Vec::new();
    let mut running = Vec::new();
    let mut waiting = configs;
    loop {
        // Those that run stand first, so that nobody takes anything from them.
        let all: Vec<VmConfig> = running.iter().chain(&waiting).cloned().collect();
        let refusals = validate(&all, machine).err().unwrap_or_default();
        for refusal in &refusals {
            if !told.contains(&refusal.error) {
                starter.refuse(&refusal.error);
                told.push(refusal.error.clone());
            }
        }
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
        due.retain(|config| starter.start(config).is_ok());
        if due.len() == before || refused.is_empty() {
            return refused.len();
        }
        running.extend(due);
        waiting = refused;
    }
}

#[cfg(test)]
mod tests {
    use alloc::{
        format,
        string::{String, ToString},
        vec,
        vec::Vec,
    };

    use super::{NotStarted, Starter, start_all};
    use crate::{ConfigError, Isa, MachineLimits, VmConfig};

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

    /// Writes down, in their order, who was started, by name, and why others were not. Those whose
    /// name begins with `x` cannot start.
    #[derive(Default)]
    struct Log(Vec<String>);

    impl Starter for Log {
        fn start(&mut self, config: &VmConfig) -> Result<(), NotStarted> {
            if config.name.starts_with('x') {
                return Err(NotStarted);
            }
            self.0.push(config.name.clone());
            Ok(())
        }

        fn refuse(&mut self, why: &ConfigError) {
            self.0.push(why.to_string());
        }
    }

    /// What happened, and how many stay refused.
    fn start(configs: Vec<VmConfig>) -> (Vec<String>, usize) {
        let mut log = Log::default();
        let refused = start_all(configs, &MACHINE, &mut log);
        (log.0, refused)
    }

    #[test]
    fn vms_start_in_the_order_of_their_ids() {
        let configs = vec![
            vm(3, "a", "[1]", "1MiB"),
            vm(1, "b", "[2]", "1MiB"),
            vm(2, "x", "[3]", "1MiB"),
        ];
        assert_eq!(start(configs), (vec!["b".into(), "a".into()], 0));
    }

    #[test]
    fn what_could_not_start_claims_nothing() {
        let configs = vec![
            vm(1, "x", "[1, 3]", "768MiB"),
            vm(2, "a", "[3]", "1MiB"),
            vm(3, "b", "[2]", "512MiB"),
        ];
        let (told, refused) = start(configs);
        // What the configs say against each other comes before any VM starts.
        assert!(told[0].starts_with("a.toml:3:") && told[0].contains("VM \"x\""));
        assert!(told[1].starts_with("b.toml:6:") && told[1].contains("VM \"x\""));
        assert_eq!((&told[2..], refused), (&["a".into(), "b".into()][..], 0));
    }

    #[test]
    fn each_refusal_is_told_once_with_who_stands_in_its_way() {
        let configs = vec![
            vm(1, "x", "[1]", "1MiB"),
            vm(2, "a", "[1, 2]", "1MiB"),
            vm(3, "b", "[1]", "1MiB"),
            vm(4, "c", "[2]", "1MiB"),
        ];
        let (told, refused) = start(configs);
        let [a, b, started_c, a_again, started_b] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(a.starts_with("a.toml:3: base.phys_cpu_ids[0]: pCPU 1 ") && a.contains("VM \"x\""));
        assert!(b.starts_with("b.toml:3: ") && b.contains("VM \"x\""));
        // The one that ran before keeps what it has.
        assert!(a_again.starts_with("a.toml:3: base.phys_cpu_ids[1]: pCPU 2 "));
        assert!(a_again.contains("VM \"c\""));
        assert_eq!((&**started_c, &**started_b, refused), ("c", "b", 1));
    }

    #[test]
    fn many_failures_leave_the_machine_to_the_last() {
        let mut configs: Vec<_> = (0..9)
            .map(|id| vm(id, &format!("x{id}"), "[1]", "1GiB"))
            .collect();
        configs.push(vm(9, "z", "[1]", "1GiB"));
        let (told, refused) = start(configs);
        assert_eq!((told.last(), refused), (Some(&"z".into()), 0));
    }
}
