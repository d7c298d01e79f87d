//! From text to [`VmConfig`]: the tables of a config, each read in a file of its own.
//!
//! Reading never stops at an error, so that one pass finds everything. A value that is wrong or missing
//! leaves its error in the report and a stand-in in the config, which the report then keeps back.

mod base;
mod devices;
mod kernel;
mod memory;
mod nearest;
mod passthrough;
mod reader;
mod rules;
#[cfg(test)]
mod tests;
mod twice;

use alloc::vec::Vec;

use toml::de::DeTable;

use self::reader::{Report, Table};
use crate::{ConfigError, Isa, Source, VmConfig};

/// After this many syntax errors the rest are mostly echoes of the first.
const MAX_SYNTAX_ERRORS: usize = 5;

/// Reads a config; [`VmConfig::parse`] is its public name.
pub(crate) fn parse(file: &str, text: &str, isa: Isa) -> Result<VmConfig, Vec<ConfigError>> {
    let mut report = Report::new(file, text);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        for error in &syntax_errors {
            report.syntax_error(error, text);
        }
        let mut errors = report.into_errors();
        errors.dedup_by_key(|error| error.line);
        errors.truncate(MAX_SYNTAX_ERRORS);
        return Err(errors);
    }

    let mut root = Table::root(document.get_ref());
    let base = base::read(root.table("base", &mut report), file, &mut report);
    let (kernel, memory) = kernel::read(root.table("kernel", &mut report), isa, &mut report);
    let (devices, passed) = devices::read(root.table("devices", &mut report), isa, &mut report);
    root.refuse_unknown_keys(&mut report);

    let config = VmConfig {
        id: base.id,
        name: base.name,
        isa,
        vcpus: base.vcpus,
        kernel,
        memory,
        devices,
        passed,
        source: Source::default(),
    };
    rules::check(&config, &mut report);
    report.finish(config)
}

/// The error that a config is no text after `text`.
pub(crate) fn not_text(file: &str, text: &[u8]) -> ConfigError {
    let newlines = text.iter().filter(|&&byte| byte == b'\n').count();
    let mut error = Source::new(file).error("", "not TOML: a config is UTF-8 text");
    error.line = Some(u32::try_from(newlines).map_or(u32::MAX, |line| line.saturating_add(1)));
    error
}
