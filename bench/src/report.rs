//! The results, as Markdown: one table of ratios, followed by explanations.

use std::fmt::Write as _;

/// How a ratio is compared with a goal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The ratio must be at least this.
    AtLeast(f64),
    /// The ratio must be at most this.
    AtMost(f64),
}

impl Goal {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(goal) => ratio >= goal,
            Self::AtMost(goal) => ratio <= goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {goal}"),
            Self::AtMost(goal) => format!("≤ {goal}"),
        }
    }
}

#[derive(Debug)]
struct Row {
    what: String,
    ours: String,
    other: String,
    ratio: String,
    goal: String,
    holds: bool,
}

/// Collects rows and notes during the benchmark.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a comparison.
    pub(crate) fn compare(
        &mut self,
        what: &str,
        ours: String,
        other: String,
        (ratio, shown): (f64, String),
        goal: Goal,
    ) {
        let row = Row {
            what: what.to_owned(),
            ours,
            other,
            ratio: shown,
            goal: goal.text(),
            holds: goal.holds(ratio),
        };
        eprintln!(
            "  {}: {} against {}, ratio {} (goal {})",
            row.what, row.ours, row.other, row.ratio, row.goal
        );
        self.rows.push(row);
    }

    /// Adds a note that explains a comparison.
    pub(crate) fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    /// Whether every goal was met.
    pub(crate) fn all_hold(&self) -> bool {
        self.rows.iter().all(|row| row.holds)
    }

    /// The whole report.
    pub(crate) fn markdown(&self, facts: &[String]) -> String {
        let mut text =
            "| measurement | Nightferry | baseline | ratio | goal | met |\n| --- | --- | --- | --- | --- | --- |\n"
                .to_owned();
        for row in &self.rows {
            let holds = if row.holds { "yes" } else { "**no**" };
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {holds} |",
                row.what, row.ours, row.other, row.ratio, row.goal
            );
        }
        text.push('\n');
        for line in self.notes.iter().chain(facts) {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}
