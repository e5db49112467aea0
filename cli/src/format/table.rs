//! Aligned columns. Widths are those on a terminal: wide characters count as two, colour codes as none.

use console::measure_text_width;

const GAP: &str = "  ";

/// A table, the heading first: `NAME | > SIZE | STATE` are the headings, numbers under `>` are aligned right. `cells`
/// gives the cells of each row.
pub(crate) fn table<T, const N: usize>(
    headings: &str,
    rows: impl IntoIterator<Item = T>,
    cells: impl FnMut(T) -> [String; N],
) -> String {
    let headings: Vec<&str> = headings.split('|').map(str::trim).collect();
    let mut lines = vec![headings.iter().map(|it| it.trim_start_matches(['>', ' ']).to_owned()).collect()];
    lines.extend(rows.into_iter().map(cells).map(Vec::from));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line: &Vec<String>| line.get(column));
        cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
    };
    let columns: Vec<_> =
        headings.iter().enumerate().map(|(at, it)| (it.starts_with('>'), width(at))).collect();
    let aligned = |(cell, (right, width)): (&String, &(bool, usize))| {
        let fill = " ".repeat(width.saturating_sub(measure_text_width(cell)));
        if *right { format!("{fill}{cell}") } else { format!("{cell}{fill}") }
    };
    let line = |cells: &Vec<String>| {
        cells.iter().zip(&columns).map(aligned).collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
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
        let rows =
            [["report.pdf", "1.5 KiB", "present"], ["写真.jpg", "300.0 MiB", "\u{1b}[31mfailed\u{1b}[0m"]];
        let table = table("NAME | > SIZE | STATE", rows, |row| row.map(str::to_owned));
        insta::assert_snapshot!(table.replace('\u{1b}', "ESC"));
    }

    #[test]
    fn names_cannot_break_a_row() {
        assert_eq!(plain("a\nb\u{1b}[2Jc"), "a?b?[2Jc");
    }
}
