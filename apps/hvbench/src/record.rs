//! A result as a file: JSON, in the order of the table, so that a difference between two commits reads well.

use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value, json};
use system_tests::repository;

use crate::{Failed, Scope, Subject, measure::Measured};

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
    pub(crate) fn new(subject: Subject, measured: &Measured) -> Self {
        let value = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
        let figures: Map<_, _> = measured
            .figures
            .iter()
            .map(|figure| (figure.key.clone(), figure.value.map_or(Value::Null, value)))
            .collect();
        let mut record = json!({
            "subject": subject.name(),
            "figures": figures,
            "linux-boot-exits-by-kind": measured.exits,
        });
        if let Some(native) = &measured.native {
            record["linux-boot-without-hypervisor"] = json!({
                "longer-us": native.longer.mean.round(),
                "longer-us-error": native.longer.error.round(),
                "boot-us": native.boot.mean.round(),
            });
        }
        Self(record)
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
    use crate::{
        Figures, Subject,
        exits::Exits,
        measure::Measured,
        native::{Estimate, Native},
    };

    fn measured() -> Measured {
        let mut figures = Figures::default();
        figures.add("wfi-timer", Some(5.0));
        figures.add("cpuid", Some(831.83));
        figures.add("absent", None);
        Measured {
            figures,
            exits: Exits::from([("mmio-read".into(), 7)]),
            ..Measured::default()
        }
    }

    #[test]
    fn what_is_stored_is_what_is_loaded_in_the_same_order() {
        let record = Record::new(Subject::H, &measured());
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

    #[test]
    fn a_boot_without_hypervisor_is_on_record_with_its_error() {
        let estimate = |mean, error| Estimate { mean, error };
        let native = Native {
            longer: estimate(4_912.4, 35.6),
            boot: estimate(1_051_234.0, 8_000.0),
        };
        let measured = Measured {
            native: Some(native),
            ..measured()
        };
        let record = Record::new(Subject::H, &measured).0;
        let boot = &record["linux-boot-without-hypervisor"];
        assert_eq!(boot["longer-us"], 4_912.0);
        assert_eq!(boot["longer-us-error"], 36.0);
        assert_eq!(boot["boot-us"], 1_051_234.0);
    }
}
