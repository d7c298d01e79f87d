//! `hvctl pack`: configs and the images that they name become one bundle.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env, fs,
    path::{Path, PathBuf},
};

use axvmconfig::{ConfigError, Size, VmConfig, bundle::BundleWriter, keys};
use clap::Args;

use crate::{
    Machine,
    check::{self, ConfigFile},
    report::{self, Failed, Severity},
};

/// How to pack.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The bundle to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the images are; by default, the folder of the config that names one, then the current folder.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Leave out images that are not there, with a warning.
    #[arg(long)]
    allow_missing: bool,
    /// Pack configs as they are, right or wrong.
    #[arg(long)]
    no_check: bool,
}

pub(crate) fn run(machine: &Machine, options: &Options, files: &[PathBuf]) -> Result<(), Failed> {
    let configs = check::read(machine, files)?;
    let named = check::check_names(&configs);
    let checked = if options.no_check {
        Ok(())
    } else {
        check::check(machine, &configs)
    };
    let images = find_images(options, &configs);
    // All were done before any counts, so that all errors are told.
    named.and(checked)?;
    let images = images?;
    let archive = archive(&configs, &images)?;
    fs::write(&options.output, &archive)
        .map_err(|error| report::file_error(&options.output, error))?;
    println!(
        "packed {}: VM configs: {}, images: {}, {} KiB",
        options.output.display(),
        configs.len(),
        images.len(),
        archive.len().div_ceil(1024)
    );
    Ok(())
}

/// Every image that a config names: its path in the bundle, and the file.
type Images = BTreeMap<String, PathBuf>;

fn find_images(options: &Options, files: &[ConfigFile]) -> Result<Images, Failed> {
    let mut images = Images::new();
    let mut outcome = Ok(());
    for file in files {
        let Ok(config) = &file.config else {
            // Its errors are the check's; without a check it travels alone.
            continue;
        };
        for (key, path) in named_images(config) {
            let (severity, error) = match find_image(options, file, config, key, path) {
                Ok(found) => match images.entry(path.to_owned()) {
                    Entry::Vacant(entry) => {
                        entry.insert(found);
                        continue;
                    }
                    Entry::Occupied(entry) if *entry.get() == found => continue,
                    Entry::Occupied(entry) => {
                        let (found, other) = (found.display(), entry.get().display());
                        let rule =
                            format!("\"{path}\" is {found} here, but {other} for another VM");
                        (Severity::Error, config.error(key, rule))
                    }
                },
                Err(error) => error,
            };
            report::config_error(severity, &error, &file.bytes);
            match severity {
                Severity::Error => outcome = Err(Failed),
                Severity::Warning => {}
            }
        }
    }
    outcome.map(|()| images)
}

/// The images that a config names, each with the key that does.
fn named_images(config: &VmConfig) -> impl Iterator<Item = (&'static str, &str)> {
    let kernel = &config.kernel;
    let dtb = kernel
        .dtb
        .iter()
        .map(|dtb| (keys::DTB_PATH, dtb.path.as_str()));
    let ramdisk = kernel
        .ramdisk
        .iter()
        .map(|ramdisk| (keys::RAMDISK_PATH, ramdisk.path.as_str()));
    [(keys::KERNEL_PATH, kernel.path.as_str())]
        .into_iter()
        .chain(dtb)
        .chain(ramdisk)
}

fn find_image(
    options: &Options,
    file: &ConfigFile,
    config: &VmConfig,
    key: &str,
    path: &str,
) -> Result<PathBuf, (Severity, ConfigError)> {
    let places = search_places(options, &file.path);
    let found = places
        .iter()
        .map(|place| place.join(path))
        .find_map(|candidate| {
            let metadata = fs::metadata(&candidate)
                .ok()
                .filter(fs::Metadata::is_file)?;
            Some((metadata, candidate))
        });
    let Some((metadata, found)) = found else {
        let rule = match places.iter().find(|place| place.join(path).is_dir()) {
            Some(place) => format!("\"{path}\" in {} is a folder, no file", place.display()),
            None => {
                let places: Vec<_> = places
                    .iter()
                    .map(|place| place.display().to_string())
                    .collect();
                format!("no file \"{path}\" in {}", places.join(", nor in "))
            }
        };
        let severity = if options.allow_missing {
            Severity::Warning
        } else {
            Severity::Error
        };
        return Err((severity, config.error(key, rule)));
    };
    if !options.no_check && metadata.len() == 0 {
        let rule = format!("\"{path}\" is empty");
        return Err((Severity::Error, config.error(key, rule)));
    }
    let memory = config.memory_bytes();
    if !options.no_check && metadata.len() > memory {
        let (size, memory) = (metadata.len(), Size(memory));
        let rule = format!("\"{path}\" has {size} bytes, more than the VM's memory, {memory}");
        return Err((Severity::Error, config.error(key, rule)));
    }
    Ok(found)
}

/// Where the images of the config in `config_file` may be.
fn search_places(options: &Options, config_file: &Path) -> Vec<PathBuf> {
    if let Some(images) = &options.images {
        return vec![images.clone()];
    }
    let beside = match config_file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let here = env::current_dir().ok();
    // The same folder may have two names.
    let is_other = |here: &PathBuf| here.canonicalize().ok() != beside.canonicalize().ok();
    let here = here.filter(is_other);
    [beside].into_iter().chain(here).collect()
}

/// The bundle. The same files give the same bytes.
fn archive(configs: &[ConfigFile], images: &Images) -> Result<Vec<u8>, Failed> {
    let mut writer = BundleWriter::new();
    for config in configs {
        writer
            .add(&check::bundled_name(&config.path), &config.bytes)
            .map_err(|error| report::file_error(&config.path, error))?;
    }
    for (path, file) in images {
        let bytes = fs::read(file).map_err(|error| report::file_error(file, error))?;
        writer
            .add(path, &bytes)
            .map_err(|error| report::file_error(file, error))?;
    }
    Ok(writer.finish())
}
