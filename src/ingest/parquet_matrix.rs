//! A Parquet file of numbers as rows that models read chunk by chunk, however large the file is.
//!
//! polars passes over the pages of a row group that a slice does not touch, but a page that it
//! touches is unpacked as a whole, and may hold many chunks. So windows of many chunks are decoded at
//! once, as far as the bound on memory allows, and the last few are kept as the scaled rows that
//! became of them. What lies in one chunk alone is not kept, because no other chunk asks for it.

use super::parquet_cells::is_readable;
use super::parquet_table::{Table, WINDOW_ROWS, Window};
use super::{IngestError, excerpt};
use habitus_engine::matrix::{CHUNK_ROWS, RowSource, ScaledMatrix, SourceError};
use polars::prelude::ArrowDataType;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The column that says whose rows they are, where there is one. It is never clustered on unless
/// asked for.
pub const ID_COLUMN: &str = "customer_id";

/// Bytes that a fit keeps of each row besides its values.
const BESIDE_VALUES: u64 = 16;
/// Bytes that a value takes on its way from the file: as it is there, in 64 bits, scaled, and kept.
const ON_THE_WAY: u64 = 24;
/// Larger numbers could not be squared and added, in the 64 bits of the first pass ...
const LARGEST_SCALED: f64 = 1e100;
/// ... and in the 32 bits of a fit.
const LARGEST_PLAIN: f64 = 1e15;

/// How a matrix is read.
#[derive(Debug, Clone, Copy)]
pub struct MatrixReading<'a> {
    /// The columns, in this order; all that hold numbers where left out.
    pub columns: Option<&'a [String]>,
    /// Whether columns are brought to variance 1; to mean 0 they are in any case.
    pub standardize: bool,
    /// Bytes that may be taken, roughly.
    pub limit: u64,
}

/// A column, and what the first pass found in it.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixColumn {
    pub name: String,
    /// Of the numbers that are there; 0 where there is none.
    pub mean: f64,
    /// Of the population.
    pub std: f64,
    /// Rows without a number, which count as the mean.
    pub n_missing: u64,
    /// What is taken from a number, and what the rest is divided by.
    shift: f64,
    scale: f64,
}

impl MatrixColumn {
    /// A scaled value in the column's own unit.
    pub fn unscaled(&self, value: f64) -> f64 {
        self.shift + value * self.scale
    }

    fn scaled(&self, number: f64) -> f32 {
        ((number - self.shift) / self.scale) as f32
    }
}

/// An open file of numbers.
pub struct ParquetMatrix {
    table: Table,
    n_rows: usize,
    columns: Vec<MatrixColumn>,
    /// Of the columns, as the reader takes them.
    names: Vec<String>,
    has_ids: bool,
    recent: Recent,
}

impl ParquetMatrix {
    /// Opens a file and looks at all of it once.
    ///
    /// # Errors
    /// [`IngestError`] where the file cannot be read, is empty or no Parquet file, where a column is
    /// missing or holds no numbers, or a number is infinite or too large.
    pub fn open(path: &Path, reading: &MatrixReading<'_>) -> Result<ParquetMatrix, IngestError> {
        let mut table = Table::open(path)?;
        let n_rows = table.windows.last().map_or(0, |window| window.rows().end);
        if n_rows == 0 {
            return Err(IngestError::NoRows { file: table.file });
        }
        let names = chosen(&table, reading.columns)?;
        let n_threads = rayon::current_num_threads();
        let limit = reading.limit.saturating_sub(BESIDE_VALUES * n_rows as u64);
        let n_at_once = rows_at_once(limit, names.len(), n_threads);
        table.windows = table.windows.iter().flat_map(|window| pieces(window, n_at_once)).collect();
        let columns = surveyed(&table, &names, reading.standardize)?;
        let is_id =
            |(name, found): &(String, ArrowDataType)| name == ID_COLUMN && is_readable(found);
        let has_ids = table.columns().iter().any(is_id);
        // Each thread is in one window, or between two.
        let recent = Recent { most: n_threads + 1, kept: Mutex::default() };
        Ok(ParquetMatrix { table, n_rows, columns, names, has_ids, recent })
    }

    /// The columns, `(n_features,)`.
    pub fn columns(&self) -> &[MatrixColumn] {
        &self.columns
    }

    /// Whether all rows, and what a fit keeps beside them, are within so many bytes.
    pub fn fits(&self, limit: u64) -> bool {
        let of_row = 4 * self.columns.len() as u64 + BESIDE_VALUES;
        of_row.saturating_mul(self.n_rows as u64) <= limit
    }

