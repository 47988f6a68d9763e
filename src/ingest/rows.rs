//! The rows of a log as they came, one after the other, for whoever makes something else of them
//! than histories at once.

use super::source::Format;
use super::{Columns, Example, IngestError, Source, csv_log, ndjson_log, parquet_log};
use habitus_engine::domain::{RawEvent, Rejection};
use std::borrow::Cow;

/// What one record of a file became.
pub struct Row<'r> {
    /// Its place among the rows of its source, counted from 1. Rows that have no fields count;
    /// headers and blank lines do not. It is the same at every reading of the same bytes.
    pub number: u64,
    /// Its fields, or why it has none: [`Rejection::Ragged`] or [`Rejection::NotUtf8`].
    pub raw: Result<&'r RawEvent<'r>, Rejection>,
    /// Makes the row fit to be shown.
    pub example: &'r dyn Fn() -> Example,
}

/// Shows the rows of one source in the order of the file. `progress` hears, from time to time, how
/// many bytes have been read (of a compressed file: compressed ones).
///
/// That a file is damaged further down, never closes a quotation mark or has no line with a column
/// that every log needs shows itself only there, when the rows before have been visited.
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty, or lacks a mapped column, and the first
/// error of `visit`, which ends the reading.
pub fn each_row<E: From<IngestError>>(
    source: &Source,
    columns: &Columns,
    visit: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), E> {
    let mut visitor = Numbered { n_rows: 0, visit };
    match source.format() {
        Format::Csv => csv_log::read(source, columns, &mut visitor, progress),
        Format::Ndjson => ndjson_log::read(source, columns, &mut visitor, progress),
        Format::Parquet(path) => parquet_log::read_in_order(path, columns, &mut visitor, progress),
    }
}

/// The customer of a row, an integer written into `buffer`; `None` where the row names none. Blanks
/// around an id are an accident of the file, as around any other field.
pub fn customer_of<'b>(raw: &RawEvent<'b>, buffer: &'b mut itoa::Buffer) -> Option<Cow<'b, str>> {
    raw.customer.map(|id| id.text_in(buffer)).filter(|id| !id.is_empty())
}

/// Whoever is shown the rows of a file by its reader.
pub(super) trait RowVisitor {
    type Error: From<IngestError>;

    /// Sees the next row: its fields, or why it has none. The example is made where it is called
    /// for.
    ///
    /// # Errors
    /// Whatever ends the reading.
    fn visit(
        &mut self,
        raw: Result<&RawEvent<'_>, Rejection>,
        example: impl Fn() -> Example,
    ) -> Result<(), Self::Error>;
}

/// Counts rows while it hands them on.
struct Numbered<'v, E> {
    n_rows: u64,
    visit: &'v mut dyn FnMut(Row<'_>) -> Result<(), E>,
}

