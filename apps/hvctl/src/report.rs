//! What the user is told: one line for each error, that editors can jump to, and the line it is about.

use std::{fmt::Display, path::Path};

use axvmconfig::ConfigError;

/// How many characters of a line are shown: what is no text may have but one.
const MAX_SHOWN: usize = 160;

/// Something was wrong, and the user was told.
#[derive(Debug)]
pub(crate) struct Failed;

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Severity {
    /// The work is not done.
    Error,
    /// The work is done without it.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Tells what is wrong with a config, whose bytes are `text`.
pub(crate) fn config_error(severity: Severity, error: &ConfigError, text: &[u8]) {
    eprintln!(
        "{}",
        render(severity, error, &String::from_utf8_lossy(text))
    );
}

/// Tells what is wrong with a file as a whole.
pub(crate) fn file_error(path: &Path, error: impl Display) -> Failed {
    eprintln!("{}: error: {error}", path.display());
    Failed
}

fn render(severity: Severity, error: &ConfigError, text: &str) -> String {
    let ConfigError {
        file,
        line,
        key,
        message,
    } = error;
    let separator = if key.is_empty() { "" } else { ": " };
    let place = line.map_or(String::new(), |line| format!("{line}:"));
    let mut rendered = format!(
        "{file}:{place} {}: {key}{separator}{message}",
        severity.word()
    );
    let index = |line: u32| usize::try_from(line).ok()?.checked_sub(1);
    if let Some(line) = line
        && let Some(content) = index(*line).and_then(|index| text.lines().nth(index))
        && !content.trim().is_empty()
    {
        // A config is not trusted with the terminal either.
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let mut rest = content.trim_end().chars();
        let shown: String = rest.by_ref().take(MAX_SHOWN).map(visible).collect();
        let more = if rest.next().is_some() { "…" } else { "" };
        rendered += &format!("\n{line:>5} | {shown}{more}");
    }
    rendered
}

#[cfg(test)]
mod tests {
    use axvmconfig::{Isa, VmConfig};

    use super::{Severity, render};

    #[test]
    fn an_error_shows_its_line() {
        let text = "[base]\n\tid = 'x'\n";
        let errors = VmConfig::parse("a.toml", text, Isa::Riscv64).expect_err("wrong");
        let error = errors
            .iter()
            .find(|error| error.key == "base.id")
            .expect("the id is wrong");
        assert_eq!(
            render(Severity::Error, error, text),
            "a.toml:2: error: base.id: must be a whole number from 0 to 4294967295, found \"x\"\n    \
             2 |  id = 'x'"
        );
        let long = "é".repeat(super::MAX_SHOWN);
        for (line, shown) in [
            (long.clone(), long.clone()),
            (format!("{long}xy"), format!("{long}…")),
        ] {
            let text = format!("[base]\n{line}\n");
            assert!(render(Severity::Error, error, &text).ends_with(&format!("2 | {shown}")));
        }
        // A line that is not there is not shown.
        assert!(!render(Severity::Warning, error, "").contains('\n'));
    }
}
