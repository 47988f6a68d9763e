//! Rows of numbers with named columns.

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

    /// The rows, each `(n_features,)`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.names.len())
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
