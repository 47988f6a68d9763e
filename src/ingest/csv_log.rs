//! A CSV log, record by record, so that memory holds one row and a bad row costs only itself.
//!
//! The exception is a quotation mark that opens a field and is never closed: by the rules of CSV
//! the lines up to the next mark are then one row. Where that row is rejected its example says how
//! many lines it took, and where it took all lines to the end of the file the log is refused: it
//! would otherwise lose most of itself behind a single rejection.

use super::columns::Layout;
use super::rows::RowVisitor;
use super::stream::{self, BUFFER_BYTES};
use super::{Columns, Example, IngestError, Source, excerpt};
use csv::{ByteRecord, Position, ReaderBuilder};
use std::io::{self, BufRead, BufReader};

/// Shows the rows of one source, in their order.
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty, or lacks a mapped column, and the first
/// error of the visitor.
pub(super) fn read<V: RowVisitor>(
    source: &Source,
    columns: &Columns,
    visitor: &mut V,
    progress: &mut dyn FnMut(u64),
) -> Result<(), V::Error> {
    records(
        source,
        progress,
        |header, file| columns.locate_in(header, file),
        |layout: &Layout, record, example| match layout.raw(record) {
            Ok(raw) => visitor.visit(Ok(&raw), example).map(|()| true),
            Err(rejection) => visitor.visit(Err(rejection), example).map(|()| false),
        },
    )
}

/// Reads one source record by record. `locate` sees the header and the name of the file; `take`
/// sees every other record and says whether it has the form of the header.
///
/// # Errors
/// [`IngestError`] where the file cannot be read or is empty, and the first error of the functions.
pub(super) fn records<L, E: From<IngestError>>(
    source: &Source,
    progress: &mut dyn FnMut(u64),
    locate: impl FnOnce(&ByteRecord, &str) -> Result<L, IngestError>,
    mut take: impl FnMut(&L, &ByteRecord, &dyn Fn() -> Example) -> Result<bool, E>,
) -> Result<(), E> {
    let file = source.name();
    let failed = |source: io::Error| IngestError::Io { file: file.clone(), source };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, stream::open(source, progress)?);
    let has_crlf = ends_lines_with_crlf(input.fill_buf().map_err(failed)?);
    // The header is read as an ordinary record, because an empty file must be told from one that
    // holds nothing but a header. The reader itself skips a byte order mark.
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(|error| failed(error.into()))? {
        return Err(IngestError::Empty { file: file.clone() }.into());
    }
    let layout = locate(&record, &file)?;
    let mut open_quote = None;
    while reader.read_byte_record(&mut record).map_err(|error| failed(error.into()))? {
        let (line, n_lines) = (line_of(&record, has_crlf), lines_in(&record));
        let example = || Example {
            file: file.clone(),
            line,
            text: match n_lines {
                1 => excerpt::row(&record),
                lines => format!("[{lines} lines] {}", excerpt::row(&record)),
            },
        };
        // Should this be the last row, then only an open quotation mark can have taken several lines
        // into a row that does not fit the header, or that ends in a line end.
        let ends_open = record.as_slice().ends_with(b"\n");
        open_quote = ends_open.then_some((line, n_lines));
        if !take(&layout, &record, &example)? && n_lines > 1 {
            open_quote = Some((line, n_lines));
        }
    }
    if let Some((line, n_lines)) = open_quote {
        return Err(IngestError::UnclosedQuote { file, line, n_lines }.into());
    }
    Ok(())
}

/// Whether the first line ends with CR LF; the other lines are taken to end alike.
fn ends_lines_with_crlf(start: &[u8]) -> bool {
    let end = start.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    start[..end].ends_with(b"\r")
}

/// The line on which a record starts (or the first of the blank lines before it).
///
/// The reader ends a record at its CR and leaves the LF to the next one, so that it is a line
/// behind where lines end with both.
fn line_of(record: &ByteRecord, has_crlf: bool) -> u64 {
    record.position().map_or(0, Position::line) + u64::from(has_crlf)
}

