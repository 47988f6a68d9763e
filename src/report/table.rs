//! A table that reads well on a terminal and is Markdown all the same.

use std::fmt;

/// Rows under headers. Columns whose cells look like numbers are set flush right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows yet.
    pub fn new(headers: &[&str]) -> Table {
        Table {
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing stay empty.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.headers.len(), String::new());
        self.rows.push(cells);
    }

    fn is_numeric(&self, column: usize) -> bool {
        let numeric = |cell: &String| {
            cell == "-" || cell.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        };
        !self.rows.is_empty() && self.rows.iter().all(|row| numeric(&row[column]))
    }
}

impl fmt::Display for Table {
    /// Lines, each ended by a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = 0..self.headers.len();
        let cells = |column: usize| {
            std::iter::once(&self.headers[column])
                .chain(self.rows.iter().map(move |row| &row[column]))
        };
        let widths: Vec<usize> = columns
            .clone()
            .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0).max(3))
            .collect();
        let numeric: Vec<bool> = columns.map(|column| self.is_numeric(column)).collect();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for ((cell, width), right) in row.iter().zip(&widths).zip(&numeric) {
                match right {
                    true => write!(f, "| {cell:>width$} ")?,
                    false => write!(f, "| {cell:<width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.headers)?;
        for (width, right) in widths.iter().zip(&numeric) {
            match right {
                true => write!(f, "| {}: ", "-".repeat(width - 1))?,
                false => write!(f, "| {} ", "-".repeat(*width))?,
            }
        }
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// A number with so many decimals; `-` where there is none.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// A share as a percentage with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// An amount in major units.
pub fn money(amount: f64) -> String {
    format!("{amount:.2}")
}
