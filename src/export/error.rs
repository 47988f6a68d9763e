//! Why a table could not be written.

use super::ColumnKind;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A fault of the path, the disk, or the batch handed over.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error(
        "`{}` has the extension `{extension}`; tables are written as csv, parquet or ndjson",
        .file.display()
    )]
    Extension { file: PathBuf, extension: String },
    #[error("cannot write `{}`", .file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("the table has two columns `{column}`")]
    DuplicateColumn { column: String },
    #[error("a batch has {got} columns where the table has {need}")]
    ColumnCount { got: usize, need: usize },
    #[error("a batch has {got} in the column `{column}`, which holds {need}")]
    ColumnKind { column: String, got: ColumnKind, need: ColumnKind },
    #[error("a batch has {got} rows in the column `{column}` and {need} in the first")]
    ColumnLength { column: String, got: usize, need: usize },
    #[error("row {row} of a batch has a number that is not finite in the column `{column}`")]
    NotFinite { column: String, row: usize },
}
