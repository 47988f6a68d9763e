//! From logs on disk to validated histories, with an account of every row.
//!
//! The way of a row: `source` finds the files and tells their formats, `stream` unpacks them,
//! `csv_log`, `ndjson_log` and `parquet_log` (from a `parquet_table`) read them record by record, `columns` finds the fields,
//! `log` hands each row to the event rules, `partitions` keeps what they accept by customer, in
//! memory or on disk, until it becomes histories, and `report` counts the rest. Whoever wants rows as
//! they came, in the order of their file, gets them from `rows`, by the same readers; whoever has
//! rows from elsewhere than files makes a log of them by `gathering`.
//! A bad row is counted and never fatal; a file that is no log at all stops the run.
//!
//! `parquet_matrix` stands apart: it reads a file of numbers, which is no log, for the clustering of
//! whatever its rows are.
//!
//! What is absent: a clock (the caller passes `now`), and anything that looks at a customer. The
//! rules that shape events and histories belong to the engine, so that streamed events pass the
//! same functions as the rows read here.

pub(crate) mod bytes;
pub(crate) mod codec;
mod columns;
mod csv_log;
mod customers;
mod error;
mod excerpt;
#[cfg(test)]
mod fixture;
mod gathering;
mod log;
mod memory;
mod ndjson_log;
mod parquet_cells;
mod parquet_log;
mod parquet_matrix;
mod parquet_table;
mod partitions;
mod plain;
mod report;
mod rows;
mod source;
mod stream;

pub use columns::Columns;
pub use customers::{
    CustomerColumns, CustomerCounts, CustomerReading, CustomerRejection, CustomerRepair,
    CustomersReport, each_customer,
};
pub use error::IngestError;
pub use gathering::Gathering;
pub use log::{Log, Part, Span};
pub use memory::Memory;
pub use parquet_matrix::{ID_COLUMN, MatrixColumn, MatrixReading, ParquetMatrix};
pub use partitions::N_PARTS;
pub use report::{
    Account, Example, HistoryCounts, IngestReport, RowCounts, ShapeCounts, Validation,
};
pub use rows::{Row, customer_of, each_row};
pub use source::{Source, sources};

use self::log::Collector;
use self::partitions::{Partitions, Spill};
use self::source::Format;
use habitus_engine::domain::{AsOf, EventRules, Timestamp};
use std::path::Path;

/// How logs are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    pub columns: &'a Columns,
    pub rules: &'a EventRules,
    /// The clock at the start of the run: a row dated later is rejected.
    pub now: Timestamp,
    /// The as-of, where it is known beforehand; the end of a day otherwise.
    pub as_of: Option<AsOf>,
    pub memory: &'a Memory,
    /// The customers file and its columns, where there is one.
    pub customers: Option<(&'a [Source], &'a CustomerColumns)>,
    /// Where rows beyond the bound are kept, so that [`Log::keep`] can note them for another run; a
    /// temporary place where left out.
    pub keep_in: Option<&'a Path>,
}

