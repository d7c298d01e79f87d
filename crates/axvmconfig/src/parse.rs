//! From text to [`VmConfig`]: the tables of a config, each read in a file of its own.
//!
//! Reading never stops at an error, so that one pass finds everything. A value that is wrong or missing
//! leaves its error in the report and a stand-in in the config, which the report then keeps back.

mod base;
mod devices;
mod kernel;
mod memory;
mod nearest;
mod reader;
mod rules;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use toml::de::DeTable;

use self::reader::{Report, Table};
use crate::{ConfigError, Isa, Source, VmConfig};

/// After this many syntax errors the rest are mostly echoes.
const MAX_SYNTAX_ERRORS: usize = 20;

/// Reads a config; [`VmConfig::parse`] is its public name.
pub(crate) fn parse(file: &str, text: &str, isa: Isa) -> Result<VmConfig, Vec<ConfigError>> {
    let mut report = Report::new(file, text);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        for error in syntax_errors.iter().take(MAX_SYNTAX_ERRORS) {
            report.syntax_error(error);
        }
        return Err(report.into_errors());
    }

    let mut root = Table::root(document.get_ref());
    let base = base::read(root.table("base", &mut report), file, &mut report);
    let (kernel, memory) = kernel::read(root.table("kernel", &mut report), isa, &mut report);
    let devices = devices::read(root.table("devices", &mut report), isa, &mut report);
    root.refuse_unknown_keys(&mut report);

    let config = VmConfig {
        id: base.id,
        name: base.name,
        isa,
        vcpus: base.vcpus,
        kernel,
        memory,
        devices,
        source: Source::default(),
    };
    rules::check(&config, &mut report);
    report.finish(config)
}
