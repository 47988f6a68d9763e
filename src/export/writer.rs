//! The one way to write a table: create, batches, finish.

use super::atomic::AtomicFile;
use super::format::{Format, Table};
use super::{Column, ExportError, Schema};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

/// A table on its way to a file. Until [`TableWriter::finish`] the file of that name, if there is
/// one, stays as it is; dropped before, the writer leaves nothing behind.
pub struct TableWriter {
    schema: Arc<Schema>,
    file: AtomicFile,
    n_rows: u64,
    /// `None` once it has failed.
    encoding: Option<Encoding>,
}

/// A thread that encodes a batch while the caller makes the next.
struct Encoding {
    batches: SyncSender<(Vec<Column>, usize)>,
    thread: JoinHandle<io::Result<Table>>,
}

impl Encoding {
    fn start(mut table: Table, schema: Arc<Schema>) -> io::Result<Encoding> {
        let (batches, waiting) = mpsc::sync_channel::<(Vec<Column>, usize)>(1);
        let encode = move || {
            for (columns, n_rows) in waiting {
                table.write(&schema, columns, n_rows)?;
            }
            Ok(table)
        };
        let thread = thread::Builder::new().name("encoding".into()).spawn(encode)?;
        Ok(Encoding { batches, thread })
    }

    /// The table with all batches, or why there is none.
    fn end(self) -> io::Result<Table> {
        drop(self.batches);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread that encodes it stopped")))
    }
}

impl TableWriter {
    /// Starts a table in the format of the path's extension: `csv`, `parquet` or `ndjson`.
    ///
    /// # Errors
    /// [`ExportError::Extension`], [`ExportError::DuplicateColumn`], or [`ExportError::Io`] where
    /// the directory cannot be written to.
    pub fn create(path: &Path, schema: Schema) -> Result<TableWriter, ExportError> {
        let format = Format::of(path)?;
        schema.check_names()?;
        let failed = |source| io_error(path, source);
        let file = AtomicFile::create(path).map_err(failed)?;
        let handle = file.handle().map_err(failed)?;
        let table = Table::start(format, handle, &schema).map_err(failed)?;
        let schema = Arc::new(schema);
        let encoding = Encoding::start(table, Arc::clone(&schema)).map_err(failed)?;
        Ok(TableWriter { schema, file, n_rows: 0, encoding: Some(encoding) })
    }

    /// Appends a batch: the columns of the schema, all of the same length. That the disk refuses it may
    /// be told by a later call only. After an [`ExportError::Io`] the writer is to be dropped.
    ///
    /// # Errors
    /// [`ExportError`] where the batch does not fit the schema, then nothing of it is written, or
    /// the disk refuses it or one before.
    pub fn write(&mut self, columns: Vec<Column>) -> Result<(), ExportError> {
        let n_rows = self.schema.check_batch(&columns)?;
        let encoding = self.encoding.as_ref();
        if encoding.is_none_or(|encoding| encoding.batches.send((columns, n_rows)).is_err()) {
            let source = self.failure();
            return Err(io_error(self.file.target(), source));
        }
        self.n_rows += n_rows as u64;
        Ok(())
    }

    /// Publishes the file under its name and returns how many rows it has.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn finish(self) -> Result<u64, ExportError> {
        let TableWriter { file, n_rows, encoding, .. } = self;
        let target = file.target().to_owned();
        encoding
            .ok_or_else(failed_before)
            .and_then(Encoding::end)
            .and_then(Table::finish)
            .and_then(|()| file.publish())
            .map_err(|source| io_error(&target, source))?;
        Ok(n_rows)
    }

    /// Why the thread takes no more batches.
    fn failure(&mut self) -> io::Error {
        let ended = self.encoding.take().map(Encoding::end);
        ended.and_then(Result::err).unwrap_or_else(failed_before)
    }
}

fn failed_before() -> io::Error {
    io::Error::other("writing failed before")
}