/// How many lines a record takes: more than one where a quoted field holds line ends.
fn lines_in(record: &ByteRecord) -> usize {
    let ends = record.as_slice().iter().filter(|byte| **byte == b'\n').count();
    // A row that took the end of the file in ends with the last line's end, not on a line after it.
    if record.as_slice().ends_with(b"\n") { ends } else { ends + 1 }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        as_of, columns, counts, histories, log, log_of, read_with, rules, validation,
    };
    use super::super::{Columns, IngestError, Log, Source};
    use habitus_engine::domain::{Money, Rejection, fingerprint};
    use std::path::PathBuf;

    const HEADER: &str = "id,date,amount\n";

    fn with_header(rows: &str) -> Log {
        log(&format!("{HEADER}{rows}")).unwrap()
    }

    fn rejected(log: &Log) -> Vec<(Rejection, u64)> {
        counts(log, as_of("2020-01-01")).rejected.into_iter().collect()
    }

    #[test]
    fn a_ragged_row_costs_only_itself() {
        let log = with_header("1,1997-01-01,5\n2,1997-01-02,1,5\n3\n4,1997-01-03,6\n");
        assert_eq!(rejected(&log), [(Rejection::Ragged, 2)]);
        let histories = histories(&log);
        let customers: Vec<&str> = histories.iter().map(|h| h.customer().as_str()).collect();
        assert_eq!(customers, ["1", "4"]);
    }

    #[test]
    fn a_row_that_is_not_utf8_costs_only_itself() {
        let log = log_of(b"id,date,amount\n\xff,1997-01-01,5\n2,1997-01-02,5\n").unwrap();
        assert_eq!(rejected(&log), [(Rejection::NotUtf8, 1)]);
        assert_eq!(histories(&log).len(), 1);
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_hide_the_rest() {
        let text = format!("{HEADER}1,1997-01-01,5\n\"2,1997-01-02,5\n3,1997-01-03,5\n");
        match log(&text) {
            Err(IngestError::UnclosedQuote { line: 3, n_lines: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
        // In the last column the row has the header's number of fields all the same.
        let text = format!("{HEADER}1,1997-01-01,5\n2,1997-01-02,\"5\n3,1997-01-03,5\n");
        match log(&text) {
            Err(IngestError::UnclosedQuote { line: 3, n_lines: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
        let closed = with_header("1,1997-01-01,5\n\"2,1997\n-01-02\",5\n3,1997-01-03,5\n");
        assert_eq!(rejected(&closed), [(Rejection::Ragged, 1)]);
        let examples = validation(&closed, as_of("2020-01-01")).account.rejected_examples;
        assert!(examples[&Rejection::Ragged][0].text.starts_with("[2 lines]"));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        for text in [
            "\u{feff}id,date,amount\n1,1997-01-01,5\n",
            "\u{feff}\"id\",date,amount\n1,1997-01-01,5\n",
        ] {
            assert_eq!(histories(&log(text).unwrap()).len(), 1);
        }
    }

    #[test]
    fn quotes_hold_commas_and_newlines() {
        let columns = Columns { item: Some("item".into()), ..columns() };
        let text = "id,date,amount,item\n\"a,b\",1997-01-01,5,\"two\nlines, \"\"quoted\"\"\"\n2,1997-01-02,x,y\n";
        let sources = [Source::Bytes { name: "log.csv".into(), bytes: text.as_bytes().into() }];
        let log = read_with(&sources, &columns, &rules(), &mut |_| ()).unwrap();
        let histories = histories(&log);
        assert_eq!(histories[0].customer().as_str(), "a,b");
        let event = &histories[0].events()[0];
        assert_eq!(event.amount, Some(Money(500)));
        let item = event.item.get();
        assert_eq!(item, Some("two\nlines, \"quoted\""));
        let examples = validation(&log, as_of("2020-01-01")).account.rejected_examples;
        assert_eq!(examples[&Rejection::UnreadableAmount][0].line, 4);
    }

    #[test]
    fn lines_are_counted_under_either_line_end() {
        for end in ["\n", "\r\n"] {
            let text =
                ["id,date,amount", "1,1997-01-01,x", "1,1997-01-01,5", "1,1997-01-01,y"].join(end);
            let examples =
                validation(&log(&text).unwrap(), as_of("2020-01-01")).account.rejected_examples;
            let lines: Vec<u64> =
                examples[&Rejection::UnreadableAmount].iter().map(|example| example.line).collect();
            assert_eq!(lines, [2, 4]);
        }
    }

    #[test]
    fn a_missing_column_an_empty_file_and_a_lone_header_differ() {
        assert!(matches!(log("id,day,amount\n"), Err(IngestError::MissingColumn { .. })));
        for text in ["", "\n\n", "\u{feff}"] {
            assert!(matches!(log(text), Err(IngestError::Empty { file }) if file == "log.csv"));
        }
        for text in ["id,date,amount\n", "id,date,amount"] {
            let log = log(text).unwrap();
            assert!(histories(&log).is_empty());
            assert_eq!((log.span(), counts(&log, as_of("2020-01-01")).rows), (None, 0));
        }
    }

    #[test]
    fn a_directory_in_place_of_a_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let sources = [Source::Path(PathBuf::from(directory.path()))];
        let result = read_with(&sources, &columns(), &rules(), &mut |_| ());
        assert!(matches!(result, Err(IngestError::Io { file, .. }) if file == sources[0].name()));
    }

    #[test]
    fn shuffled_rows_and_files_give_the_same_histories() {
        let rows = ["1,1997-01-01,5", "1,1997-01-01,4", "2,1997-03-01,7", "1,1996-05-05,2"];
        let forward = with_header(&format!("{}\n", rows.join("\n")));
        let source = |rows: &[&str]| Source::Bytes {
            name: "part.csv".into(),
            bytes: format!("{HEADER}{}\n", rows.join("\n")).into_bytes().into(),
        };
        let parts = [source(&[rows[3], rows[2]]), source(&[rows[1], rows[0]])];
        let mut told = Vec::new();
        let backward =
            read_with(&parts, &columns(), &rules(), &mut |bytes| told.push(bytes)).unwrap();
        let (forward, backward) = (histories(&forward), histories(&backward));
        assert_eq!(forward, backward);
        let end = as_of("2020-01-01");
        assert_eq!(fingerprint(&forward, end), fingerprint(&backward, end));
        let total: u64 = parts.iter().filter_map(Source::size).sum();
        assert_eq!(told.last(), Some(&total));
    }
}
