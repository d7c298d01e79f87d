//! What figures are held to: budgets, goals, and what peers take.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use system_tests::repository;

use crate::{Failed, Figures, Scope, Subject, figures::Figure};

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// Above it the run fails.
    pub(crate) budget: f64,
    /// Where it is to come to, if it is not there.
    pub(crate) goal: Option<f64>,
}

/// What a peer took.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PeerFigure {
    pub(crate) name: String,
    pub(crate) value: f64,
}

type Budgets = BTreeMap<String, Budget>;
/// By row and name.
type Peers = BTreeMap<String, BTreeMap<String, f64>>;

/// What the figures of one subject are held to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expectations {
    budgets: Budgets,
    peers: Peers,
}

/// Of the names in `peers.toml`, the one that is no hypervisor.
const NATIVE: &str = "native";

impl Expectations {
    /// Those that are committed.
    pub(crate) fn load(subject: Subject) -> Result<Self, Failed> {
        let read = |name: &str| {
            let path = repository("benches").join(name);
            std::fs::read_to_string(&path)
                .map_err(|error| Failed(format!("{}: {error}", path.display())))
        };
        Self::parse(subject, &read("budgets.toml")?, &read("peers.toml")?)
    }

    fn parse(subject: Subject, budgets: &str, peers: &str) -> Result<Self, Failed> {
        Ok(Self {
            budgets: section(subject, Path::new("benches/budgets.toml"), budgets)?,
            peers: section(subject, Path::new("benches/peers.toml"), peers)?,
        })
    }

    pub(crate) fn budget(&self, key: &str) -> Option<Budget> {
        self.budgets.get(key).copied()
    }

    /// The peer that takes least.
    pub(crate) fn best_peer(&self, key: &str) -> Option<PeerFigure> {
        let peers = self.peers.get(key)?.iter();
        peers
            .filter(|&(name, _)| name != NATIVE)
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(name, &value)| PeerFigure {
                name: name.clone(),
                value,
            })
    }

    /// A line for each budget that was not kept: exceeded, or of something that is absent. A short run need not measure everything.
    pub(crate) fn judge(&self, figures: &Figures, scope: Scope) -> Vec<String> {
        let miss = |(key, budget): (&String, &Budget)| match (figures.value(key), scope) {
            (Some(value), _) => (value > budget.budget)
                .then(|| format!("{key}: {value} where {} are allowed", budget.budget)),
            (None, Scope::Short) if !figures.has(key) => None,
            (None, Scope::Short | Scope::Full) => Some(format!("{key}: absent")),
        };
        self.budgets.iter().filter_map(miss).collect()
    }
}

/// A line that names the figures above their goals, if any are.
pub(crate) fn above_goals(expectations: &Expectations, figures: &Figures) -> Option<String> {
    let above = |figure: &Figure| {
        let goal = expectations.budget(&figure.key)?.goal?;
        let value = figure.value.filter(|&value| value > goal)?;
        Some(format!("{} {value} (goal {goal})", figure.key))
    };
    let all: Vec<_> = figures.iter().filter_map(above).collect();
    (!all.is_empty()).then(|| {
        format!(
            "not at its goal: {}; docs/performance.md says why",
            all.join(", ")
        )
    })
}

