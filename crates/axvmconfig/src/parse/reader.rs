//! Typed access to a TOML document that remembers where everything stands and what is wrong with it.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, ops::RangeInclusive};

use axaddrspace::GuestPhysAddr;
use toml::de::{DeTable, DeValue};

use super::{nearest::nearest, twice::first_line};
use crate::{ConfigError, Source, VmConfig, size::parse_size};

/// How many characters of a wrong string a message repeats.
const MAX_QUOTED: usize = 40;

/// What is wrong with a config, as far as it was read, and where its keys stand.
pub(super) struct Report {
    source: Source,
    /// The offset of the first byte of every line but the first.
    line_starts: Vec<usize>,
    errors: Vec<ConfigError>,
    /// The keys that are missing, and what those that are unknown were most likely meant to be.
    missing: Vec<String>,
    meant: Vec<String>,
}

impl Report {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let line_starts = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        Self {
            source: Source::new(file),
            line_starts: line_starts.map(|(newline, _)| newline + 1).collect(),
            errors: Vec::new(),
            missing: Vec::new(),
            meant: Vec::new(),
        }
    }

    /// Says that `key` is missing, and what it is for.
    pub(super) fn missing(&mut self, key: &str, what: impl fmt::Display) {
        self.missing.push(key.to_owned());
        self.error(key, format_args!("missing: {what}"));
    }

    /// Says that `key` breaks a rule.
    pub(super) fn error(&mut self, key: &str, message: impl fmt::Display) {
        let error = self.source.error(key, message);
        self.errors.push(error);
    }

    /// Says that `text` is not TOML.
    pub(super) fn syntax_error(&mut self, error: &toml::de::Error, text: &str) {
        let span = error.span().unwrap_or(0..0);
        let line = self.line_of(span.start);
        // Of a key that stands twice the parser gives the place only.
        let what = match (error.message(), text.get(span)) {
            ("duplicate key", Some(key)) => {
                let key = key.trim();
                let first = match first_line(text, key, line) {
                    Some(first) => format!(", first in line {first}"),
                    None => String::new(),
                };
                format!("the key {} stands twice{first}", quoted_key(key))
            }
            (message, _) => message.to_owned(),
        };
        let mut error = self.source.error("", format_args!("not TOML: {what}"));
        error.line = Some(line);
        self.errors.push(error);
    }

    /// Whether nothing is wrong with `key` and what is inside it.
    pub(super) fn is_clean(&self, key: &str) -> bool {
        !self.errors.iter().any(|error| error.key.starts_with(key))
    }

    /// The same, but for what stands at keys that end so.
    pub(super) fn is_clean_but(&self, key: &str, end: &str) -> bool {
        let mut inside = self
            .errors
            .iter()
            .filter(|error| error.key.starts_with(key));
        inside.all(|error| error.key.ends_with(end))
    }

    /// `key` and its line, for a message about another.
    pub(super) fn place(&self, key: &str) -> String {
        format!("{key} (line {})", self.line(key))
    }

    /// The line of `key`, for a message about another.
    pub(super) fn line(&self, key: &str) -> u32 {
        self.source.line(key)
    }

    /// The line of `key`, if the file says it.
    pub(super) fn line_if_written(&self, key: &str) -> Option<u32> {
        self.source.is_written(key).then(|| self.source.line(key))
    }

    /// The config, if nothing is wrong with it.
    pub(super) fn finish(self, config: VmConfig) -> Result<VmConfig, Vec<ConfigError>> {
        if self.errors.is_empty() {
            let Self { source, .. } = self;
            Ok(VmConfig { source, ..config })
        } else {
            Err(self.into_errors())
        }
    }

    /// What is wrong, in the order of the file; what is missing with all its table comes last. What is
    /// missing because its name, or its table's, is misspelt is not told beside that.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let Self {
            mut errors,
            missing,
            meant,
            ..
        } = self;
        let is_meant = |key: &str| {
            let inside = |meant: &String| key.strip_prefix(meant.as_str());
            let mut rests = meant.iter().filter_map(inside);
            rests.any(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        errors.retain(|error| !(missing.contains(&error.key) && is_meant(&error.key)));
        errors.sort_by_key(|error| error.line.unwrap_or(u32::MAX));
        errors
    }

    fn note(&mut self, key: &str, offset: usize) {
        let line = self.line_of(offset);
        self.source.note(key, line);
    }

    fn line_of(&self, offset: usize) -> u32 {
        let newlines_before = self.line_starts.partition_point(|&start| start <= offset);
        u32::try_from(newlines_before).map_or(u32::MAX, |line| line.saturating_add(1))
    }
}

