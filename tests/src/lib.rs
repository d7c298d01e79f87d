//! Boots the real image in QEMU and judges by what it and its guests print.
//!
//! `make test` builds what these tests boot: `target/riscv64/hv.bin` and `target/guests/riscv64/`. A test packs a [`bundle`](Bundle) of
//! VM configs and images, [boots](Machine::boot) it, talks to the serial line of the [`Run`], and looks at how the machine ended.

#![forbid(unsafe_code)]

mod bundle;
mod machine;
mod run;

pub use bundle::Bundle;
pub use machine::Machine;
pub use run::{Ended, Run};

use std::path::{Path, PathBuf};

/// A path within the repository.
///
/// # Panics
/// If the crate is not in the repository.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the tests are a folder of the repository")
        .join(path)
}

/// A guest that `make guests` made.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn guest(name: &str) -> Vec<u8> {
    read(
        &repository("target/guests/riscv64").join(name),
        "make guests",
    )
}

fn read(path: &Path, remedy: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; run: {remedy}", path.display()))
}
