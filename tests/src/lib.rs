//! Boots the real image in QEMU or Bochs and judges by what it and its guests print.
//!
//! `make test` builds what these tests boot: the images, `target/ARCH/hv.*`, and the guests, `target/guests/ARCH/`. A test packs a [`bundle`](Bundle) of
//! VM configs and images, [boots](Machine::boot) it, talks to the serial line of the [`Run`], and looks at how the machine ended.

#![forbid(unsafe_code)]

mod bundle;
mod machine;
mod run;
pub mod steady;
mod verdict;

pub use bundle::Bundle;
pub use machine::{Emulator, Machine};
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

/// An architecture that the image is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// The H extension, in QEMU.
    Riscv64,
    /// SVM in QEMU, VMX in Bochs.
    X86_64,
}

impl Arch {
    /// As the Makefile names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::X86_64 => "x86_64",
        }
    }

    /// The image's file.
    const fn image(self) -> &'static str {
        match self {
            Self::Riscv64 => "hv.bin",
            Self::X86_64 => "hv.elf",
        }
    }

    /// Where `make image` leaves the image.
    #[must_use]
    pub fn image_path(self) -> PathBuf {
        repository("target").join(self.name()).join(self.image())
    }

    /// What the emulator's exit status says: 0 for a run in which all went well, 1 for another.
    const fn status(self, status: i32) -> i32 {
        match (self, status) {
            // What the debug-exit device makes of the image's word.
            (Self::X86_64, 33) => 0,
            (Self::X86_64, 35) => 1,
            _ => status,
        }
    }

    /// Where `make guests` leaves a guest.
    #[must_use]
    pub fn guest_path(self, name: &str) -> PathBuf {
        repository("target/guests").join(self.name()).join(name)
    }

    /// A guest that `make guests` made.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn guest(self, name: &str) -> Vec<u8> {
        read(
            &self.guest_path(name),
            &format!("make guests ARCH={}", self.name()),
        )
    }
}

fn read(path: &Path, remedy: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; run: {remedy}", path.display()))
}