/// A table, and which keys it may have: those that were asked for.
pub(super) struct Table<'a> {
    key: String,
    entries: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn root(entries: &'a DeTable<'a>) -> Self {
        Self {
            key: String::new(),
            entries: Some(entries),
            known: Vec::new(),
        }
    }

    /// The table's own key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The value of a key, which is given by its name or with the table's key before it.
    pub(super) fn get(&mut self, key: &'static str, report: &mut Report) -> Option<Value<'a>> {
        let name = key.rsplit('.').next().unwrap_or(key);
        self.known.push(name);
        let (key, value) = self
            .entries?
            .iter()
            .find(|(key, _)| key.get_ref() == name)?;
        let path = join(&self.key, name);
        report.note(&path, key.span().start);
        Some(Value {
            key: path,
            value: value.get_ref(),
        })
    }

    /// Like [`get`](Self::get), where the key must be there.
    pub(super) fn require(
        &mut self,
        key: &'static str,
        what: &str,
        report: &mut Report,
    ) -> Option<Value<'a>> {
        let value = self.get(key, report);
        if value.is_none() {
            report.missing(key, what);
        }
        value
    }

    /// The table of this name inside; an empty one where there is none.
    pub(super) fn table(&mut self, name: &'static str, report: &mut Report) -> Self {
        let table = self.get(name, report).and_then(|value| value.table(report));
        table.unwrap_or_else(|| Self {
            key: join(&self.key, name),
            entries: None,
            known: Vec::new(),
        })
    }

    /// Says of every key that nobody asked for that there is no such key.
    pub(super) fn refuse_unknown_keys(self, report: &mut Report) {
        for (key, _) in self.entries.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let path = join(&self.key, &quoted_key(name));
            report.note(&path, key.span().start);
            match nearest(name, &self.known) {
                Some(known) => {
                    let meant = join(&self.key, known);
                    // Beside the right one it explains nothing.
                    if !report.source.is_written(&meant) {
                        report.meant.push(meant);
                    }
                    report.error(&path, format_args!("unknown key, did you mean `{known}`?"));
                }
                None => {
                    let known = self.known.join(", ");
                    report.error(&path, format_args!("unknown key, known here are: {known}"));
                }
            }
        }
    }
}

/// A value and its key.
pub(super) struct Value<'a> {
    key: String,
    value: &'a DeValue<'a>,
}