    /// All rows in memory, the same to the bit as chunk by chunk.
    ///
    /// # Errors
    /// [`SourceError`] where they cannot be read.
    pub fn read_all(&self) -> Result<ScaledMatrix, SourceError> {
        let d = self.columns.len();
        let mut values = vec![0.0_f32; self.n_rows * d];
        values.par_chunks_mut(CHUNK_ROWS * d).enumerate().try_for_each_init(
            Vec::new,
            |buffer, (index, to)| -> Result<(), SourceError> {
                to.copy_from_slice(self.chunk(index, buffer)?);
                Ok(())
            },
        )?;
        Ok(ScaledMatrix::new(d, values))
    }

    /// Whether there is a column [`ID_COLUMN`].
    pub fn has_ids(&self) -> bool {
        self.has_ids
    }

    /// The ids in the rows of chunk `index`; none where there is no column of them.
    ///
    /// # Errors
    /// [`IngestError::Parquet`].
    pub fn ids(&self, index: usize) -> Result<Vec<Option<String>>, IngestError> {
        let mut ids = Vec::new();
        if !self.has_ids {
            return Ok(ids);
        }
        let rows = self.rows_of(index);
        for (_, window) in self.windows_over(&rows) {
            let Some(part) = window.part(&rows) else { continue };
            for cells in self.table.cells(&part, &[ID_COLUMN.to_owned()])? {
                let id = |row| cells.at(row).map(|id| id.text().into_owned());
                ids.extend((0..part.length).map(id));
            }
        }
        Ok(ids)
    }

    /// The rows of a chunk, counted over the file.
    fn rows_of(&self, index: usize) -> Range<usize> {
        let start = index.saturating_mul(CHUNK_ROWS).min(self.n_rows);
        start..self.n_rows.min(start + CHUNK_ROWS)
    }

    /// The windows that hold some of these rows, with their places.
    fn windows_over(&self, rows: &Range<usize>) -> impl Iterator<Item = (usize, &Window)> {
        let (start, end) = (rows.start, rows.end);
        let first = self.table.windows.partition_point(|window| window.rows().end <= start);
        let from_first = (first..).zip(&self.table.windows[first..]);
        from_first.take_while(move |(_, window)| window.rows().start < end)
    }

    /// Puts the scaled rows of a chunk into `buffer`.
    fn read(&self, index: usize, buffer: &mut Vec<f32>) -> Result<(), IngestError> {
        let d = self.columns.len();
        let rows = self.rows_of(index);
        buffer.clear();
        for (place, window) in self.windows_over(&rows) {
            let here = window.rows();
            if rows.start <= here.start && here.end <= rows.end {
                self.decode(window, buffer)?;
            } else {
                let block = self.block(place)?;
                let from = rows.start.max(here.start) - here.start;
                let to = rows.end.min(here.end) - here.start;
                buffer.extend_from_slice(&block[from * d..to * d]);
            }
        }
        Ok(())
    }

    /// The scaled rows of a window, kept for whoever asks next.
    fn block(&self, place: usize) -> Result<Arc<Vec<f32>>, IngestError> {
        if let Some(block) = self.recent.get(place) {
            return Ok(block);
        }
        // Not under the lock: others would wait, and two that decode the same give the same.
        let mut rows = Vec::new();
        self.decode(&self.table.windows[place], &mut rows)?;
        let block = Arc::new(rows);
        self.recent.put(place, Arc::clone(&block));
        Ok(block)
    }

    /// Appends the scaled rows of a window.
    fn decode(&self, window: &Window, to: &mut Vec<f32>) -> Result<(), IngestError> {
        let numbers = self.table.numbers(window, &self.names)?;
        let d = self.columns.len();
        let start = to.len();
        to.resize(start + window.length * d, 0.0);
        for (place, (column, numbers)) in self.columns.iter().zip(&numbers).enumerate() {
            for (row, number) in to[start..].chunks_exact_mut(d).zip(numbers.iter()) {
                let number = number.filter(|number| !number.is_nan());
                row[place] = column.scaled(number.unwrap_or(column.mean));
            }
        }
        Ok(())
    }
}

impl RowSource for ParquetMatrix {
    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn n_features(&self) -> usize {
        self.columns.len()
    }

    fn chunk<'a>(
        &'a self,
        index: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Result<&'a [f32], SourceError> {
        if index >= self.n_chunks() {
            return Err(SourceError(format!("no chunk {index}")));
        }
        self.read(index, buffer).map_err(|error| told(&error))?;
        Ok(buffer.as_slice())
    }
}

/// An error with its causes, because a source tells a text alone.
fn told(error: &IngestError) -> SourceError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    SourceError(text)
}

