//! Lowers budgets: once a figure is accepted, it may not go up again unnoticed.
//!
//! Above its goal a figure is its own budget, a ratio a thousandth more. One that is better than its goal, or has none, keeps a tenth of room, for other
//! compilers, but no more than the goal leaves. The file's comments and order stay; a budget is an entry of one line.

use system_tests::repository;

use crate::{Failed, Figures, Subject};

/// Lowers the subject's budgets in the committed file; says which.
pub(crate) fn in_file(subject: Subject, figures: &Figures) -> Result<Vec<String>, Failed> {
    let path = repository("benches/budgets.toml");
    let failed = |error| Failed(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let (text, lowered) = in_text(subject, &text, figures);
    std::fs::write(&path, text).map_err(failed)?;
    Ok(lowered)
}

fn in_text(subject: Subject, text: &str, figures: &Figures) -> (String, Vec<String>) {
    let mut section = "";
    let (mut new, mut lowered) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name;
        }
        let lower = if section == subject.name() {
            entry(line, figures)
        } else {
            None
        };
        match lower {
            Some((key, from, to)) => {
                let (old, low) = (format!("budget = {from}"), format!("budget = {to}"));
                new.push_str(&line.replacen(&old, &low, 1));
                lowered.push(format!("{key}: {from} to {to}"));
            }
            None => new.push_str(line),
        }
        new.push('\n');
    }
    (new, lowered)
}

/// Of a line that is a budget which can be lowered: its name, the number there, and the new one.
fn entry<'a>(line: &'a str, figures: &Figures) -> Option<(&'a str, &'a str, f64)> {
    let (key, rest) = line.split_once(" = {")?;
    let number_after = |name: &str| {
        let (_, rest) = rest.split_once(name)?;
        rest.split([',', ' ', '}']).next()
    };
    let from = number_after("budget = ")?;
    let goal = number_after("goal = ").and_then(|goal| goal.parse::<f64>().ok());
    let value = figures.value(key.trim())?;
    // Counts are exact. A ratio is estimated: it keeps a thousandth of room.
    let to = if value > 1.0 && value < 2.0 {
        ((value * 1e3).ceil() + 1.0) / 1e3
    } else {
        let reached = value.ceil();
        let roomy = (value * 1.1).ceil();
        goal.map_or(roomy, |goal| roomy.min(goal).max(reached))
    };
    (to < from.parse().ok()?).then_some((key.trim(), from, to))
}

#[cfg(test)]
mod tests {
    use super::in_text;
    use crate::{Figures, Subject};

    const BUDGETS: &str = "# Only ever lowered.\n\
        [riscv64-h]\n\
        cpuid = { budget = 900 }\n\
        [x86_64-svm]\n\
        # What KVM emulates.\n\
        cpuid = { budget = 832, goal = 250 }\n\
        loop = { budget = 2 }\n\
        rdmsr = { goal = 250, budget = 886 }\n\
        wrmsr = { budget = 700, goal = 250 }\n\
        linux-boot-ratio = { budget = 1.02, goal = 1.005 }\n";

    #[test]
    fn budgets_follow_figures_down_and_never_up() {
        let mut figures = Figures::default();
        for (key, value) in [
            ("cpuid", 261.03),
            ("loop", 2.0),
            ("rdmsr", 120.0),
            ("wrmsr", 892.1),
            ("linux-boot-ratio", 1.0113),
        ] {
            figures.add(key, Some(value));
        }
        let (text, lowered) = in_text(Subject::Svm, BUDGETS, &figures);
        let expected = BUDGETS
            .replace("832", "262")
            .replace("886", "132")
            .replace("1.02", "1.013");
        assert_eq!(text, expected);
        assert_eq!(
            lowered,
            [
                "cpuid: 832 to 262",
                "rdmsr: 886 to 132",
                "linux-boot-ratio: 1.02 to 1.013"
            ]
        );
        let (again, lowered) = in_text(Subject::Svm, &text, &figures);
        assert_eq!((again, lowered.len()), (text, 0));
    }
}
