//! Why a log could not be read at all. What is wrong with single rows is counted, not raised.

use std::io;
use thiserror::Error;

/// A fault of the command line, the column map or a whole file.
#[derive(Debug, Error)]
pub enum IngestError {
    #[error("`{pattern}` is no pattern for file names")]
    Pattern { pattern: String, source: glob::PatternError },
    #[error("no file matches `{pattern}`")]
    NoMatch { pattern: String },
    #[error("cannot read `{file}`")]
    Io { file: String, source: io::Error },
    #[error("the customers file says two different things of the customer `{customer}`")]
    TwoCustomers { customer: String },
    #[error("rows that do not fit into memory could not be kept on disk")]
    Spill { source: io::Error },
    #[error("`{file}` is empty: it has neither a header nor a row")]
    Empty { file: String },
    #[error(
        "`{file}`: a quotation mark in line {line} is never closed and takes the last {n_lines} lines"
    )]
    UnclosedQuote { file: String, line: u64, n_lines: usize },
    #[error(
        "`{file}` has no column `{column}`, which should hold the {field}; its columns are: {}",
        .present.join(", ")
    )]
    MissingColumn { file: String, field: &'static str, column: String, present: Vec<String> },
    #[error(
        "`{file}` names the column `{column}`, which should hold the {field}, more than once; \
         its columns are: {}",
        .present.join(", ")
    )]
    DuplicateColumn { file: String, field: &'static str, column: String, present: Vec<String> },
    #[error("`{file}` cannot be read as Parquet")]
    Parquet { file: String, source: io::Error },
    #[error(
        "`{file}` has the column `{column}`, which should hold the {field}, \
         in the type {found}, which is no text, number or time"
    )]
    ColumnType { file: String, field: &'static str, column: String, found: String },
    #[error("`{file}` has no row")]
    NoRows { file: String },
    #[error("`{file}` has no column of numbers; its columns are: {}", .present.join(", "))]
    NoNumbers { file: String, present: Vec<String> },
    #[error("`{file}` has the column `{column}` in the type {found}, which is no number")]
    NotNumeric { file: String, column: String, found: String },
    #[error("`{file}`: row {row} of the column `{column}` is not finite, or too large")]
    NotFinite { file: String, column: String, row: u64 },
}
