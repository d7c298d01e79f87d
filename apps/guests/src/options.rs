//! The guest's command line: words separated by blanks, each `name` or `name=value`.

use core::fmt::{self, Display, Formatter};

/// The options on a command line.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a str);

/// A value that is not what its option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOption<'a> {
    name: &'a str,
    value: &'a str,
}

impl Display for BadOption<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}={}: not a decimal number of 64 bits",
            self.name, self.value
        )
    }
}

impl<'a> Options<'a> {
    /// The options on `line`.
    pub const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// Whether the word `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.split_whitespace().any(|word| word == name)
    }

    /// The value of `name=value`, the last one if there are several.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        let value = |word: &'a str| word.strip_prefix(name)?.strip_prefix('=');
        self.0.split_whitespace().filter_map(value).next_back()
    }

    /// The number in `name=number`, if the option is there.
    ///
    /// # Errors
    /// Its value is no decimal number of 64 bits.
    pub fn number(&self, name: &'a str) -> Result<Option<u64>, BadOption<'a>> {
        self.value(name)
            .map(|value| value.parse().map_err(|_| BadOption { name, value }))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn words_and_values_are_found() {
        let options = Options::new("  native period_us=250\tbeats=3 beats=7 empty=");
        assert!(options.has("native"));
        assert!(!options.has("period_us"));
        assert!(!options.has("nat"));
        assert_eq!(options.number("period_us"), Ok(Some(250)));
        assert_eq!(options.number("beats"), Ok(Some(7)), "the last one counts");
        assert_eq!(
            options.number("period"),
            Ok(None),
            "a prefix is not the name"
        );
        assert_eq!(options.value("empty"), Some(""));
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        for value in ["", "-1", "ten", "0x10", "18446744073709551616"] {
            let line = format!("beats={value}");
            let error = Options::new(&line).number("beats").unwrap_err();
            assert!(error.to_string().starts_with(&line), "{error}");
        }
        assert_eq!(
            Options::new("beats=18446744073709551615").number("beats"),
            Ok(Some(u64::MAX))
        );
    }
}
