//! Bookkeeping of a self-test: a table of named checks, one line for each, a tally at the end.

use core::fmt::{self, Debug, Display, Formatter, Write};

/// One check of the machine `M`.
pub struct Check<M: 'static> {
    name: &'static str,
    holds: Holds,
    run: fn(&M) -> Verdict,
}

/// Where a check holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// On every machine that conforms to the specifications.
    Everywhere,
    /// Under a hypervisor; a machine without one may differ, and the text says how.
    AsGuest(&'static str),
}

/// What the checks run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A hypervisor.
    Hypervisor,
    /// The machine itself.
    Native,
}

impl<M> Check<M> {
    /// A check that holds on every machine that conforms to the specifications. Its name is made
    /// of a theme, a dot, and what is checked.
    pub const fn new(name: &'static str, run: fn(&M) -> Verdict) -> Self {
        Self {
            name,
            holds: Holds::Everywhere,
            run,
        }
    }

    /// A check that holds under a hypervisor; `natively` says how other machines may differ.
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
///
/// # Errors
/// [`Miss::Wrong`] if it does not.
pub fn equal<T: Debug + PartialEq>(what: impl Display, got: T, expected: T) -> Verdict {
    holds(what, got == expected, &got, &expected)
}

/// Holds if `got` is one of `expected`.
///
/// # Errors
/// [`Miss::Wrong`] if it is none.
pub fn one_of<T: Debug + PartialEq>(
    what: impl Display,
    got: T,
    expected: impl Iterator<Item = T> + Clone,
) -> Verdict {
    let found = expected.clone().any(|value| value == got);
    holds(what, found, &got, OneOf(expected))
}

/// Holds if `condition` does, which was computed from `got`; `expected` says what it means.
///
/// # Errors
/// [`Miss::Wrong`] if it does not.
pub fn holds(
    what: impl Display,
    condition: bool,
    got: impl Debug,
    expected: impl Debug,
) -> Verdict {
    if condition {
        return Ok(());
    }
    let text = format_args!("{what}: got {got:?} expected {expected:?}");
    Err(Miss::Wrong(Message::new(text)))
}

/// Values of which one is expected.
struct OneOf<I>(I);

impl<I: Iterator<Item: Debug> + Clone> Debug for OneOf<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, value) in self.0.clone().enumerate() {
            write!(f, "{}{value:?}", if n == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

/// Words in place of a value, for what is expected.
pub struct Words(pub &'static str);

impl Debug for Words {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A verdict in a check of several cases; a miss names the case.
///
/// # Errors
/// That of `result`, with the name before its message.
pub fn case<T>(name: &str, result: Result<T, Miss>) -> Result<T, Miss> {
    result.map_err(|miss| match miss {
        Miss::Wrong(message) => Miss::Wrong(Message::new(format_args!("{name}: {message}"))),
        Miss::Skip(why) => Miss::Skip(why),
    })
}

/// A check that the machine gives no occasion for.
///
/// # Errors
/// Always [`Miss::Skip`].
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
    /// Checks of what the machine does not have.
    pub skipped: usize,
}

impl Tally {
    /// Counts a verdict and writes its line: `ok NAME`, `FAIL NAME: …` or `skip NAME: …`.
    fn record(&mut self, name: &str, verdict: Verdict, out: &mut dyn Write) -> fmt::Result {
        match verdict {
            Ok(()) => {
                self.passed += 1;
                writeln!(out, "ok {name}")
            }
            Err(Miss::Wrong(message)) => {
                self.failed += 1;
                writeln!(out, "FAIL {name}: {message}")
            }
            Err(Miss::Skip(why)) => {
                self.skipped += 1;
                writeln!(out, "skip {name}: {why}")
            }
        }
    }
}

/// Runs the checks of all themes whose names begin with `only`, with `prepare` before each, and writes a line for each.
pub fn run<M>(
    themes: &[&[Check<M>]],
    machine: &M,
    host: Host,
    only: &str,
    prepare: impl Fn(&M),
    out: &mut dyn Write,
) -> Tally {
    let mut tally = Tally::default();
    let all = themes.iter().copied().flatten();
    for check in all.filter(|check| check.name.starts_with(only)) {
        prepare(machine);
        let verdict = match (check.holds, host) {
            (Holds::AsGuest(natively), Host::Native) => skip(natively),
            (Holds::AsGuest(_), Host::Hypervisor) | (Holds::Everywhere, _) => (check.run)(machine),
        };
        // The console never fails; a line less would not change the tally.
        let _ = tally.record(check.name, verdict, out);
    }
    tally
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Hex, Host, Message, Words, case, equal, holds, one_of, run, skip};

    const THEMES: &[&[Check<u8>]] = &[
        &[
            Check::new("a.equal", |&m| equal("cause", m, 5)),
            Check::new("a.hex", |_| equal("cause", Hex(16), Hex(255))),
        ],
        &[
            Check::new("b.absent", |_| skip("no vector unit")),
            Check::new("b.holds", |_| holds("time", false, 3, Words("more than 4"))),
            Check::new("b.case", |_| {
                case("lw", one_of("cause", 1, [5, 7].into_iter()))
            }),
            Check::as_guest("b.guest", "differs", |_| Ok(())),
        ],
    ];

    #[test]
    fn every_verdict_has_its_line_and_its_count() {
        let mut out = String::new();
        let tally = run(THEMES, &5, Host::Native, "", |_| (), &mut out);
        assert_eq!(
            out,
            "ok a.equal\n\
             FAIL a.hex: cause: got 0x10 expected 0xff\n\
             skip b.absent: no vector unit\n\
             FAIL b.holds: time: got 3 expected more than 4\n\
             FAIL b.case: lw: cause: got 1 expected 5 or 7\n\
             skip b.guest: differs\n"
        );
        assert_eq!(tally.to_string(), "1 passed, 3 failed, 2 skipped");
    }

    #[test]
    fn a_guest_is_checked_for_more() {
        let mut out = String::new();
        let tally = run(THEMES, &5, Host::Hypervisor, "", |_| (), &mut out);
        assert!(out.ends_with("ok b.guest\n"));
        assert_eq!(tally.to_string(), "2 passed, 3 failed, 1 skipped");
    }

    #[test]
    fn some_checks_run_alone() {
        let mut out = String::new();
        let tally = run(THEMES, &5, Host::Native, "a.e", |_| (), &mut out);
        assert_eq!(out, "ok a.equal\n");
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let message = Message::new(format_args!("{}{}", "x".repeat(101), "éé"));
        assert_eq!(message.to_string(), "x".repeat(101) + "é");
        let message = Message::new(format_args!("{}{}", "x".repeat(102), "é"));
        assert_eq!(message.to_string(), "x".repeat(102));
    }
}
