//! The table that people read.

use crate::{
    Expectations, Figures, Subject,
    expectation::{Budget, PeerFigure},
    record::Record,
};

const HEAD: [&str; 8] = [
    "row",
    "AxHV",
    "best peer",
    "ratio",
    "goal",
    "budget",
    "",
    "change",
];

/// A peer's guest has a clock that starts with it, so this says nothing there.
const SINCE_POWER_ON: &str = "power-on";

/// The whole table; without changes where nothing was committed before. A peer that was measured in this run stands in the place of those that are on
/// record.
pub(crate) fn render(
    subject: Subject,
    figures: &Figures,
    measured_peer: Option<&Figures>,
    expectations: &Expectations,
    committed: Option<&Record>,
) -> String {
    let rows = figures.iter().map(|figure| {
        let key = figure.key.as_str();
        let peer = match measured_peer {
            Some(_) if key == SINCE_POWER_ON => None,
            Some(peer) => peer.value(key).map(|value| PeerFigure {
                name: "KVM, here".into(),
                value,
            }),
            None => expectations.best_peer(key),
        };
        let before = committed.and_then(|record| record.value(key));
        row(
            key,
            figure.value,
            peer.as_ref(),
            expectations.budget(key),
            before,
        )
    });
    let mut lines: Vec<[String; 8]> = [HEAD.map(String::from)].into_iter().chain(rows).collect();
    if committed.is_none() {
        for [.., change] in &mut lines {
            change.clear();
        }
    }
    let widths: [usize; 8] = std::array::from_fn(|column| {
        let width = |line: &[String; 8]| line[column].chars().count();
        lines.iter().map(width).max().unwrap_or(0)
    });
    let mut text = format!(
        "{}: instructions where the row says no unit\n",
        subject.name()
    );
    for line in &lines {
        let cells = line
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(n, (cell, width))| match n {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(
    key: &str,
    value: Option<f64>,
    peer: Option<&PeerFigure>,
    budget: Option<Budget>,
    before: Option<f64>,
) -> [String; 8] {
    let ratio = value.zip(peer).map(|(value, peer)| value / peer.value);
    let mark = match (value, budget) {
        (_, None) => "",
        (Some(value), Some(Budget { budget, goal })) if value <= budget => {
            if goal.is_some_and(|goal| value > goal) {
                "✓ over goal"
            } else {
                "✓"
            }
        }
        (_, Some(_)) => "✗",
    };
    [
        key.into(),
        value.map_or("absent".into(), number),
        peer.map_or(String::new(), |peer| {
            format!("{} {}", peer.name, number(peer.value))
        }),
        ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
        budget
            .and_then(|budget| budget.goal)
            .map_or(String::new(), number),
        budget.map_or(String::new(), |budget| number(budget.budget)),
        mark.into(),
        change(value, before),
    ]
}

/// Since the committed result.
fn change(value: Option<f64>, before: Option<f64>) -> String {
    match (value, before) {
        (Some(value), Some(before)) if number(value) == number(before) => "=".into(),
        (Some(value), Some(before)) => {
            let sign = if value > before { "+" } else { "−" };
            format!("{sign}{}", number((value - before).abs()))
        }
        (Some(_), None) => "new".into(),
        (None, Some(_)) => "gone".into(),
        (None, None) => String::new(),
    }
}

/// With as many digits as say something: ratios are near 1, counts in hundredths.
fn number(value: f64) -> String {
    let digits = if value.fract() == 0.0 {
        0
    } else if value < 2.0 {
        4
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::{change, number, render, row};
    use crate::{
        Expectations, Figures, Subject,
        expectation::{Budget, PeerFigure},
    };

    fn cells(value: Option<f64>) -> String {
        let bao = PeerFigure {
            name: "Bao".into(),
            value: 284.0,
        };
        let budget = Budget {
            budget: 350.0,
            goal: Some(220.0),
        };
        row("mmio-read", value, Some(&bao), Some(budget), Some(348.13)).join("|")
    }

    #[test]
    fn a_row_tells_ratio_budget_and_change() {
        assert_eq!(
            cells(Some(348.13)),
            "mmio-read|348.13|Bao 284|1.23|220|350|✓ over goal|="
        );
        assert_eq!(
            cells(Some(142.0)),
            "mmio-read|142|Bao 284|0.50|220|350|✓|−206.13"
        );
        assert_eq!(
            cells(Some(351.0)),
            "mmio-read|351|Bao 284|1.24|220|350|✗|+2.87"
        );
        assert_eq!(cells(None), "mmio-read|absent|Bao 284||220|350|✗|gone");
    }

    #[test]
    fn a_row_that_nothing_is_known_of() {
        let cells = row("new", Some(1.0043), None, None, None);
        assert_eq!(cells.join("|"), "new|1.0043||||||new");
        assert_eq!(change(None, None), "");
        assert_eq!(number(12345.678), "12345.68");
    }

    #[test]
    fn a_peer_measured_here_goes_before_those_on_record() {
        let mut figures = Figures::default();
        figures.add("cpuid", Some(100.0));
        figures.add("rdmsr", Some(100.0));
        figures.add("power-on", Some(1e8));
        let mut peer = Figures::default();
        peer.add("power-on", Some(5e6));
        peer.add("cpuid", Some(2711.0));
        let none = Expectations::default();
        let text = render(Subject::Svm, &figures, Some(&peer), &none, None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].starts_with("cpuid") && lines[2].contains("KVM, here 2711"));
        assert!(!lines[3].contains("KVM") && !lines[4].contains("KVM"));
    }
}
