//! What the hypervisor did for this guest between two moments, by its own account (`docs/exits.md`,
//! "The account").

use core::fmt::{self, Display, Formatter};

/// The hypercall's number.
pub const CALL: u64 = 0x0841_4343;

const EXITS: u64 = 0;
const NAME: u64 = 1;

/// The most kinds of exit that there are.
const KINDS: usize = 32;
/// How the kind is called that the questions themselves are of.
const QUESTIONS: [&str; 2] = ["sbi-account", "hypercall"];

/// The hypervisor does not answer that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// How the hypervisor is asked: a function and its arguments.
type Ask = fn(u64, [u64; 2]) -> Result<u64, Refused>;

/// How often each kind of exit had happened at one moment.
#[derive(Clone, Debug)]
pub struct Exits {
    ask: Ask,
    counts: [u64; KINDS],
    kinds: usize,
}

impl Exits {
    /// At this moment. Each kind is one question, and so an exit itself.
    pub fn now(ask: Ask) -> Self {
        let mut counts = [0; KINDS];
        let mut kinds = 0;
        for (kind, count) in counts.iter_mut().enumerate() {
            match ask(EXITS, [kind as u64, 0]) {
                Ok(answer) => *count = answer,
                Err(Refused) => break,
            }
            kinds += 1;
        }
        Self { ask, counts, kinds }
    }

    /// What has happened since `before`, without the questions of both.
    pub fn since(&self, before: &Self) -> Between {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(before.counts) {
            *count = count.wrapping_sub(before);
        }
        // From one question for their own kind to the next: all of a moment's, and the last of the
        // first moment was refused.
        let questions = self.kinds as u64 + u64::from(self.kinds < KINDS);
        for (kind, count) in counts.iter_mut().enumerate().take(self.kinds) {
            if QUESTIONS.contains(&Name::of(self.ask, kind).text()) {
                *count = count.saturating_sub(questions);
            }
        }
        Between {
            ask: self.ask,
            counts,
        }
    }
}

/// How often each kind of exit happened between two moments.
#[derive(Clone, Debug)]
pub struct Between {
    ask: Ask,
    counts: [u64; KINDS],
}

impl Display for Between {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (kind, &count) in self.counts.iter().enumerate() {
            if count != 0 {
                let name = Name::of(self.ask, kind);
                write!(f, "{separator}{} {count}", name.text())?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

/// The name of a kind, with zeroes behind it.
struct Name([u8; 32]);

impl Name {
    fn of(ask: Ask, kind: usize) -> Self {
        let mut bytes = [0; 32];
        for (part, bytes) in bytes.chunks_exact_mut(8).enumerate() {
            if let Ok(word) = ask(NAME, [kind as u64, part as u64]) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        Self(bytes)
    }

    fn text(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0);
        let bytes = self.0.get(..end.unwrap_or(self.0.len()));
        core::str::from_utf8(bytes.unwrap_or_default()).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const NAMES: [&str; 3] = ["one", "sbi-account", "a-name-of-19-letters"];

    std::thread_local! {
        static COUNTS: RefCell<[u64; 3]> = const { RefCell::new([0; 3]) };
    }

    /// Each test has a hypervisor of its own.
    fn ask(function: u64, [kind, part]: [u64; 2]) -> Result<u64, Refused> {
        COUNTS.with_borrow_mut(|counts| {
            counts[1] += 1;
            let kind = kind as usize;
            let count = *counts.get(kind).ok_or(Refused)?;
            if function == EXITS {
                return Ok(count);
            }
            let mut bytes = [0; 8];
            let chunk = NAMES[kind].as_bytes().chunks(8).nth(part as usize);
            let chunk = chunk.unwrap_or_default();
            bytes[..chunk.len()].copy_from_slice(chunk);
            Ok(u64::from_le_bytes(bytes))
        })
    }

    fn happen(kind: usize, count: u64) {
        COUNTS.with_borrow_mut(|counts| counts[kind] += count);
    }

    #[test]
    fn the_questions_do_not_count() {
        let before = Exits::now(ask);
        let nothing = Exits::now(ask).since(&before);
        assert_eq!(nothing.to_string(), "none");
    }

    #[test]
    fn what_happened_is_named() {
        let before = Exits::now(ask);
        happen(0, 7);
        happen(1, 1);
        happen(2, 3);
        let since = Exits::now(ask).since(&before);
        assert_eq!(
            since.to_string(),
            "one 7, sbi-account 1, a-name-of-19-letters 3"
        );
    }
}
