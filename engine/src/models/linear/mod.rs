//! Linear models: logistic regression and the elastic net on linfa's solvers, and generalised linear
//! models of many rows and few columns on our own.

mod elastic_net;
mod logistic;
mod newton;

pub use elastic_net::{ElasticNetParams, Linear};
pub use logistic::{Logistic, LogisticParams, logit, sigmoid};
pub use newton::{GlmParams, Link, Targets};

use ndarray::{Array1, Array2};

/// Encoded rows `(n, n_features)` with a target each `(n,)`.
#[derive(Debug, Clone)]
pub struct Labelled<T> {
    pub rows: Array2<f64>,
    pub targets: Array1<T>,
}

impl<T> Labelled<T> {
    /// Refuses a value that is not finite, naming its row.
    fn check_finite(&self) -> Result<(), super::FitError> {
        match self.rows.outer_iter().position(|row| row.iter().any(|value| !value.is_finite())) {
            Some(row) => Err(super::FitError::NotFinite { row }),
            None => Ok(()),
        }
    }
}

/// intercept + Σ coefficient x value, in the order of the columns.
fn linear_predictor<'a>(
    intercept: f64,
    coefficients: &[f64],
    row: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    coefficients.iter().zip(row).fold(intercept, |sum, (weight, value)| weight.mul_add(*value, sum))
}
