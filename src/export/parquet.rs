//! Parquet through polars: nullable columns, zstd, one row group per batch.

use super::schema::number;
use super::{Column, ColumnKind, Schema};
use polars::prelude::{
    BatchedWriter, DataFrame, DataType, Float64Chunked, IntoColumn, IntoSeries, NamedFrom,
    ParquetWriter, PlSmallStr, Schema as PolarsSchema, Series,
};
use std::fs::File;
use std::io::{self, BufWriter};

pub(super) struct ParquetTable {
    writer: BatchedWriter<BufWriter<File>>,
}

impl ParquetTable {
    pub(super) fn start(file: File, schema: &Schema) -> io::Result<ParquetTable> {
        let schema: PolarsSchema = schema
            .columns()
            .iter()
            .map(|(name, kind)| (PlSmallStr::from(name.as_str()), data_type(*kind)))
            .collect();
        // Encoding on this thread keeps polars from starting a pool of its own beside ours.
        let writer = ParquetWriter::new(BufWriter::new(file)).set_parallel(false);
        let writer = writer.batched(&schema).map_err(io::Error::other)?;
        Ok(ParquetTable { writer })
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
        let frame = DataFrame::new(n_rows, columns).map_err(io::Error::other)?;
        self.writer.write_batch(&frame).map_err(io::Error::other)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.writer.finish().map(|_size| ()).map_err(io::Error::other)
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
