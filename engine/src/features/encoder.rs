//! From raw feature values to what a model sees: imputation and transforms, fitted once and frozen.

use super::{Feature, FeatureSpec, Transform};
use crate::matrix::{FeatureMatrix, ScaledMatrix, quantile};
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The quantiles to which winsorizing clamps.
const WINSOR: (f64, f64) = (0.01, 0.99);

/// Rows that a thread encodes before it looks for others.
const ROWS_AT_ONCE: usize = 1_024;

/// The encoders of the columns that a model uses, which may be fewer than the spec's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    pub columns: Vec<ColumnEncoder>,
}

/// What happens to one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnEncoder {
    pub name: String,
    /// The column's index in the raw row.
    pub feature: usize,
    /// Stands in for an undefined value before transforms: the spec's, or the median of the defined.
    pub impute: f64,
    pub steps: Vec<Step>,
}

/// A fitted transform.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Log1p,
    SignedLog,
    Winsorize { low: f64, high: f64 },
    Standardize { mean: f64, std: f64 },
}

/// Why an encoder could not be fitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncoderError {
    #[error("there is no row to learn scales from")]
    NoRows,
    #[error("`{0}` is not among the features")]
    UnknownFeature(String),
}

impl Step {
    fn fit(transform: Transform, values: &[f64]) -> Step {
        match transform {
            Transform::Log1p => Step::Log1p,
            Transform::SignedLog => Step::SignedLog,
            Transform::Winsorize => {
                let mut sorted = values.to_vec();
                sorted.sort_unstable_by(f64::total_cmp);
                Step::Winsorize {
                    low: quantile(&sorted, WINSOR.0),
                    high: quantile(&sorted, WINSOR.1),
                }
            }
            Transform::Standardize => {
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance =
                    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n;
                let std = variance.sqrt();
                // What rounding leaves of a constant column must not be blown up to unit variance.
                let constant = std <= 1e-12 * mean.abs().max(1.0);
                Step::Standardize { mean, std: if constant { 1.0 } else { std } }
            }
        }
    }

    fn apply(self, value: f64) -> f64 {
        match self {
            Step::Log1p => libm::log1p(value.max(0.0)),
            Step::SignedLog => libm::log1p(value.abs()).copysign(value),
            Step::Winsorize { low, high } => value.clamp(low, high),
            Step::Standardize { mean, std } => (value - mean) / std,
        }
    }
}

impl ColumnEncoder {
    fn fit(feature: &Feature, index: usize, matrix: &FeatureMatrix) -> ColumnEncoder {
        let raw: Vec<f64> = matrix.rows().map(|row| row[index]).collect();
        let mut defined: Vec<f64> = raw.iter().copied().filter(|value| !value.is_nan()).collect();
        defined.sort_unstable_by(f64::total_cmp);
        let usual = if defined.is_empty() { 0.0 } else { quantile(&defined, 0.5) };
        let impute = feature.impute.unwrap_or(usual);
        let mut values: Vec<f64> =
            raw.into_iter().map(|value| if value.is_nan() { impute } else { value }).collect();
        let mut steps = Vec::new();
        for &transform in &feature.transform {
            let step = Step::fit(transform, &values);
            values.iter_mut().for_each(|value| *value = step.apply(*value));
            steps.push(step);
        }
        ColumnEncoder { name: feature.name.clone(), feature: index, impute, steps }
    }

    /// The value that a model sees.
    pub fn encode(&self, raw: f64) -> f64 {
        let defined = if raw.is_nan() { self.impute } else { raw };
        self.steps.iter().fold(defined, |value, step| step.apply(value))
    }
}

impl Encoder {
    /// Learns imputation and scales of the columns named (all where none is named) from raw rows of
    /// `(n_customers, n_features)`.
    ///
    /// # Errors
    /// [`EncoderError`] where there is no row, or a name is not among the features.
    pub fn fit(
        spec: &FeatureSpec,
        only: &[String],
        matrix: &FeatureMatrix,
    ) -> Result<Encoder, EncoderError> {
        if matrix.n_rows() == 0 {
            return Err(EncoderError::NoRows);
        }
        let index_of = |name: &String| {
            spec.0
                .iter()
                .position(|feature| feature.name == *name)
                .ok_or_else(|| EncoderError::UnknownFeature(name.clone()))
        };
        let indices: Vec<usize> = if only.is_empty() {
            (0..spec.0.len()).collect()
        } else {
            only.iter().map(index_of).collect::<Result<_, _>>()?
        };
        let columns = indices
            .into_iter()
            .map(|index| ColumnEncoder::fit(&spec.0[index], index, matrix))
            .collect();
        Ok(Encoder { columns })
    }

    /// Number of columns that the model sees.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Encodes one raw row of `(n_features,)` into `encoded` of `(width,)`.
    pub fn encode(&self, raw: &[f64], encoded: &mut [f64]) {
        for (column, value) in self.columns.iter().zip(encoded) {
            *value = column.encode(raw[column.feature]);
        }
    }

    /// Encodes one raw row for clustering, `(width,)`.
    pub fn scaled_row(&self, raw: &[f64]) -> Vec<f32> {
        self.columns.iter().map(|column| column.encode(raw[column.feature]) as f32).collect()
    }

    /// Encodes raw rows for clustering, each as [`Encoder::scaled_row`] would.
    pub fn scaled(&self, matrix: &FeatureMatrix) -> ScaledMatrix {
        let (from, to) = (matrix.names().len(), self.width());
        let mut values = vec![0.0; matrix.n_rows() * to];
        values
            .par_chunks_mut(ROWS_AT_ONCE * to)
            .zip(matrix.values().par_chunks(ROWS_AT_ONCE * from))
            .for_each(|(scaled, raw)| {
                for (scaled, raw) in scaled.chunks_exact_mut(to).zip(raw.chunks_exact(from)) {
                    for (column, value) in self.columns.iter().zip(scaled) {
                        *value = column.encode(raw[column.feature]) as f32;
                    }
                }
            });
        ScaledMatrix::new(to, values)
    }

    /// Encodes raw rows into `(n_customers, width)`.
    pub fn encode_all(&self, matrix: &FeatureMatrix) -> Array2<f64> {
        let mut encoded = Array2::zeros((matrix.n_rows(), self.width()));
        for (raw, mut row) in matrix.rows().zip(encoded.rows_mut()) {
            for (column, value) in self.columns.iter().zip(row.iter_mut()) {
                *value = column.encode(raw[column.feature]);
            }
        }
        encoded
    }
}
