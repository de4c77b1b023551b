//! Tables for people: aligned columns without borders, as wide as the terminal at most; whole lines where there is none.
//!
//! Invariant: what stands in a cell cannot act on the terminal or begin a line.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table as Cells, presets};
use console::{Term, style};

use crate::cli::output::plain;

/// A column.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Of words.
    Words(&'static str),
    /// Of numbers, which end below each other.
    Numbers(&'static str),
}

/// A table that is being filled.
#[derive(Debug)]
pub struct Table {
    columns: &'static [Column],
    cells: Cells,
    empty: &'static str,
}

/// Between two columns.
const GAP: u16 = 2;

/// Columns of a terminal below which nothing is wrapped: that would hide more than lines that run over.
const WIDTH_MIN: u16 = 40;

impl Table {
    /// An empty one; `empty` is printed where it stays so.
    pub fn new(columns: &'static [Column], empty: &'static str) -> Self {
        let mut cells = Cells::new();
        cells.load_style(presets::NOTHING);
        cells.set_header(columns.iter().map(|column| match column {
            Column::Words(name) | Column::Numbers(name) => *name,
        }));
        Self { columns, cells, empty }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, row: &[String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.cells.add_row(row.iter().map(|cell| plain(cell).into_owned()));
    }

    /// Prints it on standard output.
    pub fn print(self) {
        let terminal = Term::stdout();
        let width = terminal.size_checked().map(|(_, width)| width).filter(|_| terminal.is_term());
        let mut out = io::stdout().lock();
        if self.cells.is_empty() {
            // The reader may have left.
            let _ = writeln!(out, "{}", self.empty);
            return;
        }
        for (at, line) in self.lines(width).into_iter().enumerate() {
            let line = if at == 0 { style(line).bold() } else { style(line) };
            let _ = writeln!(out, "{line}");
        }
    }

    fn lines(mut self, width: Option<u16>) -> Vec<String> {
        match width.filter(|width| *width >= WIDTH_MIN) {
            Some(width) => self.cells.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => self.cells.set_content_arrangement(ContentArrangement::Disabled),
        };
        for (at, (column, cells)) in self.columns.iter().zip(self.cells.column_iter_mut()).enumerate() {
            cells.set_padding((0, GAP));
            // What a line is about is typed again elsewhere: it stays whole, as do numbers.
            if at == 0 || matches!(column, Column::Numbers(_)) {
                cells.set_constraint(ColumnConstraint::ContentWidth);
            }
            if let Column::Numbers(_) = column {
                cells.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.cells.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::Words("id"), Column::Numbers("bytes"), Column::Words("path")];

    fn table() -> Table {
        let mut table = Table::new(&COLUMNS, "none");
        for (id, bytes, path) in
            [("pc-1", "7", "a"), ("a-long-name", "1234", "Z\u{fc}rich"), ("x\x1b[2J\ny", "1", "b c")]
        {
            table.row(&[id.to_owned(), bytes.to_owned(), path.to_owned()]);
        }
        table
    }

    #[test]
    fn columns_are_aligned_and_no_cell_acts_or_begins_a_line() {
        let lines = table().lines(None);
        let escaped = "x\\u001b[2J\\u000ay";
        let at = escaped.len();
        assert_eq!(
            lines,
            [
                format!("{:at$}  bytes  path", "id"),
                format!("{:at$}      7  a", "pc-1"),
                format!("{:at$}   1234  Z\u{fc}rich", "a-long-name"),
                format!("{escaped}      1  b c"),
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_is_not_overrun() {
        let mut table = table();
        table.row(&[
            "y".to_owned(),
            "2".to_owned(),
            "many words that do not fit beside the others".to_owned(),
        ]);
        let lines = table.lines(Some(50));
        assert!(lines.len() > 5 && lines.iter().all(|line| line.chars().count() <= 50), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("a-long-name  ")), "names stay whole: {lines:#?}");
    }
}
