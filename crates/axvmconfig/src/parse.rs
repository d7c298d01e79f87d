//! From text to [`VmConfig`].

use alloc::{vec, vec::Vec};

use crate::{ConfigError, Isa, Source, VmConfig};

/// Reads a config; [`VmConfig::parse`] is its public name.
pub(crate) fn parse(file: &str, _text: &str, _isa: Isa) -> Result<VmConfig, Vec<ConfigError>> {
    Err(vec![Source::new(file).error("", "not written yet")])
}
