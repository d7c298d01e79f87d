//! Writes bundles.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::fmt;

use super::{
    MAX_ENTRIES, entry_path,
    newc::{self, FileKind, HEADER_LEN, Header, TRAILER},
};

/// Where data begins in an archive: at a multiple of a page, so that it can be used where it is.
const DATA_ALIGN: usize = 4096;

/// A bundle that is being written. The same files in the same order give the same bytes.
#[derive(Debug, Default)]
pub struct BundleWriter {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

/// Why a file cannot go into a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// Its path is none that [`entry_path`] takes.
    Path,
    /// There is one of this path.
    Duplicate,
    /// There are [`MAX_ENTRIES`].
    TooManyEntries,
    /// It has 4 GiB or more, which the format cannot say.
    TooLarge,
}

impl BundleWriter {
    /// A bundle without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    ///
    /// # Errors
    /// The file is not added.
    pub fn add(&mut self, path: &str, data: &[u8]) -> Result<(), WriteError> {
        let path = entry_path(path).ok_or(WriteError::Path)?;
        if self.paths.contains(path) {
            return Err(WriteError::Duplicate);
        }
        if self.paths.len() == MAX_ENTRIES {
            return Err(WriteError::TooManyEntries);
        }
        // The name's NULs are what fills the page before the data: every reader takes a name to end at
        // the first.
        let name_start = self.bytes.len() + HEADER_LEN;
        let data_start = (name_start + path.len() + 1).next_multiple_of(DATA_ALIGN);
        self.append(FileKind::Regular, path, data_start - name_start, data)
            .ok_or(WriteError::TooLarge)?;
        self.paths.insert(path.into());
        Ok(())
    }

    /// The archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        // An entry without data always fits.
        let _ = self.append(FileKind::Other, TRAILER, TRAILER.len() + 1, &[]);
        self.bytes
    }

    /// Adds an entry whose name takes `name_len` bytes. `None`, and nothing is added: `data` is too large.
    fn append(&mut self, kind: FileKind, name: &str, name_len: usize, data: &[u8]) -> Option<()> {
        let inode = u32::try_from(self.paths.len() + 1).ok()?;
        let header = Header {
            inode,
            kind,
            name_len,
            data_len: data.len(),
        }
        .encode()?;
        let name_end = self.bytes.len() + HEADER_LEN + name_len;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.resize(name_end + newc::padding(name_end), 0);
        self.bytes.extend_from_slice(data);
        let data_end = self.bytes.len();
        self.bytes.resize(data_end + newc::padding(data_end), 0);
        Some(())
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("not a path that a bundle can hold"),
            Self::Duplicate => f.write_str("in the bundle already"),
            Self::TooManyEntries => write!(f, "a bundle holds at most {MAX_ENTRIES} files"),
            Self::TooLarge => f.write_str("a bundle cannot hold files of 4 GiB or more"),
        }
    }
}

impl core::error::Error for WriteError {}