/// How many rows each thread may decode at once: whole chunks, at least one.
fn rows_at_once(limit: u64, n_columns: usize, n_threads: usize) -> usize {
    let of_row = ON_THE_WAY * n_columns.max(1) as u64 * n_threads.max(1) as u64;
    let affordable = usize::try_from(limit / of_row).unwrap_or(WINDOW_ROWS);
    (affordable / CHUNK_ROWS * CHUNK_ROWS).clamp(CHUNK_ROWS, WINDOW_ROWS)
}

/// A window in pieces of at most so many rows.
fn pieces(window: &Window, n_rows: usize) -> impl Iterator<Item = Window> {
    let rows = window.rows();
    let starts = rows.clone().step_by(n_rows);
    starts.filter_map(move |start| window.part(&(start..rows.end.min(start + n_rows))))
}

/// The names of the columns that are asked for.
fn chosen(table: &Table, asked: Option<&[String]>) -> Result<Vec<String>, IngestError> {
    let columns = table.columns();
    let file = || table.file.clone();
    let present =
        || -> Vec<String> { columns.iter().map(|(name, _)| excerpt::printable(name)).collect() };
    let Some(asked) = asked else {
        let wanted = columns.iter().filter(|(name, found)| name != ID_COLUMN && is_number(found));
        let names: Vec<String> = wanted.map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return Err(IngestError::NoNumbers { file: file(), present: present() });
        }
        return Ok(names);
    };
    for column in asked {
        let column = column.clone();
        match columns.iter().find(|(name, _)| *name == column) {
            None => {
                let (file, present) = (file(), present());
                return Err(IngestError::MissingColumn { file, field: "numbers", column, present });
            }
            Some((_, found)) if !is_number(found) => {
                let found = excerpt::printable(&format!("{found:?}"));
                return Err(IngestError::NotNumeric { file: file(), column, found });
            }
            Some(_) => {}
        }
    }
    Ok(asked.to_vec())
}

fn is_number(found: &ArrowDataType) -> bool {
    use ArrowDataType as Type;
    matches!(
        found,
        Type::Int8
            | Type::Int16
            | Type::Int32
            | Type::Int64
            | Type::UInt8
            | Type::UInt16
            | Type::UInt32
            | Type::UInt64
            | Type::Float32
            | Type::Float64
            | Type::Decimal(..)
    )
}

/// Looks at every column once, several at a time. Each is read from the first row to the last, so
/// that its sums depend neither on threads nor on where row groups end.
fn surveyed(
    table: &Table,
    names: &[String],
    standardize: bool,
) -> Result<Vec<MatrixColumn>, IngestError> {
    let largest = if standardize { LARGEST_SCALED } else { LARGEST_PLAIN };
    let survey = |name: &String| -> Result<MatrixColumn, IngestError> {
        let mut seen = Seen::default();
        for window in &table.windows {
            for numbers in table.numbers(window, std::slice::from_ref(name))? {
                for number in numbers.iter() {
                    seen.see(number.filter(|number| !number.is_nan()));
                    // An infinite number is larger, too.
                    if number.is_some_and(|number| number.abs() > largest) {
                        let (file, column) = (table.file.clone(), name.clone());
                        return Err(IngestError::NotFinite { file, column, row: seen.n_rows });
                    }
                }
            }
        }
        Ok(seen.column(name.clone(), standardize))
    };
    let surveyed: Vec<Result<MatrixColumn, IngestError>> = names.par_iter().map(survey).collect();
    // The first column that is faulty is told, whichever was seen to be first.
    surveyed.into_iter().collect()
}

/// What has been seen of a column. Deviations from its first number stay exact where the mean is far
/// from zero.
#[derive(Default)]
struct Seen {
    first: Option<f64>,
    n_rows: u64,
    n_missing: u64,
    /// Of deviations and their squares: over finished chunks, and since.
    sums: [f64; 2],
    of_chunk: [f64; 2],
}

impl Seen {
    fn see(&mut self, number: Option<f64>) {
        self.n_rows += 1;
        match number {
            None => self.n_missing += 1,
            Some(number) => {
                let deviation = number - *self.first.get_or_insert(number);
                self.of_chunk[0] += deviation;
                self.of_chunk[1] += deviation * deviation;
            }
        }
        if self.n_rows.is_multiple_of(CHUNK_ROWS as u64) {
            self.end_chunk();
        }
    }

    fn end_chunk(&mut self) {
        let [sum, square] = std::mem::take(&mut self.of_chunk);
        self.sums[0] += sum;
        self.sums[1] += square;
    }