/// What kind of thing a value is.
pub(super) enum Shape<'a> {
    Scalar(Value<'a>),
    List(Vec<Value<'a>>),
    Table(Table<'a>),
}

impl<'a> Value<'a> {
    /// The value's key, with its tables.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Says that the value breaks `rule`.
    pub(super) fn wrong(&self, rule: impl fmt::Display, report: &mut Report) {
        report.error(
            &self.key,
            format_args!("{rule}, found {}", found(self.value)),
        );
    }

    /// Says that AxHV cannot do yet what the value asks for.
    pub(super) fn unsupported(&self, hint: &str, report: &mut Report) {
        report.error(&self.key, format_args!("not supported yet: {hint}"));
    }

    /// A whole number in `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        let number = self.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let (first, last) = range.into_inner();
            self.wrong(
                format_args!("must be a whole number from {first} to {last}"),
                report,
            );
        }
        number
    }

    /// A guest-physical address.
    pub(super) fn address(&self, report: &mut Report) -> Option<GuestPhysAddr> {
        let address = self.as_u64().map(GuestPhysAddr::new);
        if address.is_none() {
            self.wrong("must be an address, like 0x8000_0000", report);
        }
        address
    }

    /// A number of bytes: whole, or text like `256MiB`.
    pub(super) fn size(&self, report: &mut Report) -> Option<u64> {
        match self.value {
            DeValue::String(text) => match parse_size(text) {
                Ok(size) => Some(size),
                Err(rule) => {
                    self.wrong(rule, report);
                    None
                }
            },
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                let size = self.as_u64();
                if size.is_none() {
                    self.wrong("must be a size, like \"256MiB\" or 0x1000_0000", report);
                }
                size
            }
        }
    }

    /// Text.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong("must be text in quotes", report);
        }
        text
    }

    /// One of a few words, by its place among them.
    pub(super) fn word<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        report: &mut Report,
    ) -> Option<T> {
        let text = self.value.as_str();
        let meaning = words
            .iter()
            .find(|(word, _)| text == Some(word))
            .map(|&(_, meaning)| meaning);
        if meaning.is_none() {
            let known: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.wrong(format_args!("must be one of {}", known.join(", ")), report);
        }
        meaning
    }

    /// The name of a VM or a device: something that fits a console's prefix and a shell's argument.
    pub(super) fn name(&self, report: &mut Report) -> Option<String> {
        let text = self.text(report)?;
        if is_name(text) {
            Some(text.to_owned())
        } else {
            self.wrong(format_args!("must be {NAME_RULE}"), report);
            None
        }
    }

    /// A list of at most `max` values.
    pub(super) fn list(self, max: usize, report: &mut Report) -> Option<Vec<Self>> {
        let elements = match self.value {
            DeValue::Array(elements) => elements,
            // Most likely a table of a list, begun as any other.
            DeValue::Table(_) => {
                let rule = format_args!(
                    "must be a list of tables, each begun by [[{0}]] and not [{0}]",
                    self.key
                );
                self.wrong(rule, report);
                return None;
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                self.wrong("must be a list in brackets", report);
                return None;
            }
        };
        if elements.len() > max {
            self.wrong(format_args!("must have at most {max} elements"), report);
            return None;
        }
        let element = |(position, element): (usize, &'a toml::Spanned<DeValue<'a>>)| {
            let key = format!("{}[{position}]", self.key);
            report.note(&key, element.span().start);
            Self {
                key,
                value: element.get_ref(),
            }
        };
        Some(elements.iter().enumerate().map(element).collect())
    }

    /// A table.
    pub(super) fn table(self, report: &mut Report) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.value else {
            self.wrong("must be a table", report);
            return None;
        };
        Some(Table {
            key: self.key,
            entries: Some(entries),
            known: Vec::new(),
        })
    }

    /// Whatever it is; a list of at most `max` values. `None`: a longer list.
    pub(super) fn shape(self, max: usize, report: &mut Report) -> Option<Shape<'a>> {
        match self.value {
            DeValue::Array(_) => self.list(max, report).map(Shape::List),
            DeValue::Table(_) => self.table(report).map(Shape::Table),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Some(Shape::Scalar(self)),
        }
    }

    /// Whether it is a list without elements.
    pub(super) fn is_empty_list(&self) -> bool {
        matches!(self.value, DeValue::Array(elements) if elements.is_empty())
    }

    /// Whether it is text.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    fn as_u64(&self) -> Option<u64> {
        let integer = self.value.as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }
}

/// What a name is.
pub(super) const NAME_RULE: &str = "1 to 32 visible ASCII characters, no blanks";

/// Whether `text` can be the name of a VM or a device.
pub(super) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn join(table: &str, name: &str) -> String {
    match table {
        "" => name.to_owned(),
        table => format!("{table}.{name}"),
    }
}

/// A key as a message may repeat it, whatever is in it.
fn quoted_key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= MAX_QUOTED && name.bytes().all(bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or("")),
        None => format!("{text:?}"),
    }
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(elements) => match elements.len() {
            0 => "an empty list".to_owned(),
            len => format!("a list of {len}"),
        },
        DeValue::Table(_) => "a table".to_owned(),
    }
}
