//! The file formats, chosen by extension.

use super::csv::CsvTable;
use super::ndjson::NdjsonTable;
use super::parquet::ParquetTable;
use super::{Column, ExportError, Schema};
use std::fs::File;
use std::io;
use std::path::Path;

/// A format, by the extension of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Ndjson,
    Parquet,
}

/// A table being written in one of the formats.
pub(super) enum Table {
    Csv(Box<CsvTable>),
    Ndjson(NdjsonTable),
    Parquet(Box<ParquetTable>),
}

impl Format {
    /// # Errors
    /// [`ExportError::Extension`].
    pub(super) fn of(path: &Path) -> Result<Format, ExportError> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Ok(Format::Csv),
            "ndjson" => Ok(Format::Ndjson),
            "parquet" => Ok(Format::Parquet),
            _ => Err(ExportError::Extension { file: path.to_owned(), extension }),
        }
    }
}

impl Table {
    pub(super) fn start(format: Format, file: File, schema: &Schema) -> io::Result<Table> {
        Ok(match format {
            Format::Csv => Table::Csv(Box::new(CsvTable::start(file, schema)?)),
            Format::Ndjson => Table::Ndjson(NdjsonTable::start(file)),
            Format::Parquet => Table::Parquet(Box::new(ParquetTable::start(file, schema)?)),
        })
    }

    /// Writes a batch that has been checked against the schema and has `n_rows` rows.
    pub(super) fn write(
        &mut self,
        schema: &Schema,
        batch: Vec<Column>,
        n_rows: usize,
    ) -> io::Result<()> {
        match self {
            Table::Csv(table) => table.write(&batch, n_rows),
            Table::Ndjson(table) => table.write(schema, &batch, n_rows),
            Table::Parquet(table) => table.write(schema, batch, n_rows),
        }
    }

    /// Writes what is left to be written, and all of it out of this process.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Table::Csv(table) => table.finish(),
            Table::Ndjson(table) => table.finish(),
            Table::Parquet(table) => table.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        assert_eq!(Format::of(Path::new("out/a.csv")).unwrap(), Format::Csv);
        assert_eq!(Format::of(Path::new("a.NDJSON")).unwrap(), Format::Ndjson);
        assert_eq!(Format::of(Path::new("a.b.parquet")).unwrap(), Format::Parquet);
    }

    #[test]
    fn an_unknown_extension_is_named_with_those_that_work() {
        assert_eq!(
            Format::of(Path::new("out/a.xlsx")).unwrap_err().to_string(),
            "`out/a.xlsx` has the extension `xlsx`; tables are written as csv, parquet or ndjson"
        );
        for path in ["scores", "csv", ".csv", "scores.", ""] {
            assert!(Format::of(Path::new(path)).is_err(), "{path}");
        }
    }
}
