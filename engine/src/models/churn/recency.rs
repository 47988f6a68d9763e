//! The baseline that every churn model has to beat: days since the last purchase, or since the last
//! activity where churn is inactivity.

use crate::domain::{Lifetime, Seed};
use crate::models::linear::{Labelled, Logistic, LogisticParams};
use crate::models::{Estimator, Fit, FitError};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

/// Logistic regression on ln(1 + days of silence), centred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recency {
    pub logistic: Logistic,
    /// Mean of ln(1 + days) over the training customers.
    pub center: f64,
}

impl Recency {
    /// P(churn within the window).
    pub fn probability(&self, lifetime: &Lifetime) -> f64 {
        self.logistic.probability(&[column(lifetime) - self.center])
    }

    /// P(no purchase within so many windows), by the silence in units of the time asked about: who was
    /// silent for half of it is taken to be as likely to stay away, however long it is.
    pub fn probability_within(&self, lifetime: &Lifetime, windows: f64) -> f64 {
        self.logistic.probability(&[column(lifetime) - libm::log(windows) - self.center])
    }

    /// How far the lifetime moves the log-odds away from the average training customer's.
    pub fn contribution(&self, lifetime: &Lifetime) -> f64 {
        self.logistic
            .coefficients
            .iter()
            .map(|slope| slope * (column(lifetime) - self.center))
            .sum()
    }
}

/// Hyperparameters of the baseline: none that a user would set.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecencyParams;

impl Estimator for RecencyParams {
    /// Lifetimes, and whether each customer churned within the window.
    type Input<'a> = (Vec<Lifetime>, Vec<bool>);
    type Fitted = Recency;

    fn fit(
        &self,
        (lifetimes, churned): &Self::Input<'_>,
        seed: Seed,
    ) -> Result<Fit<Recency>, FitError> {
        let columns: Vec<f64> = lifetimes.iter().map(column).collect();
        let center = columns.iter().sum::<f64>() / columns.len().max(1) as f64;
        let labelled = Labelled {
            rows: Array2::from_shape_fn((columns.len(), 1), |(row, _)| columns[row] - center),
            targets: Array1::from_vec(churned.clone()),
        };
        let params = LogisticParams { alpha: 1e-3, ..LogisticParams::default() };
        let fit = params.fit(&labelled, seed)?;
        Ok(Fit { model: Recency { logistic: fit.model, center }, diagnostics: fit.diagnostics })
    }
}

fn column(lifetime: &Lifetime) -> f64 {
    libm::log1p(f64::from(lifetime.silent_days()))
}
