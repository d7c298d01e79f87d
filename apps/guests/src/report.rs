//! Bookkeeping of a self-test: a table of named checks, one line for each, a tally at the end.

use core::fmt::{self, Debug, Display, Formatter, Write};

/// One check of the machine `M`.
pub struct Check<M: 'static> {
    /// Its name in the output: theme, dot, what is checked.
    pub name: &'static str,
    /// Where it holds.
    pub holds: Holds,
    /// What it does.
    pub run: fn(&M) -> Verdict,
}

/// Where a check holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// On every machine that conforms to the specifications.
    Everywhere,
    /// Under a hypervisor; a real machine or its firmware may legitimately differ, and the text
    /// says how.
    AsGuest(&'static str),
}

impl<M> Check<M> {
    /// A check that holds everywhere.
    pub const fn new(name: &'static str, run: fn(&M) -> Verdict) -> Self {
        Self {
            name,
            holds: Holds::Everywhere,
            run,
        }
    }

    /// A check that holds in a virtual machine; `natively` says what is different elsewhere.
    pub const fn as_guest(
        name: &'static str,
        natively: &'static str,
        run: fn(&M) -> Verdict,
    ) -> Self {
        Self {
            name,
            holds: Holds::AsGuest(natively),
            run,
        }
    }
}

/// What came of a check.
pub type Verdict = Result<(), Miss>;

/// Why a check did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The machine does otherwise than it should.
    Wrong(Message),
    /// The machine lacks what the check is about.
    Skip(&'static str),
}

/// Text of bounded length, since there is no heap; what does not fit is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message {
    bytes: [u8; 103],
    len: u8,
}

impl Message {
    /// The formatted text.
    pub fn new(text: fmt::Arguments<'_>) -> Self {
        let mut message = Self {
            bytes: [0; _],
            len: 0,
        };
        // Only fails by being full, and then the text so far is what we want.
        let _ = message.write_fmt(text);
        message
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let mut utf8 = [0; 4];
            let c = c.encode_utf8(&mut utf8).as_bytes();
            let free = &mut self.bytes[usize::from(self.len)..];
            let room = free.get_mut(..c.len()).ok_or(fmt::Error)?;
            room.copy_from_slice(c);
            self.len += c.len() as u8;
        }
        Ok(())
    }
}

impl Display for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?"))
    }
}

impl Debug for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// A number that is printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub usize);

impl Debug for Hex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Holds if `got` equals `expected`; `what` names the thing compared.
pub fn equal<T: Debug + PartialEq>(what: &str, got: T, expected: T) -> Verdict {
    if got == expected {
        Ok(())
    } else {
        wrong(what, &got, &expected)
    }
}

/// Holds if `condition` does; the text says what was got and what should have been.
pub fn holds(what: &str, condition: bool, got: impl Debug, expected: &str) -> Verdict {
    if condition {
        Ok(())
    } else {
        wrong(what, &got, &format_args!("{expected}"))
    }
}

fn wrong(what: &str, got: &dyn Debug, expected: &dyn Debug) -> Verdict {
    Err(Miss::Wrong(Message::new(format_args!(
        "{what}: got {got:?} expected {expected:?}"
    ))))
}

/// A check that the machine gives no occasion for.
pub fn skip(why: &'static str) -> Verdict {
    Err(Miss::Skip(why))
}

/// How many checks went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
}

impl Tally {
    /// Counts a verdict and writes its line: `ok NAME`, `FAIL NAME: …` or `skip NAME: …`.
    pub fn record(&mut self, name: &str, verdict: Verdict, out: &mut dyn Write) -> fmt::Result {
        match verdict {
            Ok(()) => {
                self.passed += 1;
                writeln!(out, "ok {name}")
            }
            Err(Miss::Wrong(message)) => {
                self.failed += 1;
                writeln!(out, "FAIL {name}: {message}")
            }
            Err(Miss::Skip(why)) => writeln!(out, "skip {name}: {why}"),
        }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Hex, Message, Tally, equal, holds, skip};

    #[test]
    fn every_verdict_has_its_line_and_its_count() {
        let (mut tally, mut out) = (Tally::default(), String::new());
        tally
            .record("a.one", equal("cause", 5, 5), &mut out)
            .unwrap();
        tally
            .record("a.two", equal("cause", Hex(16), Hex(255)), &mut out)
            .unwrap();
        tally
            .record("a.three", skip("no vector unit"), &mut out)
            .unwrap();
        tally
            .record("a.four", holds("time", false, 3, "more than 4"), &mut out)
            .unwrap();
        assert_eq!(
            out,
            "ok a.one\n\
             FAIL a.two: cause: got 0x10 expected 0xff\n\
             skip a.three: no vector unit\n\
             FAIL a.four: time: got 3 expected more than 4\n"
        );
        assert_eq!(tally.to_string(), "1 passed, 2 failed");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let message = Message::new(format_args!("{}{}", "x".repeat(101), "éé"));
        assert_eq!(message.to_string(), "x".repeat(101) + "é");
        let message = Message::new(format_args!("{}{}", "x".repeat(102), "é"));
        assert_eq!(message.to_string(), "x".repeat(102));
    }
}