/// A subject's section of a file; empty if there is none.
fn section<T: Default + for<'de> Deserialize<'de>>(
    subject: Subject,
    path: &Path,
    text: &str,
) -> Result<T, Failed> {
    let mut sections: BTreeMap<String, T> =
        toml::from_str(text).map_err(|error| Failed(format!("{}: {error}", path.display())))?;
    Ok(sections.remove(subject.name()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Expectations, above_goals};
    use crate::{Figures, Scope, Subject};

    const BUDGETS: &str = "
        [riscv64-h]
        loop = { budget = 2 }
        mmio-read = { budget = 348.13, goal = 220 }
        linux-boot-ratio = { budget = 1.02, goal = 1.005 }
        [x86_64-svm]
        cpuid = { budget = 832, goal = 250 }
    ";
    const PEERS: &str = "
        [riscv64-h]
        mmio-read = { Bao = 284, hvisor = 494, native = 3 }
        wfi-pending = { native = 5 }
    ";

    fn expectations() -> Expectations {
        Expectations::parse(Subject::H, BUDGETS, PEERS).unwrap()
    }

    fn figures(list: &[(&str, Option<f64>)]) -> Figures {
        let mut figures = Figures::default();
        for (key, value) in list {
            figures.add(key, *value);
        }
        figures
    }

    #[test]
    fn a_figure_at_its_budget_is_kept_and_above_it_is_not() {
        let all = |mmio| {
            figures(&[
                ("loop", Some(2.0)),
                ("mmio-read", Some(mmio)),
                ("linux-boot-ratio", Some(1.0043)),
                ("unbudgeted", Some(1e9)),
            ])
        };
        let judge = |figures| expectations().judge(&figures, Scope::Full);
        assert_eq!(judge(all(348.13)), [""; 0]);
        assert_eq!(
            judge(all(348.14)),
            ["mmio-read: 348.14 where 348.13 are allowed"]
        );
    }

    #[test]
    fn what_is_above_its_goal_is_named() {
        let told = |mmio| {
            let all = [
                ("mmio-read", mmio),
                ("loop", Some(2.0)),
                ("linux-boot-ratio", Some(1.0059)),
            ];
            above_goals(&expectations(), &figures(&all)).unwrap()
        };
        let why = "docs/performance.md says why";
        assert_eq!(
            told(Some(220.0)),
            format!("not at its goal: linux-boot-ratio 1.0059 (goal 1.005); {why}")
        );
        assert!(told(Some(221.5)).contains("mmio-read 221.5 (goal 220), linux-boot-ratio"));
        assert!(!told(None).contains("mmio-read"));
        assert_eq!(above_goals(&expectations(), &figures(&[])), None);
    }

    #[test]
    fn what_has_a_budget_must_be_there() {
        let measured = figures(&[("loop", Some(2.0)), ("mmio-read", None)]);
        let judge = |scope| expectations().judge(&measured, scope);
        assert_eq!(judge(Scope::Short), ["mmio-read: absent"]);
        assert_eq!(
            judge(Scope::Full),
            ["linux-boot-ratio: absent", "mmio-read: absent"]
        );
    }

    #[test]
    fn the_best_peer_is_a_hypervisor() {
        let best = expectations().best_peer("mmio-read").unwrap();
        assert_eq!((best.name.as_str(), best.value), ("Bao", 284.0));
        assert_eq!(expectations().best_peer("wfi-pending"), None);
        assert_eq!(expectations().best_peer("loop"), None);
    }

    #[test]
    fn each_subject_has_its_own_section() {
        let svm = Expectations::parse(Subject::Svm, BUDGETS, PEERS).unwrap();
        assert_eq!(svm.budget("cpuid").unwrap().goal, Some(250.0));
        assert_eq!(svm.budget("loop"), None);
        let vmx = Expectations::parse(Subject::Vmx, BUDGETS, PEERS).unwrap();
        assert_eq!(vmx.judge(&figures(&[]), Scope::Full), [""; 0]);
    }

    #[test]
    fn a_misspelt_budget_is_refused() {
        let misspelt = BUDGETS.replace("goal = 220", "gaol = 220");
        let error = Expectations::parse(Subject::H, &misspelt, PEERS).unwrap_err();
        assert!(
            error.0.contains("budgets.toml") && error.0.contains("gaol"),
            "{}",
            error.0
        );
    }

    #[test]
    fn the_committed_files_can_be_read() {
        for subject in [Subject::H, Subject::Svm, Subject::Vmx] {
            let expectations = Expectations::load(subject).unwrap();
            assert!(expectations.budget("loop").is_some(), "{}", subject.name());
        }
    }
}
