//! What the tests of this room share: a three-column log, its rules, and as-ofs by date.

use super::{Columns, IngestError, Log, Memory, Reading, RowCounts, Source, Validation, read};
use habitus_engine::domain::{AsOf, Currency, EventRules, History, Timestamp, Zone};
use polars::prelude::{DataFrame, IntoColumn, ParquetWriter, Series};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// 2023-11-14, after every date that the tests accept.
const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(super) fn columns() -> Columns {
    Columns {
        customer: "id".into(),
        time: "date".into(),
        amount: "amount".into(),
        ..Columns::default()
    }
}

pub(super) fn rules() -> EventRules {
    let currency = Currency { code: "USD".into(), digits: 2 };
    EventRules::plain(Zone::named("UTC").unwrap(), currency)
}

pub(super) fn as_of(text: &str) -> AsOf {
    rules().zone.parse_as_of(text).unwrap()
}

pub(super) fn log(text: &str) -> Result<Log, IngestError> {
    log_of(text.as_bytes())
}

pub(super) fn log_of(bytes: &[u8]) -> Result<Log, IngestError> {
    let sources = [Source::Bytes { name: "log.csv".into(), bytes: bytes.to_vec().into() }];
    read_with(&sources, &columns(), &rules(), &mut |_| ())
}

/// The log in a file, whose name says what it is.
pub(super) fn log_in(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Log, IngestError> {
    read_with(&[Source::Path(path.to_owned())], &columns(), &rules(), progress)
}

pub(super) fn read_with(
    sources: &[Source],
    columns: &Columns,
    rules: &EventRules,
    progress: &mut dyn FnMut(u64),
) -> Result<Log, IngestError> {
    let memory = Memory::default();
    let reading = Reading {
        columns,
        rules,
        now: NOW,
        as_of: None,
        memory: &memory,
        customers: None,
        keep_in: None,
    };
    read(sources, &reading, progress)
}

pub(super) fn histories(log: &Log) -> Vec<History> {
    log.histories(as_of("2020-01-01")).unwrap().0
}

pub(super) fn counts(log: &Log, as_of: AsOf) -> RowCounts {
    validation(log, as_of).account.counts
}

pub(super) fn validation(log: &Log, as_of: AsOf) -> Validation {
    log.validation(as_of, &log.histories(as_of).unwrap().1)
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 0).unwrap()
}

/// Writes columns of equal length as Parquet.
pub(super) fn parquet(path: &Path, columns: Vec<Series>, rows_per_group: Option<usize>) {
    let n_rows = columns.first().map_or(0, |series| series.len());
    let columns = columns.into_iter().map(IntoColumn::into_column).collect();
    let mut frame = DataFrame::new(n_rows, columns).unwrap();
    ParquetWriter::new(File::create(path).unwrap())
        .with_row_group_size(rows_per_group)
        .set_parallel(false)
        .finish(&mut frame)
        .unwrap();
}
