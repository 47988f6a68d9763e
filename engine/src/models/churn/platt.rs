//! Calibration by a line on the log-odds (Platt 1999): two parameters, monotone.

use crate::domain::Seed;
use crate::models::Estimator;
use crate::models::linear::{Labelled, LogisticParams, logit, sigmoid};
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

    /// Fits the map from probabilities to what happened. Where all outcomes are equal, or the best
    /// slope is not positive, there is nothing to learn and the map is the identity.
    pub fn fit(probabilities: &[f64], outcomes: &[bool]) -> Platt {
        let labelled = Labelled {
            rows: Array2::from_shape_fn((probabilities.len(), 1), |(row, _)| {
                logit(probabilities[row])
            }),
            targets: Array1::from_vec(outcomes.to_vec()),
        };
        let params = LogisticParams { alpha: 1e-6, ..LogisticParams::default() };
        match params.fit(&labelled, Seed(0)) {
            Ok(fit) if fit.model.coefficients[0] > 0.0 => {
                Platt { slope: fit.model.coefficients[0], intercept: fit.model.intercept }
            }
            _ => Platt::IDENTITY,
        }
    }

    /// The calibrated probability.
    pub fn apply(&self, probability: f64) -> f64 {
        sigmoid(self.slope.mul_add(logit(probability), self.intercept))
    }
}
