//! Where a key that stands twice stood first, which the TOML parser does not tell.

use alloc::vec::Vec;

/// The line of the first `key`, where line `again` has the second; `None` where it is not at the beginning of a line.
pub(super) fn first_line(text: &str, key: &str, again: u32) -> Option<u32> {
    let mut above: Vec<(u32, &str)> = (1..=again).zip(text.lines().map(str::trim_start)).collect();
    let (_, second) = above.pop()?;
    if let Some(name) = table(second) {
        let first = above
            .into_iter()
            .find(|(_, line)| table(line) == Some(name));
        return first.map(|(line, _)| line);
    }
    let is_key = |line: &str| {
        let rest = line.strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    // A table of another name has keys of its own.
    let mut inside = above
        .into_iter()
        .rev()
        .take_while(|(_, line)| table(line).is_none());
    inside.find(|(_, line)| is_key(line)).map(|(line, _)| line)
}

/// The name of the table that `line` begins.
fn table(line: &str) -> Option<&str> {
    let name = line
        .strip_prefix('[')?
        .trim_start_matches('[')
        .split(']')
        .next()?;
    Some(name.trim())
}
