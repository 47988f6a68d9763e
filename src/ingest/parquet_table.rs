//! A Parquet file that is open, in windows of rows, so that memory holds the wanted columns of one
//! window.

use super::parquet_cells::Cells;
use super::{Example, IngestError, excerpt};
use crate::panics::caught;
use csv::ByteRecord;
use habitus_engine::domain::RawValue;
use polars::prelude::{
    ArrowDataType, DataFrame, DataType, FileMetadata, FileMetadataRef, Float64Chunked,
    ParallelStrategy, ParquetReader, PolarsError, PolarsResult, SerReader,
};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How many rows are decoded at once.
pub(super) const WINDOW_ROWS: usize = 1 << 17;

/// A file that is open, and what it says of itself.
pub(super) struct Table {
    /// What messages call it.
    pub(super) file: String,
    pub(super) n_bytes: u64,
    /// All rows, in the order of the file.
    pub(super) windows: Vec<Window>,
    input: File,
    n_rows: u64,
    /// Every column by its name.
    columns: Vec<(String, ArrowDataType)>,
}

impl Table {
    /// Opens a file and reads what stands beside its rows.
    ///
    /// # Errors
    /// [`IngestError`] where the file cannot be read, is empty or no Parquet file.
    pub(super) fn open(path: &Path) -> Result<Table, IngestError> {
        let file = path.display().to_string();
        let failed = |source: io::Error| IngestError::Io { file: file.clone(), source };
        let mut input = File::open(path).map_err(failed)?;
        let n_bytes = input.metadata().map_err(failed)?.len();
        if n_bytes == 0 {
            return Err(IngestError::Empty { file });
        }
        let (schema, metadata) = decoded(&file, || {
            let mut reader = ParquetReader::new(&mut input);
            Ok((reader.schema()?, (**reader.get_metadata()?).clone()))
        })?;
        let columns =
            schema.iter().map(|(name, found)| (name.to_string(), found.dtype().clone())).collect();
        let n_rows = metadata.num_rows as u64;
        Ok(Table { file, n_bytes, windows: windows(metadata), input, n_rows, columns })
    }

    /// Every column by its name, in the order of the file.
    pub(super) fn columns(&self) -> &[(String, ArrowDataType)] {
        &self.columns
    }

    /// The names of all columns.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Refuses a mapped column whose type is not readable.
    ///
    /// # Errors
    /// [`IngestError::ColumnType`].
    pub(super) fn check(
        &self,
        mapped: &[(&'static str, &str)],
        is_readable: fn(&ArrowDataType) -> bool,
    ) -> Result<(), IngestError> {
        for &(field, column) in mapped {
            let named = self.columns.iter().find(|(name, _)| name == column);
            if let Some((_, found)) = named.filter(|(_, found)| !is_readable(found)) {
                let (file, column) = (self.file.clone(), column.to_owned());
                let found = excerpt::printable(&format!("{found:?}"));
                return Err(IngestError::ColumnType { file, field, column, found });
            }
        }
        Ok(())
    }

    /// The named columns in one window.
    ///
    /// # Errors
    /// [`IngestError::Parquet`].
    pub(super) fn cells(
        &self,
        window: &Window,
        names: &[String],
    ) -> Result<Vec<Cells>, IngestError> {
        decoded(&self.file, || window.cells(&self.input, names))
    }

    /// The named columns in one window, whose types must be those of numbers.
    ///
    /// # Errors
    /// [`IngestError::Parquet`].
    pub(super) fn numbers(
        &self,
        window: &Window,
        names: &[String],
    ) -> Result<Vec<Float64Chunked>, IngestError> {
        decoded(&self.file, || window.numbers(&self.input, names))
    }

    /// One row of a window, to be shown.
    pub(super) fn example(&self, window: &Window, cells: &[Cells], index: usize) -> Example {
        let line = window.first_row + index as u64;
        Example { file: self.file.clone(), line, text: shown(cells, index) }
    }

    /// How many bytes of the file are behind whoever has read this window, by its rows.
    pub(super) fn bytes_through(&self, window: &Window) -> u64 {
        let read = window.first_row + window.length as u64 - 1;
        (u128::from(self.n_bytes) * u128::from(read) / u128::from(self.n_rows.max(1))) as u64
    }
}

/// Does what polars may break down over, where the file is damaged.
fn decoded<T>(file: &str, decode: impl FnOnce() -> PolarsResult<T>) -> Result<T, IngestError> {
    let done = caught(|| decode().map_err(io::Error::other)).unwrap_or_else(|panic| {
        let told = format!("the reader broke down over a page: {}", panic.told());
        Err(io::Error::other(told))
    });
    done.map_err(|source| IngestError::Parquet { file: file.to_owned(), source })
}

/// Some rows of one row group.
pub(super) struct Window {
    /// As if the group were the whole file, because the reader would look into all of them for every
    /// window.
    metadata: FileMetadataRef,
    /// Of the group.
    start: usize,
    pub(super) length: usize,
    /// Of the file, counted from 1.
    first_row: u64,
}

fn windows(mut metadata: FileMetadata) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut first_row = 1;
    for group in std::mem::take(&mut metadata.row_groups) {
        let mut alone = metadata.clone();
        alone.num_rows = group.num_rows();
        alone.row_groups = vec![group];
        let alone = Arc::new(alone);
        for start in (0..alone.num_rows).step_by(WINDOW_ROWS) {
            let length = WINDOW_ROWS.min(alone.num_rows - start);
            windows.push(Window { metadata: Arc::clone(&alone), start, length, first_row });
            first_row += length as u64;
        }
    }
    windows
}

impl Window {
    /// Its rows, counted from 0 over the file.
    pub(super) fn rows(&self) -> Range<usize> {
        let start = self.first_row as usize - 1;
        start..start + self.length
    }

