//! A result as a file: JSON, in the order of the table, so that a difference between two commits reads well.

use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value, json};
use system_tests::repository;

use crate::{Failed, Figures, Scope, Subject, exits::Exits};

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record(Value);

/// Where the last accepted result is.
pub(crate) fn committed_path(subject: Subject) -> PathBuf {
    repository("benches/results").join(format!("{}.json", subject.name()))
}

/// Where the result of this run goes.
pub(crate) fn fresh_path(subject: Subject, scope: Scope) -> PathBuf {
    let kind = match scope {
        Scope::Full => "",
        Scope::Short => "-short",
    };
    repository("target/bench").join(format!("{}{kind}.json", subject.name()))
}

impl Record {
    pub(crate) fn new(subject: Subject, figures: &Figures, exits: &Exits) -> Self {
        let value = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
        let figures: Map<_, _> = figures
            .iter()
            .map(|figure| (figure.key.clone(), figure.value.map_or(Value::Null, value)))
            .collect();
        Self(json!({
            "subject": subject.name(),
            "figures": figures,
            "linux-boot-exits-by-kind": exits,
        }))
    }

    /// The one in a file, if there is one.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Failed> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failed(format!("{}: {error}", path.display()))),
        };
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Some(Self(value))),
            Err(error) => Err(Failed(format!("{}: {error}", path.display()))),
        }
    }

    pub(crate) fn store(&self, path: &Path) -> Result<(), Failed> {
        let failed = |error| Failed(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(path, format!("{:#}\n", self.0)).map_err(failed)
    }

    /// A figure of it.
    pub(crate) fn value(&self, key: &str) -> Option<f64> {
        self.0.get("figures")?.get(key)?.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::Record;
    use crate::{Figures, Subject, exits::Exits};

    #[test]
    fn what_is_stored_is_what_is_loaded_in_the_same_order() {
        let mut figures = Figures::default();
        figures.add("wfi-timer", Some(5.0));
        figures.add("cpuid", Some(831.83));
        figures.add("absent", None);
        let exits = Exits::from([("mmio-read".into(), 7)]);
        let record = Record::new(Subject::H, &figures, &exits);
        let path = std::env::temp_dir().join(format!("hvbench-record-{}.json", std::process::id()));
        record.store(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = Record::load(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(loaded, record);
        assert!(text.find("wfi-timer").unwrap() < text.find("cpuid").unwrap());
        assert_eq!(loaded.value("cpuid"), Some(831.83));
        assert_eq!(loaded.value("absent"), None);
        assert_eq!(Record::load(&path).unwrap(), None);
    }
}
