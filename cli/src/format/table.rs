//! Aligned columns. Widths are those on a terminal: wide characters count as two, colour codes as none.

use console::measure_text_width;

const GAP: &str = "  ";

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table {
    /// Whether each column is aligned right, as numbers are.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows: `NAME | > SIZE | STATE` are its headings, numbers under `>`.
    pub(crate) fn new(headings: &str) -> Self {
        let headings: Vec<&str> = headings.split('|').map(str::trim).collect();
        Self {
            right: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            rows: vec![
                headings.iter().map(|heading| heading.trim_start_matches(['>', ' ']).to_owned()).collect(),
            ],
        }
    }

    /// Adds a row with one cell per column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, the heading first.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
            })
            .collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells: Vec<String> = row
            .iter()
            .zip(&self.right)
            .zip(widths)
            .map(|((cell, right), width)| {
                let fill = " ".repeat(width.saturating_sub(measure_text_width(cell)));
                if *right { format!("{fill}{cell}") } else { format!("{cell}{fill}") }
            })
            .collect();
        cells.join(GAP).trim_end().to_owned()
    }
}

/// Lines of `label  value`, with aligned values.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| measure_text_width(label)).max().unwrap_or(0);
    pairs.iter().map(|(label, value)| format!("{label:width$}{GAP}{value}")).collect::<Vec<_>>().join("\n")
}

/// External text, on one line and without control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_the_terminal_shows() {
        let mut table = Table::new("NAME | > SIZE | STATE");
        table.row(["report.pdf".to_owned(), "1.5 KiB".to_owned(), "present".to_owned()]);
        table.row(["写真.jpg".to_owned(), "300.0 MiB".to_owned(), "\u{1b}[31mfailed\u{1b}[0m".to_owned()]);
        insta::assert_snapshot!(table.render().replace('\u{1b}', "ESC"));
    }

    #[test]
    fn names_cannot_break_a_row() {
        assert_eq!(plain("a\nb\u{1b}[2Jc"), "a?b?[2Jc");
    }
}