    /// Those of its rows that are among these of the file; `None` where there is none.
    pub(super) fn part(&self, rows: &Range<usize>) -> Option<Window> {
        let own = self.rows();
        let (from, to) = (own.start.max(rows.start), own.end.min(rows.end));
        (from < to).then(|| Window {
            metadata: Arc::clone(&self.metadata),
            start: self.start + (from - own.start),
            length: to - from,
            first_row: from as u64 + 1,
        })
    }

    /// The named columns.
    fn cells(&self, input: &File, names: &[String]) -> PolarsResult<Vec<Cells>> {
        let frame = self.frame(input, names)?;
        let cells = |name: &String| {
            let series = frame.column(name)?.as_materialized_series();
            // Truth values come as far as here only where they are wanted, and then as words.
            match series.dtype() {
                DataType::Boolean => Cells::of(&series.cast(&DataType::String)?),
                _ => Cells::of(series),
            }
        };
        names.iter().map(cells).collect()
    }

    /// The named columns as the nearest numbers of 64 bits.
    fn numbers(&self, input: &File, names: &[String]) -> PolarsResult<Vec<Float64Chunked>> {
        let frame = self.frame(input, names)?;
        let numbers = |name: &String| -> PolarsResult<Float64Chunked> {
            let series = frame.column(name)?.as_materialized_series();
            Ok(series.cast(&DataType::Float64)?.f64()?.clone())
        };
        names.iter().map(numbers).collect()
    }

    /// The named columns, decoded.
    fn frame(&self, input: &File, names: &[String]) -> PolarsResult<DataFrame> {
        // The file is mapped; a buffer would only be in the way. Decoding on this thread keeps polars
        // from starting a pool of its own beside ours.
        let mut reader = ParquetReader::new(BufReader::with_capacity(0, input))
            .read_parallel(ParallelStrategy::None)
            .with_columns(Some(names.to_vec()))
            .with_slice(Some((self.start, self.length)));
        reader.set_metadata(Arc::clone(&self.metadata));
        let frame = reader.finish()?;
        // A damaged file may hold fewer rows than it says.
        if frame.columns().iter().any(|column| column.len() != self.length) {
            let reason = "a column has fewer rows than its row group";
            return Err(PolarsError::ComputeError(reason.into()));
        }
        Ok(frame)
    }
}

/// The mapped fields of a row, as a CSV file would have them.
fn shown(columns: &[Cells], index: usize) -> String {
    let mut record = ByteRecord::new();
    for cells in columns {
        let text = match cells.at(index) {
            None => Cow::Borrowed(""),
            // The blanks around a text may be what is wrong with it.
            Some(RawValue::Text(text)) => Cow::Borrowed(text),
            Some(value) => value.text(),
        };
        record.push_field(text.as_bytes());
    }
    excerpt::row(&record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{IntoSeries, NamedFrom, Series, TimeUnit, TimeZone};

    #[test]
    fn a_typed_row_is_shown_as_text() {
        let time = |zone: Option<TimeZone>| {
            let ms = Series::new("time".into(), &[852_163_200_500i64][..]);
            ms.i64().unwrap().clone().into_datetime(TimeUnit::Milliseconds, zone).into_series()
        };
        let row = [
            Series::new("id".into(), &[" 7, "][..]),
            Series::new("amount".into(), &[-2.5f64][..]),
            Series::new("quantity".into(), &[3i32][..]),
            Series::new("day".into(), &[9_863i32][..]).cast(&DataType::Date).unwrap(),
            time(None),
            time(Some(TimeZone::UTC)),
        ];
        let columns: Vec<Cells> = row.iter().map(|series| Cells::of(series).unwrap()).collect();
        let expected = "\" 7, \",-2.5,3,1997-01-02,1997-01-02T00:00:00.5,1997-01-02T00:00:00.5Z";
        assert_eq!(shown(&columns, 0), expected);
    }

    /// polars takes some damaged pages at their word.
    #[test]
    fn a_reader_that_breaks_down_is_told_with_its_file() {
        let error = decoded("log.parquet", || -> PolarsResult<()> { panic!("a page of nonsense") });
        let Err(IngestError::Parquet { file, source }) = error else { panic!("no error") };
        assert_eq!(file, "log.parquet");
        assert!(source.to_string().contains("broke down over a page: a page of nonsense"));
    }
}