    fn column(mut self, name: String, standardize: bool) -> MatrixColumn {
        self.end_chunk();
        let n = (self.n_rows - self.n_missing).max(1) as f64;
        let [sum, square] = self.sums;
        let mean = self.first.unwrap_or(0.0) + sum / n;
        let std = ((square - sum * sum / n) / n).max(0.0).sqrt();
        let (shift, scale) = match standardize {
            // A column of one number stays as it is, at zero.
            true => (mean, if std > 0.0 { std } else { 1.0 }),
            // Far from zero single floats are coarse, and where zero lies means nothing to clusters.
            false => (mean, 1.0),
        };
        MatrixColumn { name, mean, std, n_missing: self.n_missing, shift, scale }
    }
}

/// Scaled rows of windows, by their places.
type Blocks = VecDeque<(usize, Arc<Vec<f32>>)>;

/// The windows that were decoded last.
struct Recent {
    most: usize,
    /// From the one that was not asked for longest to the latest.
    kept: Mutex<Blocks>,
}

impl Recent {
    fn get(&self, place: usize) -> Option<Arc<Vec<f32>>> {
        let mut kept = self.kept();
        let index = kept.iter().position(|(of, _)| *of == place)?;
        let found = kept.remove(index)?;
        let block = Arc::clone(&found.1);
        kept.push_back(found);
        Some(block)
    }

