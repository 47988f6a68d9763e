//! Rows of numbers with named columns, and where models read them from.

use thiserror::Error;

/// Raw feature values, row by row, before transforms. An undefined value is NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMatrix {
    names: Vec<String>,
    /// Row-major, `(n_rows, n_features)`.
    values: Vec<f64>,
}

impl FeatureMatrix {
    /// A matrix of `values.len() / names.len()` rows, given row by row.
    ///
    /// # Panics
    /// Where the values do not fill whole rows: a mistake of the caller, never of the data.
    pub fn new(names: Vec<String>, values: Vec<f64>) -> FeatureMatrix {
        assert!(
            !names.is_empty() && values.len().is_multiple_of(names.len()),
            "rows must be whole"
        );
        FeatureMatrix { names, values }
    }

    /// The columns' names, `(n_features,)`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.names.len()
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f64] {
        let width = self.names.len();
        &self.values[index * width..(index + 1) * width]
    }

    /// The rows, each `(n_features,)`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.names.len())
    }

    /// A matrix without rows, with room for so many: one that grows would be in memory twice.
    pub fn with_room(names: Vec<String>, n_rows: usize) -> FeatureMatrix {
        let values = Vec::with_capacity(n_rows * names.len());
        FeatureMatrix::new(names, values)
    }

    /// Takes the rows of another matrix of the same columns behind its own.
    ///
    /// # Panics
    /// Where the columns are others: a mistake of the caller, never of the data.
    pub fn extend(&mut self, other: &FeatureMatrix) {
        assert!(self.names == other.names, "columns must be the same");
        self.values.extend_from_slice(&other.values);
    }

    /// These rows, in this order.
    pub fn select(&self, rows: &[usize]) -> FeatureMatrix {
        let width = self.names.len();
        let row = |&index: &usize| &self.values[index * width..(index + 1) * width];
        FeatureMatrix::new(self.names.clone(), rows.iter().flat_map(row).copied().collect())
    }
}

/// Encoded rows for clustering: `f32`, row-major, `(n_rows, n_features)`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledMatrix {
    n_features: usize,
    values: Vec<f32>,
}

impl ScaledMatrix {
    /// A matrix of `values.len() / n_features` rows, given row by row.
    ///
    /// # Panics
    /// Where the values do not fill whole rows: a mistake of the caller, never of the data.
    pub fn new(n_features: usize, values: Vec<f32>) -> ScaledMatrix {
        assert!(n_features > 0 && values.len().is_multiple_of(n_features), "rows must be whole");
        ScaledMatrix { n_features, values }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.n_features
    }

    /// Number of columns.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows, each `(n_features,)`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_features)
    }

    /// One row, `(n_features,)`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.n_features..(index + 1) * self.n_features]
    }

    /// These rows, in this order.
    pub fn select(&self, rows: &[usize]) -> ScaledMatrix {
        let values = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        ScaledMatrix::new(self.n_features, values)
    }
}

/// Rows in a chunk; the last has what is left. Sums are made chunk by chunk, in this order, so that
/// they do not depend on threads, nor on where the rows come from.
pub const CHUNK_ROWS: usize = 8_192;

/// Scaled rows that are read chunk by chunk, from memory or from somewhere larger.
pub trait RowSource: Sync {
    /// Number of rows.
    fn n_rows(&self) -> usize;

    /// Number of columns.
    fn n_features(&self) -> usize;

    /// The rows of chunk `index`, `(n, n_features)`: lent, or read into `buffer`.
    ///
    /// # Errors
    /// [`SourceError`] where they cannot be read.
    fn chunk<'a>(
        &'a self,
        index: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Result<&'a [f32], SourceError>;

    /// How much each row of chunk `index` counts, finite and not negative; `None` where all count
    /// once.
    fn weights(&self, _index: usize) -> Option<&[f32]> {
        None
    }

    /// Number of chunks.
    fn n_chunks(&self) -> usize {
        self.n_rows().div_ceil(CHUNK_ROWS)
    }
}

/// Why rows could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("rows cannot be read: {0}")]
pub struct SourceError(pub String);

impl RowSource for ScaledMatrix {
    fn n_rows(&self) -> usize {
        ScaledMatrix::n_rows(self)
    }

    fn n_features(&self) -> usize {
        self.n_features
    }

    fn chunk<'a>(&'a self, index: usize, _: &'a mut Vec<f32>) -> Result<&'a [f32], SourceError> {
        let width = CHUNK_ROWS * self.n_features;
        let end = self.values.len().min((index + 1) * width);
        self.values.get(index * width..end).ok_or_else(|| SourceError(format!("no chunk {index}")))
    }
}

/// Rows of which each counts as often as its weight says.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted<S> {
    source: S,
    weights: Vec<f32>,
}

impl<S: RowSource> Weighted<S> {
    /// Weights of `(n_rows,)`, finite and not negative.
    ///
    /// # Errors
    /// [`SourceError`] where there are not as many, or one is no weight.
    pub fn new(source: S, weights: Vec<f32>) -> Result<Weighted<S>, SourceError> {
        let is_weight = |weight: &f32| weight.is_finite() && *weight >= 0.0;
        if weights.len() != source.n_rows() {
            let (got, need) = (weights.len(), source.n_rows());
            return Err(SourceError(format!("{got} weights for {need} rows")));
        }
        match weights.iter().position(|weight| !is_weight(weight)) {
            Some(row) => Err(SourceError(format!("the weight of row {row} is none"))),
            None => Ok(Weighted { source, weights }),
        }
    }
}

impl<S: RowSource> RowSource for Weighted<S> {
    fn n_rows(&self) -> usize {
        self.source.n_rows()
    }

    fn n_features(&self) -> usize {
        self.source.n_features()
    }

    fn chunk<'a>(
        &'a self,
        index: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Result<&'a [f32], SourceError> {
        self.source.chunk(index, buffer)
    }

    fn weights(&self, index: usize) -> Option<&[f32]> {
        let start = (index * CHUNK_ROWS).min(self.weights.len());
        let end = (start + CHUNK_ROWS).min(self.weights.len());
        Some(&self.weights[start..end])
    }
}

/// The `q`-quantile of ascending values by linear interpolation (numpy's default, Hyndman & Fan 7);
/// NaN of nothing.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    let part = position - below as f64;
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// The median of values in any order; NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}