/// Reads all sources into one log. `progress` hears, from time to time, how many bytes have been
/// read over all sources (of a compressed file: compressed ones).
///
/// The order of the sources and of their rows does not matter to the histories.
///
/// # Errors
/// [`IngestError`] where a file cannot be read, is empty, or lacks a mapped column.
pub fn read(
    sources: &[Source],
    reading: &Reading<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Log, IngestError> {
    let names = reading.customers.map_or(Vec::new(), |(_, columns)| columns.attribute_names());
    let spill = match reading.keep_in {
        Some(directory) => Spill::Kept(directory.to_owned()),
        None => Spill::Temporary(None, reading.memory.directory.clone()),
    };
    let rows = Partitions::new(reading.memory.waiting_rows(), spill, names.into());
    let mut collector = Collector::new(reading, rows);
    let columns = reading.columns;
    let bytes_of_log = each_source(sources, progress, |source, progress| match source.format() {
        Format::Csv => csv_log::read(source, columns, &mut collector, progress),
        Format::Ndjson => ndjson_log::read(source, columns, &mut collector, progress),
        Format::Parquet(path) => parquet_log::read(path, columns, &mut collector, progress),
    })?;
    let mut customers = None;
    if let Some((sources, columns)) = reading.customers {
        let reading = CustomerReading { columns, rules: reading.rules, now: reading.now };
        let progress: &mut dyn FnMut(u64) = &mut |bytes| progress(bytes_of_log + bytes);
        customers = Some(customers::read_customers(
            sources,
            &reading,
            progress,
            &mut |customer, attributes| collector.take_customer(customer, &attributes),
        )?);
    }
    Ok(collector.finish(customers))
}

/// Reads sources one after the other and returns their bytes. `progress` hears of all together what
/// `read` tells of each.
fn each_source(
    sources: &[Source],
    progress: &mut dyn FnMut(u64),
    mut read: impl FnMut(&Source, &mut dyn FnMut(u64)) -> Result<(), IngestError>,
) -> Result<u64, IngestError> {
    let mut bytes_before = 0;
    for source in sources {
        let mut bytes_here = 0;
        read(source, &mut |bytes| {
            bytes_here = bytes;
            progress(bytes_before + bytes);
        })?;
        bytes_before += bytes_here;
    }
    Ok(bytes_before)
}

#[cfg(test)]
mod tests {
    use super::fixture::{as_of, counts, gzip, histories, log, log_in, parquet, validation, zstd};
    use super::{IngestError, Log, Source};
    use habitus_engine::domain::{Rejection, Repair, fingerprint};
    use polars::prelude::{NamedFrom, Series};
    use std::fs;

    const CSV: &str = "id,date,amount
1,1997-01-01,12.10
2,1997-01-02 10:30:00.5,5.005
,1997-01-02,1
1,someday,1
1,1996-12-01T08:00:00+02:00,7
";

    const NDJSON: &str = r#"{"id": 1, "date": "1997-01-01", "amount": 12.10}
{"id": "2", "date": "1997-01-02 10:30:00.5", "amount": 5.005, "extra": [1]}
{"date": "1997-01-02", "amount": 1}
{"amount": "1", "date": "someday", "id": 1}
{"id": "\u0031", "date": "1996-12-01T08:00:00+02:00", "amount": "7"}
"#;

    #[test]
    fn one_log_in_every_format_gives_the_same_histories() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.csv"), CSV).unwrap();
        fs::write(path("a.csv.gz"), gzip(CSV.as_bytes())).unwrap();
        fs::write(path("a.csv.zst"), zstd(CSV.as_bytes())).unwrap();
        fs::write(path("a.jsonl"), NDJSON).unwrap();
        fs::write(path("a.ndjson.gz"), gzip(NDJSON.as_bytes())).unwrap();
        fs::write(path("a.ndjson.zst"), zstd(NDJSON.as_bytes())).unwrap();
        let dates = [
            "1997-01-01",
            "1997-01-02 10:30:00.5",
            "1997-01-02",
            "someday",
            "1996-12-01T08:00:00+02:00",
        ];
        let series = vec![
            Series::new("id".into(), &[Some(1i64), Some(2), None, Some(1), Some(1)][..]),
            Series::new("amount".into(), &[12.10f64, 5.005, 1.0, 1.0, 7.0][..]),
            Series::new("date".into(), &dates[..]),
        ];
        parquet(&path("a.parquet"), series, None);

        let expected = log(CSV).unwrap();
        let end = as_of("1997-12-31");
        let lines = |log: &Log| {
            let validation = validation(log, end);
            [
                validation.account.rejected_examples[&Rejection::MissingCustomer][0].line,
                validation.account.rejected_examples[&Rejection::UnreadableTime][0].line,
                validation.account.repaired_examples[&Repair::AmountRounded][0].line,
            ]
        };
        assert_eq!(counts(&expected, end).accepted, 3);
        for name in [
            "a.csv",
            "a.csv.gz",
            "a.csv.zst",
            "a.jsonl",
            "a.ndjson.gz",
            "a.ndjson.zst",
            "a.parquet",
        ] {
            let mut told = 0;
            let read = log_in(&path(name), &mut |bytes| told = bytes).unwrap();
            let (ours, theirs) = (histories(&read), histories(&expected));
            assert_eq!(ours, theirs, "{name}");
            assert_eq!(counts(&read, end), counts(&expected, end), "{name}");
            assert_eq!(fingerprint(&ours, end), fingerprint(&theirs, end), "{name}");
            // A CSV file has a header before its rows.
            let first = if name.contains("csv") { 1 } else { 0 };
            assert_eq!(lines(&read), [3, 4, 2].map(|line| line + first), "{name}");
            assert_eq!(Some(told), Source::Path(path(name)).size(), "{name}");
        }
    }

    #[test]
    fn a_damaged_number_of_rows_invents_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        let series = vec![
            Series::new("id".into(), (0..1_000i64).collect::<Vec<_>>()),
            Series::new("date".into(), vec!["1997-01-01"; 1_000]),
            Series::new("amount".into(), vec![5.0; 1_000]),
        ];
        parquet(&path, series, None);
        let mut bytes = fs::read(&path).unwrap();
        // Thrift's 1,000 stands last as the number of rows of the only group, and becomes 1,016.
        let place = bytes.windows(2).rposition(|two| two == [0xd0, 0x0f]).unwrap();
        bytes[place] = 0xf0;
        fs::write(&path, bytes).unwrap();
        match log_in(&path, &mut |_| ()) {
            Err(IngestError::Parquet { source, .. }) => {
                assert!(source.to_string().contains("fewer rows"), "{source}");
            }
            other => panic!("{other:?}"),
        }
    }
}
