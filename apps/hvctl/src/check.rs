//! `hvctl check`: the rules of `axvmconfig`, for files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use axvmconfig::{ConfigError, VmConfig, bundle, validate};

use crate::{
    Machine,
    report::{self, Failed, Severity},
};

/// A config, as its file has it and as it was understood.
pub(crate) struct ConfigFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) bytes: Vec<u8>,
    /// What it says, or what is wrong with it.
    pub(crate) config: Result<VmConfig, Vec<ConfigError>>,
}

pub(crate) fn run(machine: &Machine, files: &[PathBuf]) -> Result<(), Failed> {
    let files = read(machine, files)?;
    let named = check_names(&files);
    let checked = check(machine, &files);
    // Both were done before either counts, so that all errors are told.
    named.and(checked)?;
    for file in &files {
        for device in file.config.iter().flat_map(|config| &config.passed) {
            println!("{}: {device}", file.path.display());
        }
    }
    println!("no errors; configs checked: {}", files.len());
    Ok(())
}

/// Reads configs, in the order in which the hypervisor takes them: that of their names in a bundle.
pub(crate) fn read(machine: &Machine, files: &[PathBuf]) -> Result<Vec<ConfigFile>, Failed> {
    let mut paths: Vec<&PathBuf> = files.iter().collect();
    paths.sort_by_key(|path| (bundled_name(path), *path));
    let mut last = None;
    let read: Vec<_> = paths
        .into_iter()
        .map(|path| {
            // Its conflicts with itself would be many.
            if last.replace(path) == Some(path) {
                return Err(report::file_error(path, "is given twice"));
            }
            read_one(machine, path)
        })
        .collect();
    // All are tried before any failure counts, so that all failures are told.
    read.into_iter().collect()
}

fn read_one(machine: &Machine, path: &Path) -> Result<ConfigFile, Failed> {
    let bytes = fs::read(path).map_err(|error| report::file_error(path, error))?;
    let config = VmConfig::parse_bytes(&path.to_string_lossy(), &bytes, machine.isa);
    Ok(ConfigFile {
        path: path.to_owned(),
        bytes,
        config,
    })
}

/// The path of a config in a bundle.
pub(crate) fn bundled_name(path: &Path) -> String {
    bundle::config_path(&path.to_string_lossy())
}

/// Whether each config has a name of its own in a bundle.
pub(crate) fn check_names(files: &[ConfigFile]) -> Result<(), Failed> {
    let mut outcome = Ok(());
    let mut owners = BTreeMap::new();
    for file in files {
        let name = bundled_name(&file.path);
        if !bundle::is_config(&name) {
            let rule = "a config's name must end in .toml";
            outcome = Err(report::file_error(&file.path, rule));
        } else if let Some(owner) = owners.insert(name.clone(), &file.path) {
            let rule = format!(
                "has the same name in the bundle ({name}) as {}: rename one",
                owner.display()
            );
            outcome = Err(report::file_error(&file.path, rule));
        }
    }
    outcome
}

/// Holds configs against all rules.
pub(crate) fn check(machine: &Machine, files: &[ConfigFile]) -> Result<(), Failed> {
    let mut outcome = Ok(());
    let mut understood = Vec::new();
    let mut origins = Vec::new();
    for file in files {
        match &file.config {
            Ok(config) => {
                understood.push(config.clone());
                origins.push(file);
            }
            Err(errors) => {
                for error in errors {
                    report::config_error(Severity::Error, error, &file.bytes);
                }
                outcome = Err(Failed);
            }
        }
    }
    if let Err(refusals) = validate(&understood, &machine.limits()) {
        for refusal in refusals {
            let text = origins.get(refusal.vm).map_or(&[][..], |file| &file.bytes);
            report::config_error(Severity::Error, &refusal.error, text);
        }
        outcome = Err(Failed);
    }
    outcome
}