    fn put(&self, place: usize, block: Arc<Vec<f32>>) {
        let mut kept = self.kept();
        kept.retain(|(of, _)| *of != place);
        kept.push_back((place, block));
        while kept.len() > self.most {
            kept.pop_front();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Blocks> {
        // Nothing is half done while it is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::parquet;
    use super::*;
    use polars::prelude::{DataType, NamedFrom, Series};

    const PLAIN: MatrixReading<'static> =
        MatrixReading { columns: None, standardize: false, limit: 2_000_000_000 };
    const SCALED: MatrixReading<'static> = MatrixReading { standardize: true, ..PLAIN };

    fn opened(
        columns: Vec<Series>,
        rows_per_group: usize,
        reading: &MatrixReading<'_>,
    ) -> Result<ParquetMatrix, IngestError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("matrix.parquet");
        parquet(&path, columns, Some(rows_per_group));
        // The file stays readable through the handle when its name is gone.
        ParquetMatrix::open(&path, reading)
    }

    fn bits(matrix: &ScaledMatrix) -> Vec<u32> {
        matrix.values().iter().map(|value| value.to_bits()).collect()
    }

    /// 30,000 rows of two columns, every seventh of the second missing.
    fn many() -> Vec<Series> {
        let first: Vec<i64> = (0..30_000).collect();
        let second: Vec<Option<f64>> = (0..30_000_u32)
            .map(|row| (row % 7 > 0).then(|| f64::from(row.wrapping_mul(2_654_435_761)) / 7.0))
            .collect();
        let ids: Vec<String> = (0..30_000).map(|row| format!("c{row}")).collect();
        vec![
            Series::new("first".into(), first),
            Series::new(ID_COLUMN.into(), ids),
            Series::new("second".into(), second),
        ]
    }

    #[test]
    fn numbers_of_every_type_are_scaled_and_what_is_missing_is_the_mean() {
        let columns = vec![
            Series::new("a".into(), &[Some(1.0f64), Some(3.0), None, Some(f64::NAN)][..]),
            Series::new("b".into(), &[2i64, 4, 6, 8][..]),
            Series::new("c".into(), &[0.5f32; 4][..]),
            Series::new("text".into(), &["x"; 4][..]),
            Series::new("d".into(), &[None::<f64>; 4][..]),
        ];
        let matrix = opened(columns.clone(), 3, &SCALED).unwrap();
        let names: Vec<&str> = matrix.columns().iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        let [a, b, c, d] = matrix.columns() else { panic!("{names:?}") };
        assert_eq!((a.mean, a.std, a.n_missing), (2.0, 1.0, 2));
        assert_eq!((b.mean, b.std, b.n_missing), (5.0, 5.0_f64.sqrt(), 0));
        assert_eq!((c.mean, c.std, c.n_missing), (0.5, 0.0, 0));
        assert_eq!((d.mean, d.std, d.n_missing), (0.0, 0.0, 4));
        assert_eq!((a.unscaled(-1.0), c.unscaled(0.0)), (1.0, 0.5));
        let far = (3.0 / 5.0_f64.sqrt()) as f32;
        let near = (1.0 / 5.0_f64.sqrt()) as f32;
        assert_eq!(
            matrix.read_all().unwrap().values(),
            [-1.0, -far, 0.0, 0.0, 1.0, -near, 0.0, 0.0, 0.0, near, 0.0, 0.0, 0.0, far, 0.0, 0.0]
        );
        let asked = ["b".to_owned(), "a".to_owned()];
        let plain = MatrixReading { columns: Some(&asked), ..PLAIN };
        let matrix = opened(columns, 3, &plain).unwrap();
        let rows = matrix.read_all().unwrap();
        assert_eq!(rows.values(), [-3.0, -1.0, -1.0, 1.0, 1.0, 0.0, 3.0, 0.0]);
    }

    #[test]
    fn small_types_and_decimals_are_numbers() {
        for number in [
            DataType::Int8,
            DataType::Int16,
            DataType::UInt8,
            DataType::UInt32,
            DataType::Decimal(12, 2),
        ] {
            let numbers = Series::new("x".into(), &[1i64, 2][..]).cast(&number).unwrap();
            let matrix = opened(vec![numbers], 2, &PLAIN).unwrap();
            assert_eq!(matrix.read_all().unwrap().values(), [-0.5, 0.5], "{number:?}");
        }
    }

    #[test]
    fn chunks_are_the_same_however_groups_and_windows_end() {
        for reading in [PLAIN, SCALED] {
            let whole = opened(many(), 30_000, &reading).unwrap();
            let (columns, expected) = (whole.columns().to_vec(), whole.read_all().unwrap());
            for (rows_per_group, limit) in [(20_000, 0), (7_000, u64::MAX), (999, 0)] {
                let reading = MatrixReading { limit, ..reading };
                let matrix = opened(many(), rows_per_group, &reading).unwrap();
                assert_eq!(matrix.columns(), columns);
                assert_eq!(bits(&matrix.read_all().unwrap()), bits(&expected), "{rows_per_group}");
                let mut buffer = Vec::new();
                for index in [3, 0, 2, 1, 3] {
                    let chunk = matrix.chunk(index, &mut buffer).unwrap();
                    assert_eq!(chunk, expected.chunk(index, &mut Vec::new()).unwrap());
                }
                assert!(matrix.chunk(4, &mut buffer).is_err());
            }
        }
    }

    #[test]
    fn ids_are_those_of_the_chunk() {
        let matrix = opened(many(), 7_000, &PLAIN).unwrap();
        assert!(matrix.has_ids());
        let ids: Vec<String> =
            (0..4).flat_map(|index| matrix.ids(index).unwrap()).map(Option::unwrap).collect();
        let expected: Vec<String> = (0..30_000).map(|row| format!("c{row}")).collect();
        assert_eq!(ids, expected);
        let none = opened(vec![Series::new("x".into(), &[1i64][..])], 1, &PLAIN).unwrap();
        assert!(!none.has_ids() && none.ids(0).unwrap().is_empty());
    }

    #[test]
    fn windows_are_whole_chunks_within_the_bound() {
        assert_eq!(rows_at_once(u64::MAX, 3, 2), WINDOW_ROWS);
        assert_eq!(rows_at_once(0, 3, 2), CHUNK_ROWS);
        // 3 columns of 24 bytes on 2 threads.
        assert_eq!(rows_at_once(144 * 20_000, 3, 2), 2 * CHUNK_ROWS);
    }

    #[test]
    fn what_is_no_number_is_named() {
        let columns = || {
            vec![
                Series::new("text".into(), &["a", "b", "c"][..]),
                Series::new("x".into(), &[1.0f64, 2.0, f64::NEG_INFINITY][..]),
                Series::new("y".into(), &[1.0f64, 1e16, 2.0][..]),
            ]
        };
        let refused = |names: &[&str], reading: MatrixReading<'_>| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let reading = MatrixReading { columns: Some(&names), ..reading };
            opened(columns(), 2, &reading).err().unwrap().to_string()
        };
        let error = refused(&["x"], SCALED);
        assert!(error.contains("row 3 of the column `x`"), "{error}");
        let error = refused(&["y", "x"], PLAIN);
        assert!(error.contains("row 2 of the column `y`"), "{error}");
        let error = refused(&["x", "text"], SCALED);
        assert!(error.contains("`text`") && error.contains("no number"), "{error}");
        let error = refused(&["z"], SCALED);
        assert!(error.contains("no column `z`") && error.contains("text, x, y"), "{error}");
        let error = opened(columns().drain(..1).collect(), 2, &SCALED).err().unwrap();
        assert!(matches!(error, IngestError::NoNumbers { .. }), "{error:?}");
        let none = columns().iter().map(|column| column.head(Some(0))).collect();
        assert!(matches!(opened(none, 2, &SCALED), Err(IngestError::NoRows { .. })));
    }
}