impl<E: From<IngestError>> RowVisitor for Numbered<'_, E> {
    type Error = E;

    fn visit(
        &mut self,
        raw: Result<&RawEvent<'_>, Rejection>,
        example: impl Fn() -> Example,
    ) -> Result<(), E> {
        self.n_rows += 1;
        (self.visit)(Row { number: self.n_rows, raw, example: &example })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{columns, gzip, parquet, zstd};
    use super::super::parquet_table::WINDOW_ROWS;
    use super::*;
    use habitus_engine::domain::RawValue;
    use polars::prelude::{NamedFrom, Series};
    use std::fs;
    use std::path::Path;

    /// An error that is not this room's.
    #[derive(Debug)]
    enum Stop {
        Ingest(IngestError),
        Here(u64),
    }

    impl From<IngestError> for Stop {
        fn from(error: IngestError) -> Stop {
            Stop::Ingest(error)
        }
    }

    /// Number and line of every row, with its customer or why it has no fields.
    type Seen = Vec<(u64, u64, Result<Option<String>, Rejection>)>;

    fn rows(source: &Source) -> Result<Seen, IngestError> {
        let mut seen = Seen::new();
        let visit = &mut |row: Row<'_>| {
            let customer =
                row.raw.map(|raw| customer_of(raw, &mut itoa::Buffer::new()).map(Cow::into_owned));
            let example = (row.example)();
            assert_eq!(example.file, source.name());
            seen.push((row.number, example.line, customer));
            Ok::<_, IngestError>(())
        };
        each_row(source, &columns(), visit, &mut |_| ()).map(|()| seen)
    }

    fn source(path: &Path) -> Source {
        Source::Path(path.to_owned())
    }

    /// A file of as many rows, whose customers are the numbers of their rows.
    fn numbered_parquet(path: &Path, n_rows: u64, rows_per_group: Option<usize>) {
        let columns = vec![
            Series::new("id".into(), (1..=n_rows).collect::<Vec<u64>>()),
            Series::new("date".into(), vec!["1997-01-01"; n_rows as usize]),
            Series::new("amount".into(), vec![5i64; n_rows as usize]),
        ];
        parquet(path, columns, rows_per_group);
    }

    #[test]
    fn rows_of_text_come_in_order_with_those_that_have_no_fields() {
        const CSV: &[u8] =
            b"id,date,amount\n b ,1997-01-02,5\na\n\n\xff,1997-01-01,5\n ,someday,\na,2999-01-01,5\n";
        const NDJSON: &[u8] = b"{\"id\":\" b \",\"date\":\"1997-01-02\",\"amount\":5}\n[]\n\n\
            {\"id\":\"\xff\"}\n{\"date\":\"someday\"}\n{\"id\":\"a\",\"date\":\"2999-01-01\"}\n";
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let customer = |id: &str| Ok(Some(id.to_owned()));
        // No rule has looked at the rows: what nobody could read and what lies in the future is
        // there too.
        let expected = [
            customer("b"),
            Err(Rejection::Ragged),
            Err(Rejection::NotUtf8),
            Ok(None),
            customer("a"),
        ];
        for (name, bytes, first) in [
            ("a.csv", CSV.to_vec(), 1),
            ("a.csv.gz", gzip(CSV), 1),
            ("a.ndjson", NDJSON.to_vec(), 0),
            ("a.jsonl.zst", zstd(NDJSON), 0),
        ] {
            fs::write(path(name), bytes).unwrap();
            let seen = rows(&source(&path(name))).unwrap();
            let numbers: Vec<u64> = seen.iter().map(|(number, _, _)| *number).collect();
            assert_eq!(numbers, [1, 2, 3, 4, 5], "{name}");
            let found: Vec<_> = seen.iter().map(|(_, _, customer)| customer.clone()).collect();
            assert_eq!(found, expected, "{name}");
            // The reader of CSV takes blank lines to the row after them.
            let third = if first == 1 { 3 } else { 4 };
            let lines: Vec<u64> = seen.iter().map(|(_, line, _)| line - first).collect();
            assert_eq!(lines, [1, 2, third, 5, 6], "{name}");
        }
        let bytes = Source::Bytes { name: "log.csv".into(), bytes: CSV.into() };
        assert_eq!(rows(&bytes).unwrap(), rows(&source(&path("a.csv"))).unwrap());
    }

    #[test]
    fn rows_of_parquet_come_in_order_over_windows_and_groups() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        for (n_rows, rows_per_group) in [(100, Some(3)), (2 * WINDOW_ROWS as u64 + 5, None)] {
            numbered_parquet(&path, n_rows, rows_per_group);
            let seen = rows(&source(&path)).unwrap();
            assert_eq!(seen.len() as u64, n_rows);
            for (row, number) in seen.iter().zip(1..) {
                assert_eq!(*row, (number, number, Ok(Some(number.to_string()))));
            }
        }
    }

    #[test]
    fn fields_and_examples_are_as_they_came() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        numbered_parquet(&path, 5, Some(2));
        let mut examples = Vec::new();
        let visit = &mut |row: Row<'_>| {
            let raw = row.raw.unwrap();
            assert_eq!(raw.customer, Some(RawValue::Integer(row.number as i64)));
            assert_eq!((raw.amount, raw.kind), (Some(RawValue::Integer(5)), None));
            examples.push((row.example)().to_string());
            Ok::<_, IngestError>(())
        };
        each_row(&source(&path), &columns(), visit, &mut |_| ()).unwrap();
        assert_eq!(examples[3], format!("{}, line 4: 4,1997-01-01,5", path.display()));
    }

    #[test]
    fn progress_ends_at_the_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        numbered_parquet(&path("a.parquet"), 5, Some(2));
        fs::write(path("a.csv"), "id,date,amount\n1,1997-01-01,5\n").unwrap();
        for name in ["a.parquet", "a.csv"] {
            let (source, mut told) = (source(&path(name)), 0);
            let visit = &mut |_: Row<'_>| Ok::<_, IngestError>(());
            each_row(&source, &columns(), visit, &mut |bytes| told = bytes).unwrap();
            assert_eq!(Some(told), source.size(), "{name}");
        }
    }

    #[test]
    fn an_error_of_the_visitor_ends_the_reading() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let row = "{\"id\":1,\"date\":\"1997-01-01\",\"amount\":5}\n";
        fs::write(path("a.csv"), format!("id,date,amount\n{}", "1,1997-01-01,5\n".repeat(9)))
            .unwrap();
        fs::write(path("a.ndjson"), row.repeat(9)).unwrap();
        numbered_parquet(&path("a.parquet"), 9, Some(2));
        for name in ["a.csv", "a.ndjson", "a.parquet"] {
            let mut n_seen = 0;
            let visit = &mut |row: Row<'_>| {
                n_seen += 1;
                if row.number == 4 { Err(Stop::Here(row.number)) } else { Ok(()) }
            };
            let stopped = each_row(&source(&path(name)), &columns(), visit, &mut |_| ());
            assert!(matches!(stopped, Err(Stop::Here(4))), "{name}: {stopped:?}");
            assert_eq!(n_seen, 4, "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_log_is_refused_as_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let refused = |name: &str| {
            let visit = &mut |_: Row<'_>| Ok(());
            match each_row(&source(&path(name)), &columns(), visit, &mut |_| ()) {
                Err(Stop::Ingest(error)) => error,
                other => panic!("{name}: {other:?}"),
            }
        };
        assert!(matches!(refused("gone.csv"), IngestError::Io { .. }));
        for name in ["a.csv", "a.ndjson", "a.parquet"] {
            fs::write(path(name), "").unwrap();
            assert!(matches!(refused(name), IngestError::Empty { .. }), "{name}");
        }
        parquet(&path("a.parquet"), vec![Series::new("id".into(), &["1"][..])], None);
        fs::write(path("a.csv"), "id\n1\n").unwrap();
        fs::write(path("a.ndjson"), "{\"id\":1}\n").unwrap();
        for name in ["a.csv", "a.ndjson", "a.parquet"] {
            assert!(matches!(refused(name), IngestError::MissingColumn { .. }), "{name}");
        }
        fs::write(path("a.csv"), "id,date,amount\n1,1997-01-01,\"5\n2,1997-01-02,5\n").unwrap();
        assert!(matches!(refused("a.csv"), IngestError::UnclosedQuote { line: 2, .. }));
    }

    #[test]
    fn a_customer_is_what_stands_between_the_blanks() {
        for (field, expected) in [
            (None, None),
            (Some(RawValue::Text(" \t")), None),
            (Some(RawValue::Text(" a b\u{a0}")), Some("a b")),
            (Some(RawValue::Integer(-7)), Some("-7")),
            (Some(RawValue::Float(7.5)), Some("7.5")),
        ] {
            let raw = RawEvent { customer: field, ..RawEvent::default() };
            assert_eq!(customer_of(&raw, &mut itoa::Buffer::new()).as_deref(), expected);
        }
    }
}
