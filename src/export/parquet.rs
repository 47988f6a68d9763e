//! Parquet through polars: nullable columns, zstd, one row group per batch, several compressed at once.

use super::schema::number;
use super::{Column, ColumnKind, Schema};
use polars::prelude::{
    BatchedWriter, DataFrame, DataType, Float64Chunked, IntoColumn, IntoSeries, NamedFrom,
    ParquetWriter, PlSmallStr, PolarsError, PolarsResult, Schema as PolarsSchema, Series,
};
use polars_parquet::write::{
    CompressedPage, DynStreamingIterator, FallibleStreamingIterator, RowGroupIterColumns,
};
use rayon::prelude::*;
use std::fs::File;
use std::io::{self, BufWriter};

/// At most so many batches are compressed together, because memory holds them all.
const MOST_WAITING: usize = 8;

pub(super) struct ParquetTable {
    writer: BatchedWriter<BufWriter<File>>,
    /// Batches that are compressed together.
    waiting: Vec<DataFrame>,
}

impl ParquetTable {
    pub(super) fn start(file: File, schema: &Schema) -> io::Result<ParquetTable> {
        let schema: PolarsSchema = schema
            .columns()
            .iter()
            .map(|(name, kind)| (PlSmallStr::from(name.as_str()), data_type(*kind)))
            .collect();
        // Encoding on our threads keeps polars from starting a pool of its own beside ours.
        let writer = ParquetWriter::new(BufWriter::new(file)).set_parallel(false);
        let writer = writer.batched(&schema).map_err(io::Error::other)?;
        Ok(ParquetTable { writer, waiting: Vec::new() })
    }

    pub(super) fn write(
        &mut self,
        schema: &Schema,
        batch: Vec<Column>,
        n_rows: usize,
    ) -> io::Result<()> {
        let columns = schema
            .names()
            .zip(batch)
            .map(|(name, column)| series(name, column).into_column())
            .collect();
        self.waiting.push(DataFrame::new(n_rows, columns).map_err(io::Error::other)?);
        if self.waiting.len() < rayon::current_num_threads().min(MOST_WAITING) {
            return Ok(());
        }
        self.encode().map_err(io::Error::other)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.encode().and_then(|()| self.writer.finish()).map(|_size| ()).map_err(io::Error::other)
    }

    /// Writes the batches that wait, in their order.
    fn encode(&mut self) -> PolarsResult<()> {
        let groups = |batch: &DataFrame| -> PolarsResult<Vec<RowGroup>> {
            self.writer.encode_and_compress(batch).map(|group| compressed(group?)).collect()
        };
        let encoded: Vec<PolarsResult<Vec<RowGroup>>> = match self.waiting.as_slice() {
            [batch] => vec![groups(batch)],
            batches => batches.par_iter().map(groups).collect(),
        };
        self.waiting.clear();
        encoded.into_iter().try_for_each(|groups| self.writer.write_row_groups(groups?))
    }
}

/// A row group on its way to the file: its columns, each a sequence of pages.
type RowGroup = RowGroupIterColumns<'static, PolarsError>;
type Pages = DynStreamingIterator<'static, CompressedPage, PolarsError>;

/// The same row group with the first page of each column compressed, which is mostly the only one.
/// Left to itself, the writer compresses all pages one after the other while it writes them.
fn compressed(group: RowGroup) -> PolarsResult<RowGroup> {
    let begun = |pages: PolarsResult<Pages>| -> PolarsResult<Pages> {
        let mut pages = pages?;
        pages.advance()?;
        Ok(Pages::new(Begun { pages, is_at_first: true }))
    };
    let columns: Vec<Pages> = group.map(begun).collect::<PolarsResult<_>>()?;
    Ok(RowGroup::new(columns.into_iter().map(Ok)))
}

/// Pages of which the first is made before it is asked for.
struct Begun {
    pages: Pages,
    is_at_first: bool,
}

impl FallibleStreamingIterator for Begun {
    type Item = CompressedPage;
    type Error = PolarsError;

    fn advance(&mut self) -> PolarsResult<()> {
        if std::mem::take(&mut self.is_at_first) { Ok(()) } else { self.pages.advance() }
    }

    fn get(&self) -> Option<&CompressedPage> {
        self.pages.get()
    }
}

fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Text => DataType::String,
        ColumnKind::Float => DataType::Float64,
        ColumnKind::Integer => DataType::Int64,
        ColumnKind::Boolean => DataType::Boolean,
    }
}

fn series(name: &str, column: Column) -> Series {
    let name = PlSmallStr::from(name);
    match column {
        Column::Text(values) => Series::new(name, values.as_slice()),
        Column::Float(values) if values.iter().any(|value| value.is_nan()) => {
            Series::new(name, values.into_iter().map(number).collect::<Vec<_>>())
        }
        // What is all there is taken as it is.
        Column::Float(values) => Float64Chunked::from_vec(name, values).into_series(),
        Column::Integer(values) => Series::new(name, values.as_slice()),
        Column::Boolean(values) => Series::new(name, values.as_slice()),
    }
}
