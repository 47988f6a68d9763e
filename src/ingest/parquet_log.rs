//! A Parquet log through polars, in windows of rows, so that memory holds the mapped columns of one
//! window.
//!
//! Values become the texts that the rules of events read: a float by its shortest decimal, a local
//! time as `YYYY-MM-DD HH:MM:SS[.fff]`, an instant as RFC 3339 in UTC, a date as `YYYY-MM-DD`.

use super::log::Collector;
use super::{Columns, Example, IngestError, excerpt};
use csv::ByteRecord;
use habitus_engine::domain::{Day, Timestamp};
use polars::prelude::{
    AnyValue, ArrowDataType, DataFrame, ParallelStrategy, ParquetReader, PolarsError, PolarsResult,
    SerReader, TimeUnit,
};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How many rows are decoded at once.
const WINDOW_ROWS: usize = 1 << 16;

const MS_PER_DAY: i64 = 86_400_000;

/// The texts of one column in one window.
type Texts<'f> = Vec<Option<Cow<'f, str>>>;

/// Reads one file into the collector.
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty or no Parquet file, or lacks a mapped
/// column or has it in a type that is neither text, number nor time.
pub(super) fn read(
    path: &Path,
    columns: &Columns,
    collector: &mut Collector<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), IngestError> {
    let file = path.display().to_string();
    let failed = |source: io::Error| IngestError::Io { file: file.clone(), source };
    let broken = |error: PolarsError| IngestError::Parquet {
        file: file.clone(),
        source: io::Error::other(error),
    };
    let mut input = File::open(path).map_err(failed)?;
    let n_bytes = input.metadata().map_err(failed)?.len();
    if n_bytes == 0 {
        return Err(IngestError::Empty { file });
    }
    let (schema, mut metadata) = {
        let mut reader = ParquetReader::new(&mut input);
        let schema = reader.schema().map_err(broken)?;
        (schema, (**reader.get_metadata().map_err(broken)?).clone())
    };

    let present: Vec<String> = schema.iter_names().map(|name| name.to_string()).collect();
    columns.locate(&present, &file)?;
    for (field, column) in columns.mapped() {
        if let Some(found) = schema.get(column).filter(|found| !is_readable(found.dtype())) {
            let found = excerpt::printable(&format!("{:?}", found.dtype()));
            return Err(IngestError::ColumnType { file, field, column: column.to_owned(), found });
        }
    }
    let names = columns.names();
    let layout = columns.locate(&names, &file)?;

    let n_rows = metadata.num_rows;
    let mut row: u64 = 0;
    // Each row group is read as a file of its own, because the reader would look into all of them
    // for every window.
    for group in std::mem::take(&mut metadata.row_groups) {
        let mut alone = metadata.clone();
        alone.num_rows = group.num_rows();
        alone.row_groups = vec![group];
        let alone = Arc::new(alone);
        for start in (0..alone.num_rows).step_by(WINDOW_ROWS) {
            let length = WINDOW_ROWS.min(alone.num_rows - start);
            // Decoding on this thread keeps polars from starting a pool of its own beside ours.
            let mut reader = ParquetReader::new(&mut input)
                .read_parallel(ParallelStrategy::None)
                .with_columns(Some(names.clone()))
                .with_slice(Some((start, length)));
            reader.set_metadata(Arc::clone(&alone));
            let frame = reader.finish().map_err(broken)?;
            let columns: PolarsResult<Vec<Texts<'_>>> =
                names.iter().map(|name| texts(&frame, name)).collect();
            let columns = columns.map_err(broken)?;
            for index in 0..frame.height() {
                row += 1;
                let field = |place: usize| columns[place][index].as_deref();
                collector.take(&layout.raw_of(field), || Example {
                    file: file.clone(),
                    line: row,
                    text: shown((0..columns.len()).map(field)),
                });
            }
            progress((u128::from(n_bytes) * u128::from(row) / n_rows.max(1) as u128) as u64);
        }
    }
    progress(n_bytes);
    Ok(())
}

/// Whether values of a type have a text. Everything else is refused before polars sees it, which
/// stops at types it was not built for.
fn is_readable(found: &ArrowDataType) -> bool {
    use ArrowDataType as Type;
    match found {
        Type::Dictionary(_, values, _) => {
            matches!(**values, Type::Utf8View | Type::Utf8 | Type::LargeUtf8)
        }
        Type::Null
        | Type::Utf8View
        | Type::Utf8
        | Type::LargeUtf8
        | Type::Int8
        | Type::Int16
        | Type::Int32
        | Type::Int64
        | Type::UInt8
        | Type::UInt16
        | Type::UInt32
        | Type::UInt64
        | Type::Float32
        | Type::Float64
        | Type::Date32
        | Type::Date64
        | Type::Timestamp(..)
        | Type::Decimal(..)
        | Type::Decimal32(..)
        | Type::Decimal64(..)
        | Type::Decimal256(..) => true,
        _ => false,
    }
}

