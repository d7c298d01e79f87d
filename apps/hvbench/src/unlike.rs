//! Whether two runs were the same.

use std::fmt::{self, Display, Formatter};

use system_tests::Emulator;

use crate::Subject;

/// Two runs that should have been the same to the byte, and by what lines they are told apart first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unlike {
    what: String,
    first: String,
    second: String,
    cause: Cause,
}

/// Who made them differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Not known: it has to be found.
    Unknown,
    /// QEMU, which runs the CPUs in turn on one clock. On a host that is busy a turn ends elsewhere now and then, and what one CPU did in the
    /// meantime falls into another's guest or into its hypervisor: an account then divides the same time otherwise. All else is the same.
    Turns,
}

impl Display for Unlike {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match self.cause {
            Cause::Unknown => "NOT REPEATABLE",
            Cause::Turns => "repeatable but for QEMU's turns",
        };
        let Self {
            what,
            first,
            second,
            ..
        } = self;
        write!(f, "{verdict}: {what}: {first:?}, then {second:?}")
    }
}

/// In what the serial lines of two runs differ, if they do.
pub(crate) fn difference(
    subject: Subject,
    what: &str,
    first: &str,
    second: &str,
) -> Option<Unlike> {
    if first == second {
        return None;
    }
    let told = |first: &str, second: &str, cause| {
        Some(Unlike {
            what: what.into(),
            first: first.trim().into(),
            second: second.trim().into(),
            cause,
        })
    };
    let mut by_turns = None;
    let [mut lines, mut others] = [first.lines(), second.lines()];
    loop {
        match (lines.next(), others.next()) {
            (Some(line), Some(other)) if line == other => {}
            (Some(line), Some(other)) if is_by_turns(subject, line, other) => {
                by_turns = by_turns.or(told(line, other, Cause::Turns));
            }
            (None, None) => {
                return by_turns.or(told(
                    "lines that end in one way",
                    "in another",
                    Cause::Unknown,
                ));
            }
            (line, other) => {
                let end = "the end";
                return told(line.unwrap_or(end), other.unwrap_or(end), Cause::Unknown);
            }
        }
    }
}

/// Whether two lines are an account of the same time, divided otherwise.
fn is_by_turns(subject: Subject, line: &str, other: &str) -> bool {
    match subject.emulator() {
        Emulator::Qemu => {}
        // There each CPU has a clock of its own.
        Emulator::Bochs => return false,
    }
    match (account(line), account(other)) {
        // Both parts are rounded down.
        (Some((of, all)), Some((of_other, all_other))) => {
            of == of_other && all.abs_diff(all_other) <= 1
        }
        (_, _) => false,
    }
}

/// Whose account a line is, `… vCPU N time: G us in the guest, H us in the hypervisor`, and all of its time.
fn account(line: &str) -> Option<(&str, u64)> {
    let (of, times) = line.split_once(" time: ")?;
    let (guest, rest) = times.split_once(" us in the guest, ")?;
    let (hypervisor, _) = rest.split_once(" us in the hypervisor")?;
    Some((
        of,
        guest.parse::<u64>().ok()? + hypervisor.parse::<u64>().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::difference;
    use crate::Subject;

    const FIRST: &str = "bench: loop 2.00\nbench: cpuid 831.83\n\
        [axhv]   vCPU 0 time: 900 us in the guest, 100 us in the hypervisor\n";

    fn told(subject: Subject, from: &str, to: &str) -> String {
        let unlike = difference(subject, "rows", FIRST, &FIRST.replace(from, to));
        unlike.map_or_else(String::new, |unlike| unlike.to_string())
    }

    #[test]
    fn runs_that_differ_are_told_by_their_first_difference() {
        assert_eq!(told(Subject::Svm, "", ""), "");
        let text = told(Subject::Svm, "831.83", "831.84");
        assert_eq!(
            text,
            r#"NOT REPEATABLE: rows: "bench: cpuid 831.83", then "bench: cpuid 831.84""#
        );
        let cut = difference(Subject::Svm, "rows", FIRST, "bench: loop 2.00\n").unwrap();
        assert!(
            cut.to_string()
                .contains(r#""bench: cpuid 831.83", then "the end""#)
        );
        let ends = difference(Subject::Svm, "rows", FIRST, FIRST.trim_end()).unwrap();
        assert!(ends.to_string().starts_with("NOT REPEATABLE"));
    }

    #[test]
    fn the_same_time_divided_otherwise_is_the_emulators() {
        let divided = ("900 us in the guest, 100", "911 us in the guest, 88");
        let text = told(Subject::Svm, divided.0, divided.1);
        assert!(
            text.starts_with("repeatable but for QEMU's turns: rows: "),
            "{text}"
        );
        // Not in Bochs, not another time, and not if anything else differs.
        assert!(told(Subject::Vmx, divided.0, divided.1).starts_with("NOT"));
        assert!(told(Subject::Svm, "900 us", "990 us").starts_with("NOT"));
        let both = FIRST.replace(divided.0, divided.1) + "more\n";
        let text = difference(Subject::Svm, "rows", FIRST, &both)
            .unwrap()
            .to_string();
        assert_eq!(text, r#"NOT REPEATABLE: rows: "the end", then "more""#);
    }
}
