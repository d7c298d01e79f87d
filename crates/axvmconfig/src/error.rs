//! What is wrong with a config, and where its values were written.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    string::{String, ToString},
};
use core::fmt;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The config's file name.
    pub file: String,
    /// The line, counted from 1; `None` where the file has no table in which what is missing could stand.
    pub line: Option<u32>,
    /// The key, with its tables: `base.cpu_num`; empty where the text is no TOML at all.
    pub key: String,
    /// The rule, and what was found instead.
    pub message: String,
}

impl fmt::Display for ConfigError {
    /// `file:line: key: message`, without what there is not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            key,
            message,
        } = self;
        write!(f, "{file}:")?;
        if let Some(line) = line {
            write!(f, "{line}:")?;
        }
        match key.as_str() {
            "" => write!(f, " {message}"),
            key => write!(f, " {key}: {message}"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Where the values of one config were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    file: String,
    lines: BTreeMap<String, u32>,
}

impl Source {
    /// A file whose lines are not known yet.
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            lines: BTreeMap::new(),
        }
    }

    /// Notes that `key` stands in `line`.
    pub(crate) fn note(&mut self, key: &str, line: u32) {
        self.lines.insert(key.to_owned(), line);
    }

    /// Whether the file says `key`.
    pub(crate) fn is_written(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// The file's name, as it was given to [`VmConfig::parse`](crate::VmConfig::parse).
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1, of `key`; of the table or list around it where the file does not say `key`.
    #[must_use]
    pub fn line(&self, key: &str) -> u32 {
        self.place(key).unwrap_or(1)
    }

    /// The same, if the file says any of that.
    fn place(&self, key: &str) -> Option<u32> {
        let mut key = key;
        loop {
            if let Some(&line) = self.lines.get(key) {
                return Some(line);
            }
            key = key.get(..key.rfind(['.', '['])?)?;
        }
    }

    /// The error that `key` breaks a rule.
    #[must_use]
    pub fn error(&self, key: &str, message: impl fmt::Display) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: self.place(key),
            key: key.to_owned(),
            message: message.to_string(),
        }
    }
}
