//! What a test boots with.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use axvmconfig::bundle::BundleWriter;

use crate::{Arch, repository};

/// VM configs and images, in the making.
#[derive(Debug)]
pub struct Bundle {
    arch: Arch,
    files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// Nothing yet.
    #[must_use]
    pub const fn new(arch: Arch) -> Self {
        Self {
            arch,
            files: Vec::new(),
        }
    }

    pub(crate) const fn arch(&self) -> Arch {
        self.arch
    }

    /// Adds the VM config `vms/NAME.toml`.
    #[must_use]
    pub fn vm(self, name: &str, config: &str) -> Self {
        self.file(&format!("vms/{name}.toml"), config.as_bytes())
    }

    /// Adds the config `NAME-ARCH.toml` of the repository, with some of its text replaced.
    ///
    /// # Panics
    /// If there is no such config, or it has no such text.
    #[must_use]
    pub fn shipped_vm(self, name: &str, replace: &[(&str, &str)]) -> Self {
        let name = &format!("{name}-{}", self.arch.name());
        let path = repository("configs/vms").join(format!("{name}.toml"));
        let mut config = std::fs::read_to_string(path).expect("the config is in the repository");
        for (from, to) in replace {
            assert!(config.contains(from), "{name}.toml has no {from}");
            config = config.replace(from, to);
        }
        self.vm(name, &config)
    }

    /// Adds the guest `NAME` as `guests/ARCH/NAME`.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn guest(self, name: &str) -> Self {
        let bytes = self.arch.guest(name);
        let path = format!("guests/{}/{name}", self.arch.name());
        self.file(&path, &bytes)
    }

    /// Adds any file.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        self.files.push((path.into(), bytes.into()));
        self
    }

    /// The archive's bytes.
    ///
    /// # Panics
    /// If a path is none.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = BundleWriter::new();
        for (path, bytes) in &self.files {
            writer
                .add(path, bytes)
                .expect("a path that a bundle can have");
        }
        writer.finish()
    }
}

/// Removes what processes left behind that were killed.
fn remove_left(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            let (pid, _) = name.strip_prefix("bundle-")?.split_once('-')?;
            pid.parse::<u32>().ok()
        });
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Somebody else may have done it first.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes `bytes` where QEMU can read them.
pub(crate) fn store(bytes: &[u8]) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let folder = repository("target/tests");
    std::fs::create_dir_all(&folder).expect("target/ can be written");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    if number == 0 {
        remove_left(&folder);
    }
    let path = folder.join(format!("bundle-{}-{number}.cpio", std::process::id()));
    std::fs::write(&path, bytes).expect("target/ can be written");
    path
}