fn io_error(file: &Path, source: io::Error) -> ExportError {
    ExportError::Io { file: file.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::super::ColumnKind;
    use super::*;
    use polars::prelude::{ParquetReader, SerReader};
    use std::fs::{self, File};

    fn schema() -> Schema {
        Schema::new([
            ("id", ColumnKind::Text),
            ("churn_probability", ColumnKind::Float),
            ("n_orders", ColumnKind::Integer),
            ("segment_noise", ColumnKind::Boolean),
        ])
    }

    fn batches() -> [Vec<Column>; 2] {
        [
            vec![
                Column::Text(vec![Some("a,\"b\"".into()), None]),
                Column::Float(vec![0.1, f64::NAN]),
                Column::Integer(vec![Some(-3), None]),
                Column::Boolean(vec![Some(true), None]),
            ],
            vec![
                Column::Text(vec![Some("ü\n".into())]),
                Column::Float(vec![12.0]),
                Column::Integer(vec![Some(i64::MAX)]),
                Column::Boolean(vec![Some(false)]),
            ],
        ]
    }

    fn written(path: &Path) -> u64 {
        let mut writer = TableWriter::create(path, schema()).unwrap();
        for batch in batches() {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap()
    }

    fn names_in(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn csv_has_a_header_and_empty_fields_for_nulls() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.csv");
        assert_eq!(written(&path), 3);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "id,churn_probability,n_orders,segment_noise\n\"a,\"\"b\"\"\",0.1,-3,true\n,,,\n\
             \"ü\n\",12,9223372036854775807,false\n"
        );
    }

    #[test]
    fn ndjson_has_its_keys_in_order_and_null_for_nulls() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.ndjson");
        assert_eq!(written(&path), 3);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"id":"a,\"b\"","churn_probability":0.1,"n_orders":-3,"segment_noise":true}"#,
                r#"{"id":null,"churn_probability":null,"n_orders":null,"segment_noise":null}"#,
                concat!(
                    r#"{"id":"ü\n","churn_probability":12.0,"n_orders":9223372036854775807,"#,
                    r#""segment_noise":false}"#
                ),
            ]
        );
    }

    #[test]
    fn parquet_reads_back_with_its_nulls() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.parquet");
        assert_eq!(written(&path), 3);
        let frame = ParquetReader::new(File::open(&path).unwrap()).finish().unwrap();
        let names: Vec<&str> =
            frame.get_column_names().into_iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["id", "churn_probability", "n_orders", "segment_noise"]);
        let ids = frame.column("id").unwrap().str().unwrap();
        let churn = frame.column("churn_probability").unwrap().f64().unwrap();
        let orders = frame.column("n_orders").unwrap().i64().unwrap();
        let noise = frame.column("segment_noise").unwrap().bool().unwrap();
        let rows: Vec<_> = (0..3)
            .map(|row| (ids.get(row), churn.get(row), orders.get(row), noise.get(row)))
            .collect();
        assert_eq!(
            rows,
            [
                (Some("a,\"b\""), Some(0.1), Some(-3), Some(true)),
                (None, None, None, None),
                (Some("ü\n"), Some(12.0), Some(i64::MAX), Some(false)),
            ]
        );
    }

    #[test]
    fn a_table_without_rows_has_its_columns() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["none.csv", "none.ndjson", "none.parquet"] {
            let writer = TableWriter::create(&directory.path().join(name), schema()).unwrap();
            assert_eq!(writer.finish().unwrap(), 0);
        }
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(text("none.csv"), "id,churn_probability,n_orders,segment_noise\n");
        assert_eq!(text("none.ndjson"), "");
        let file = File::open(directory.path().join("none.parquet")).unwrap();
        assert_eq!(ParquetReader::new(file).finish().unwrap().shape(), (0, 4));
    }

    #[test]
    fn a_dropped_writer_leaves_the_old_file_and_nothing_else() {
        for name in ["scores.csv", "scores.ndjson", "scores.parquet"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            fs::write(&path, "old").unwrap();
            let mut writer = TableWriter::create(&path, schema()).unwrap();
            for batch in batches() {
                writer.write(batch).unwrap();
            }
            drop(writer);
            assert_eq!(names_in(directory.path()), [name]);
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        }
    }

    #[test]
    fn a_finished_writer_replaces_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.csv");
        fs::write(&path, "old").unwrap();
        written(&path);
        assert!(fs::read_to_string(&path).unwrap().starts_with("id,"));
        assert_eq!(names_in(directory.path()), ["scores.csv"]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_at_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        fs::create_dir(directory.path().join("taken.csv")).unwrap();
        for name in ["absent/scores.csv", "file/scores.csv", "taken.csv"] {
            let path = directory.path().join(name);
            let error = TableWriter::create(&path, schema()).err().unwrap();
            assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused_and_the_table_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scores.csv");
        let mut writer = TableWriter::create(&path, schema()).unwrap();
        assert!(matches!(writer.write(vec![]), Err(ExportError::ColumnCount { got: 0, need: 4 })));
        let [batch, _] = batches();
        writer.write(batch).unwrap();
        assert_eq!(writer.finish().unwrap(), 2);
    }
}