fn texts<'f>(frame: &'f DataFrame, name: &str) -> PolarsResult<Texts<'f>> {
    let column = frame.column(name)?;
    Ok(column.as_materialized_series().iter().map(text).collect())
}

/// The mapped fields of a row, as a CSV file would have them.
fn shown<'f>(texts: impl Iterator<Item = Option<&'f str>>) -> String {
    excerpt::row(&ByteRecord::from(texts.map(Option::unwrap_or_default).collect::<Vec<&str>>()))
}

fn text(value: AnyValue<'_>) -> Option<Cow<'_, str>> {
    let text = match value {
        AnyValue::String(text) => return Some(Cow::Borrowed(text)),
        AnyValue::Categorical(category, names) | AnyValue::Enum(category, names) => {
            return names.cat_to_str(category).map(Cow::Borrowed);
        }
        AnyValue::Int8(number) => number.to_string(),
        AnyValue::Int16(number) => number.to_string(),
        AnyValue::Int32(number) => number.to_string(),
        AnyValue::Int64(number) => number.to_string(),
        AnyValue::UInt8(number) => number.to_string(),
        AnyValue::UInt16(number) => number.to_string(),
        AnyValue::UInt32(number) => number.to_string(),
        AnyValue::UInt64(number) => number.to_string(),
        AnyValue::Float32(number) => number.to_string(),
        AnyValue::Float64(number) => number.to_string(),
        AnyValue::Decimal(units, _precision, scale) => decimal(units, scale),
        AnyValue::Date(days) => Day(days).to_string(),
        AnyValue::Datetime(ticks, unit, zone) => {
            let ms = match unit {
                TimeUnit::Nanoseconds => ticks.div_euclid(1_000_000),
                TimeUnit::Microseconds => ticks.div_euclid(1_000),
                TimeUnit::Milliseconds => ticks,
            };
            if zone.is_some() { Timestamp(ms).to_string() } else { local(ms) }
        }
        // Null: a column in any other type was refused.
        _ => return None,
    };
    Some(Cow::Owned(text))
}

/// A time without a zone, from its milliseconds since the start of 1970.
fn local(ms: i64) -> String {
    // A day beyond the calendar has no date, and is then no readable time.
    let day = Day(i32::try_from(ms.div_euclid(MS_PER_DAY)).unwrap_or(i32::MAX));
    let (seconds, ms) = (ms.rem_euclid(MS_PER_DAY) / 1_000, ms.rem_euclid(1_000));
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let time = format!("{day} {hours:02}:{minutes:02}:{seconds:02}");
    if ms == 0 { time } else { format!("{time}.{ms:03}") }
}

/// A decimal from its digits and how many of them stand behind the point.
fn decimal(units: i128, scale: usize) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::super::Log;
    use super::super::fixture::{as_of, log_in, parquet};
    use super::*;
    use habitus_engine::domain::{Money, Rejection};
    use polars::prelude::{Categories, DataType, NamedFrom, Series, TimeZone};
    use std::fs;

    /// The log that these columns give, written in row groups of two.
    fn log(columns: Vec<Series>) -> Result<Log, IngestError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        parquet(&path, columns, Some(2));
        log_in(&path, &mut |_| ())
    }

    fn ids() -> Series {
        Series::new("id".into(), &["a", "b", "c", "d", "e"][..])
    }

    fn dates() -> Series {
        Series::new("date".into(), &["1997-01-01"; 5][..])
    }

    fn amounts() -> Series {
        Series::new("amount".into(), &[5i64; 5][..])
    }

    /// When the first customer came, if these are the times.
    fn first_time(times: Series) -> String {
        log(vec![ids(), times, amounts()]).unwrap().histories[0].events()[0].at.to_string()
    }

    #[test]
    fn times_of_every_unit_are_read() {
        const MS: i64 = 852_163_200_500; // 1997-01-02T00:00:00.500Z
        let utc = Some(TimeZone::UTC);
        for (unit, ticks_per_ms) in [
            (TimeUnit::Milliseconds, 1),
            (TimeUnit::Microseconds, 1_000),
            (TimeUnit::Nanoseconds, 1_000_000),
        ] {
            for zone in [None, utc.clone()] {
                let ticks = Series::new("date".into(), &[MS * ticks_per_ms; 5][..]);
                let times = ticks.cast(&DataType::Datetime(unit, zone)).unwrap();
                assert_eq!(first_time(times), "1997-01-02T00:00:00.5Z", "{unit:?}");
            }
        }
        let days = Series::new("date".into(), &[9_863i32; 5][..]).cast(&DataType::Date).unwrap();
        assert_eq!(first_time(days), "1997-01-02T00:00:00Z");
    }

    #[test]
    fn local_times_and_decimals_are_written_out() {
        assert_eq!(local(0), "1970-01-01 00:00:00");
        assert_eq!(local(-1), "1969-12-31 23:59:59.999");
        assert_eq!(local(45_296_007), "1970-01-01 12:34:56.007");
        for (units, scale, text) in
            [(1210, 2, "12.10"), (-5, 2, "-0.05"), (7, 0, "7"), (0, 3, "0.000")]
        {
            assert_eq!(decimal(units, scale), text);
        }
    }

    #[test]
    fn numbers_of_every_type_and_categories_are_read() {
        let categories = DataType::from_categories(Categories::global());
        let ids = ids().cast(&categories).unwrap();
        for number in [
            DataType::Int8,
            DataType::UInt16,
            DataType::Int32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal(12, 2),
        ] {
            let amounts = amounts().cast(&number).unwrap();
            let log = log(vec![ids.clone(), dates(), amounts]).unwrap();
            assert_eq!(log.histories[4].customer().as_str(), "e");
            assert_eq!(log.histories[4].events()[0].amount, Some(Money(500)), "{number:?}");
        }
    }

    #[test]
    fn rows_are_numbered_over_groups_and_nulls_are_absent() {
        let ids = Series::new("id".into(), &[Some("a"), None, Some("c"), Some("d"), None][..]);
        let amounts = [Some(1.5f64), Some(1.0), None, Some(f64::NAN), Some(0.1)];
        let amounts = Series::new("amount".into(), &amounts[..]);
        let log = log(vec![amounts, dates(), ids]).unwrap();
        assert_eq!(log.counts(as_of("2020-01-01")).accepted, 1);
        let examples = log.validation(as_of("2020-01-01")).rejected_examples;
        let lines = |rejection| -> Vec<u64> {
            examples[&rejection].iter().map(|example| example.line).collect()
        };
        assert_eq!(lines(Rejection::MissingCustomer), [2, 5]);
        assert_eq!(lines(Rejection::MissingAmount), [3]);
        assert_eq!(lines(Rejection::NonFiniteAmount), [4]);
        assert_eq!(examples[&Rejection::MissingAmount][0].text, "c,1997-01-01,");
    }

    #[test]
    fn a_group_longer_than_a_window_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        let n_rows = WINDOW_ROWS + 1_000;
        let mut amounts = vec![1i64; n_rows];
        amounts[n_rows - 1] = -1;
        let ids: Vec<i64> = (0..n_rows as i64).collect();
        let columns = vec![
            Series::new("id".into(), ids),
            Series::new("date".into(), vec!["1997-01-01"; n_rows]),
            Series::new("amount".into(), amounts),
        ];
        parquet(&path, columns, None);
        let log = log_in(&path, &mut |_| ()).unwrap();
        assert_eq!(log.histories.len(), n_rows - 1);
        let examples = log.validation(as_of("2020-01-01")).rejected_examples;
        assert_eq!(examples[&Rejection::NegativeAmount][0].line, n_rows as u64);
    }

    #[test]
    fn a_missing_column_or_another_type_is_named() {
        let missing = log(vec![ids(), amounts()]).unwrap_err();
        match missing {
            IngestError::MissingColumn { field: "time", column, present, .. } => {
                assert_eq!((column.as_str(), present.join(" ")), ("date", "id amount".into()));
            }
            other => panic!("{other:?}"),
        }
        let flags = Series::new("amount".into(), &[true; 5][..]);
        assert!(matches!(
            log(vec![ids(), dates(), flags]),
            Err(IngestError::ColumnType { field: "amount", found, .. }) if found == "Boolean"
        ));
    }

    #[test]
    fn no_rows_are_no_error_but_a_foreign_or_cut_file_is() {
        let none = [ids(), dates(), amounts()].map(|column| column.head(Some(0)));
        assert!(log(Vec::from(none)).unwrap().histories.is_empty());

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.parquet");
        parquet(&path, vec![ids(), dates(), amounts()], None);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 9], &whole[..10], b"id,date,amount\n"] {
            fs::write(&path, bytes).unwrap();
            match log_in(&path, &mut |_| ()) {
                Err(IngestError::Parquet { file, .. }) => assert!(file.ends_with("log.parquet")),
                other => panic!("{other:?}"),
            }
        }
    }
}
