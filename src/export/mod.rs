//! Tables to files, atomically: a reader finds the old file or the whole new one, never a part.
//!
//! `schema` says what a table is, `writer` checks batches and hands them on, `format` chooses by
//! the file's extension, one file per format does the rest, and `atomic` publishes. Memory holds one
//! batch, however long the table. `step` lets tests kill a process between two operations.
//!
//! What is absent: numbers that are not finite. A value that does not exist is `None`, or NaN among
//! floats, which every format can say: an empty field, `null`, a null of Parquet.

mod atomic;
mod csv;
mod error;
mod format;
mod ndjson;
mod parquet;
mod runs;
mod schema;
mod step;
mod writer;

pub use atomic::AtomicFile;
pub use error::ExportError;
pub use runs::{Merged, RunRow, RunRows, Runs};
pub use schema::{Column, ColumnKind, Schema};
#[cfg(test)]
pub(crate) use step::DIE_AT;
pub(crate) use step::step;
pub use writer::TableWriter;
