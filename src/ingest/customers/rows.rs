//! The rows of a customers file, found by the readers of logs, whatever format it has.

use super::super::ndjson_log::Wanted;
use super::super::parquet_cells::is_readable;
use super::super::parquet_table::Table;
use super::super::source::Format;
use super::super::{Example, IngestError, Source, csv_log, ndjson_log};
use super::columns::Layout;
use super::{CustomerReading, CustomerRejection, CustomersReport, row};
use habitus_engine::domain::{Attributes, RawValue, Rejection};
use polars::prelude::ArrowDataType;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Reads rows and hands on what comes of them, whatever file format they are from.
pub(super) struct Collector<'a, E> {
    reading: &'a CustomerReading<'a>,
    /// Of the attributes.
    names: Arc<[String]>,
    pub(super) report: CustomersReport,
    take: &'a mut dyn FnMut(&str, Attributes) -> Result<(), E>,
}

impl<'a, E: From<IngestError>> Collector<'a, E> {
    pub(super) fn new(
        reading: &'a CustomerReading<'a>,
        take: &'a mut dyn FnMut(&str, Attributes) -> Result<(), E>,
    ) -> Collector<'a, E> {
        let names = reading.columns.attribute_names().into();
        Collector { reading, names, report: CustomersReport::default(), take }
    }

    /// Reads one source.
    pub(super) fn read(&mut self, source: &Source, progress: &mut dyn FnMut(u64)) -> Result<(), E> {
        match source.format() {
            Format::Csv => read_csv(source, self, progress),
            Format::Ndjson => read_ndjson(source, self, progress),
            Format::Parquet(path) => read_parquet(path, self, progress),
        }
    }

    /// Takes one row, whose values are found by their places in the layout.
    fn take<'r>(
        &mut self,
        layout: &Layout,
        value: impl Fn(usize) -> Option<RawValue<'r>>,
        example: &dyn Fn() -> Example,
    ) -> Result<(), E> {
        let row = match row::read(self.reading, &self.names, layout, value) {
            Ok(row) => row,
            Err(rejection) => {
                self.report.reject(rejection, example);
                return Ok(());
            }
        };
        let columns = row.unreadable_numbers.iter().map(|&index| self.names[index].as_str());
        self.report.accept(row.repairs, columns, example);
        (self.take)(&row.customer, row.attributes)
    }
}

/// Reads a CSV file into the collector.
fn read_csv<E: From<IngestError>>(
    source: &Source,
    collector: &mut Collector<'_, E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), E> {
    let columns = collector.reading.columns;
    csv_log::records(
        source,
        progress,
        |header, file| columns.locate_in(header, file),
        |layout: &Layout, record, example| match layout.texts(record) {
            Ok(texts) => collector.take(layout, texts, example).map(|()| true),
            Err(rejection) => {
                collector.report.reject(rejection, example);
                Ok(false)
            }
        },
    )
}

/// Reads a file of JSON objects into the collector.
fn read_ndjson<E: From<IngestError>>(
    source: &Source,
    collector: &mut Collector<'_, E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), E> {
    let columns = collector.reading.columns;
    let (names, required) = (columns.names(), columns.required());
    let layout = columns.locate(&names, &source.name())?;
    let wanted = Wanted { names: &names, required: &required, value: json_text };
    ndjson_log::lines(source, progress, &wanted, |texts, example| match texts {
        Ok(texts) => {
            let value = |place: usize| texts[place].as_deref().map(RawValue::Text);
            collector.take(&layout, value, example)
        }
        Err(rejection) => {
            let rejection = match rejection {
                Rejection::NotUtf8 => CustomerRejection::NotUtf8,
                _ => CustomerRejection::Ragged,
            };
            collector.report.reject(rejection, example);
            Ok(())
        }
    })
}

/// A JSON value as text. Unlike a log, whose fields are never true or false, a customers file says
/// so of wishes and labels.
fn json_text(value: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
    match value {
        "true" | "false" => Ok(Some(Cow::Borrowed(value))),
        _ => ndjson_log::text(value),
    }
}

/// Reads a Parquet file into the collector, one window after the other: a customers file is small
/// beside its log.
fn read_parquet<E: From<IngestError>>(
    path: &Path,
    collector: &mut Collector<'_, E>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), E> {
    let columns = collector.reading.columns;
    let table = Table::open(path)?;
    columns.locate(&table.names(), &table.file)?;
    table.check(&columns.mapped(), is_truth_or_readable)?;
    let names = columns.names();
    let layout = columns.locate(&names, &table.file)?;
    for window in &table.windows {
        let cells = table.cells(window, &names)?;
        for index in 0..window.length {
            let example = || table.example(window, &cells, index);
            collector.take(&layout, |place| cells[place].at(index), &example)?;
        }
        progress(table.bytes_through(window));
    }
    progress(table.n_bytes);
    Ok(())
}

/// Truth values are read as well as what a log may hold.
fn is_truth_or_readable(found: &ArrowDataType) -> bool {
    matches!(found, ArrowDataType::Boolean) || is_readable(found)
}
