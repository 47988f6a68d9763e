//! Calibration by a line on the log-odds (Platt 1999): two parameters, monotone.

use crate::domain::Seed;
use crate::models::linear::{Labelled, LogisticParams, logit, sigmoid};
use crate::models::{Estimator, FitError};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

/// p -> sigmoid(slope x logit(p) + intercept), with a positive slope.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platt {
    pub slope: f64,
    pub intercept: f64,
}

impl Platt {
    /// The map that changes nothing.
    pub const IDENTITY: Platt = Platt { slope: 1.0, intercept: 0.0 };

    /// Fits the map from probabilities to what happened. A weak penalty keeps the slope finite where
    /// a few outcomes happen to be separable.
    ///
    /// # Errors
    /// [`FitError`] where all outcomes are equal, the solver does not converge, or the best slope is
    /// not positive, which would turn the ranking around.
    pub fn fit(probabilities: &[f64], outcomes: &[bool]) -> Result<Platt, FitError> {
        let logits = |(row, _)| logit(probabilities[row]);
        let labelled = Labelled {
            rows: Array2::from_shape_fn((probabilities.len(), 1), logits),
            targets: Array1::from_vec(outcomes.to_vec()),
        };
        let fit =
            LogisticParams { alpha: 1.0, ..LogisticParams::default() }.fit(&labelled, Seed(0))?;
        let slope = fit.model.coefficients.first().copied().unwrap_or(0.0);
        let failed =
            |message: &str| FitError::Solver { solver: "Platt", message: message.to_owned() };
        if !fit.diagnostics.converged {
            return Err(failed("it did not converge"));
        }
        if slope <= 0.0 {
            return Err(failed("the outcomes run against the probabilities"));
        }
        Ok(Platt { slope, intercept: fit.model.intercept })
    }

    /// The calibrated probability.
    pub fn apply(&self, probability: f64) -> f64 {
        sigmoid(self.slope.mul_add(logit(probability), self.intercept))
    }
}
