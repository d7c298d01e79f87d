//! `hvctl list`: what is in a bundle.

use std::{fs, path::Path};

use axvmconfig::bundle::Bundle;

use crate::report::{self, Failed};

pub(crate) fn run(path: &Path) -> Result<(), Failed> {
    let bytes = fs::read(path).map_err(|error| report::file_error(path, error))?;
    let bundle = Bundle::new(&bytes).map_err(|error| report::file_error(path, error))?;
    for file in bundle.files() {
        println!("{:>10}  {}", file.data.len(), file.path.escape_debug());
    }
    Ok(())
}
