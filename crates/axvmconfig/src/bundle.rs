//! The bundle: the archive in which VM configs and images travel to the hypervisor.
//!
//! A bundle is a cpio archive in the `newc` format, not compressed, as `find . | cpio -o -H newc` and
//! `hvctl pack` write it. `vms/*.toml` are the configs; the images have the paths by which the configs
//! name them. [`Bundle`] reads archives that nobody vouches for; [`BundleWriter`] writes them.

mod newc;
#[cfg(test)]
mod tests;
mod writer;

use alloc::collections::BTreeMap;
use core::fmt;

use self::newc::{FileKind, HEADER_LEN, Header, TRAILER};
pub use self::writer::{BundleWriter, WriteError};

/// How many bytes a path in a bundle may have.
pub const MAX_PATH: usize = 255;

/// How many entries a bundle may have, directories not counted.
pub const MAX_ENTRIES: usize = 1024;

/// The folder of the configs.
const CONFIG_FOLDER: &str = "vms/";

/// What the name of a config ends with.
const CONFIG_SUFFIX: &str = ".toml";

/// The form in which bundle and configs agree on a path: without `/` or `./` before it. `None` for what
/// is no path of names with `/` between them, as `a//b`, `../a`, or one that is too long.
#[must_use]
pub fn entry_path(path: &str) -> Option<&str> {
    let path = without_root(path);
    let is_name = |name: &str| !matches!(name, "" | "." | "..");
    let fits = path.len() <= MAX_PATH && path != TRAILER && !path.contains(char::is_control);
    (fits && path.split('/').all(is_name)).then_some(path)
}

/// The path in a bundle of the config in the file `file`, which may be anywhere.
#[must_use]
pub fn config_path(file: &str) -> alloc::string::String {
    let name = file.rsplit('/').next().unwrap_or(file);
    alloc::format!("{CONFIG_FOLDER}{name}")
}

/// Whether the file at `path` of a bundle is a VM config.
#[must_use]
pub fn is_config(path: &str) -> bool {
    path.strip_prefix(CONFIG_FOLDER)
        .is_some_and(|name| name.ends_with(CONFIG_SUFFIX) && !name.contains('/'))
}

fn without_root(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix('/').or_else(|| path.strip_prefix("./")) {
        path = rest;
    }
    path
}

/// An archive that was read to its end without finding fault.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    files: BTreeMap<&'a str, &'a [u8]>,
}

/// A file of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleFile<'a> {
    /// Its path, without `/` or `./` before it.
    pub path: &'a str,
    /// Its bytes, where they are in the archive.
    pub data: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Reads the archive that `bytes` begins with. What follows its end mark is not looked at.
    ///
    /// # Errors
    /// What is no archive, or not all of one. Nothing of it should be used then.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let mut files = BTreeMap::new();
        let mut rest = Rest { bytes, offset: 0 };
        loop {
            let start = rest.offset;
            let error = |problem| BundleError {
                offset: start,
                problem,
            };
            let header = rest.take(HEADER_LEN, Part::Header).map_err(error)?;
            let header = Header::decode(header).map_err(error)?;
            let name = rest.take(header.name_len, Part::Name).map_err(error)?;
            let name = newc::name(name).ok_or(error(Problem::Name))?;
            if name == TRAILER {
                return Ok(Self { files });
            }
            rest.skip_padding();
            let data = rest.take(header.data_len, Part::Data).map_err(error)?;
            rest.skip_padding();
            match header.kind {
                FileKind::Regular => {
                    if files.len() == MAX_ENTRIES {
                        return Err(error(Problem::TooManyEntries));
                    }
                    if files.insert(without_root(name), data).is_some() {
                        return Err(error(Problem::Duplicate));
                    }
                }
                FileKind::Other => {}
            }
        }
    }

    /// Every file, in the order of the paths.
    pub fn files(&self) -> impl Iterator<Item = BundleFile<'a>> {
        self.files
            .iter()
            .map(|(&path, &data)| BundleFile { path, data })
    }

    /// The VM configs, in the order of their names: the files directly in `vms/` that end in `.toml`.
    pub fn configs(&self) -> impl Iterator<Item = BundleFile<'a>> {
        self.files().filter(|file| is_config(file.path))
    }

    /// The bytes of the file at `path`, which may be written with `/` or `./` before it.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&'a [u8]> {
        self.files.get(without_root(path)).copied()
    }
}

/// What is left of an archive to read.
struct Rest<'a> {
    bytes: &'a [u8],
    /// How far the archive was read.
    offset: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize, part: Part) -> Result<&'a [u8], Problem> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(Problem::Truncated {
                part,
                needed: len,
                left: self.bytes.len(),
            });
        };
        self.bytes = rest;
        self.offset += len;
        Ok(taken)
    }

    /// Goes on to the next multiple of the format's alignment. Where the archive ends before that, what
    /// comes next finds nothing.
    fn skip_padding(&mut self) {
        let padding = newc::padding(self.offset).min(self.bytes.len());
        self.bytes = self.bytes.get(padding..).unwrap_or(&[]);
        self.offset += padding;
    }
}

/// Why a bundle cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleError {
    /// Where in the archive the entry begins that is wrong, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an entry of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The archive ends inside it.
    Truncated {
        /// Inside what.
        part: Part,
        /// How many bytes that has.
        needed: usize,
        /// How many of them there are.
        left: usize,
    },
    /// It does not begin as one.
    Magic,
    /// A field of its header is not a hexadecimal number.
    Field,
    /// Its name is not UTF-8, or has no end.
    Name,
    /// There was one of this path before.
    Duplicate,
    /// There are [`MAX_ENTRIES`] before it.
    TooManyEntries,
}

/// A part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its header.
    Header,
    /// Its name.
    Name,
    /// Its bytes.
    Data,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpio archive, entry at byte {:#x}: ", self.offset)?;
        match self.problem {
            Problem::Truncated { part, needed, left } => {
                let part = match part {
                    Part::Header => "header",
                    Part::Name => "name",
                    Part::Data => "data",
                };
                write!(
                    f,
                    "truncated: its {part} has {needed} bytes, and only {left} are there"
                )
            }
            Problem::Magic => {
                f.write_str("does not begin with 070701 (cpio -H newc, uncompressed)")
            }
            Problem::Field => f.write_str("a field of its header is not a hexadecimal number"),
            Problem::Name => f.write_str("its name is not UTF-8 with a NUL at its end"),
            Problem::Duplicate => f.write_str("its path was there before"),
            Problem::TooManyEntries => write!(f, "more than {MAX_ENTRIES} files"),
        }
    }
}

impl core::error::Error for BundleError {}
