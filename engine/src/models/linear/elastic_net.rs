//! Linear regression with an elastic-net penalty (Zou & Hastie 2005), by linfa-elasticnet's
//! coordinate descent.

use super::{Labelled, linear_predictor};
use crate::domain::Seed;
use crate::models::{Diagnostics, Estimator, Fit, FitError};
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_elasticnet::ElasticNet;
use ndarray::Axis;
use serde::{Deserialize, Serialize};

/// Hyperparameters of an elastic net, named as in scikit-learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElasticNetParams {
    pub alpha: f64,
    pub l1_ratio: f64,
    pub max_iter: u32,
    /// Relative to the targets' sum of squares.
    pub tol: f64,
}

impl Default for ElasticNetParams {
    fn default() -> ElasticNetParams {
        ElasticNetParams { alpha: 1e-3, l1_ratio: 0.5, max_iter: 10_000, tol: 1e-8 }
    }
}

/// A fitted linear model: intercept + coefficients · row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    pub intercept: f64,
    /// `(n_features,)`.
    pub coefficients: Vec<f64>,
}

impl Linear {
    /// The prediction for one encoded row `(n_features,)`.
    pub fn predict<'a>(&self, row: impl IntoIterator<Item = &'a f64>) -> f64 {
        linear_predictor(self.intercept, &self.coefficients, row)
    }
}

/// The fit to targets that are all the same, whose sum of squares gives linfa no scale to stop by.
fn constant(target: f64, n_features: usize) -> Fit<Linear> {
    Fit {
        model: Linear { intercept: target, coefficients: vec![0.0; n_features] },
        diagnostics: Diagnostics {
            converged: true,
            n_iter: Some(0),
            objective: 0.0,
            run: 0,
            notes: Vec::new(),
        },
    }
}

impl Estimator for ElasticNetParams {
    type Input<'a> = Labelled<f64>;
    type Fitted = Linear;

    /// linfa centres the targets but not the columns, which biases the fit unless they are centred
    /// already; so they are centred here and the intercept is moved back.
    fn fit(&self, input: &Labelled<f64>, _seed: Seed) -> Result<Fit<Linear>, FitError> {
        input.check_finite()?;
        let means = input
            .rows
            .mean_axis(Axis(0))
            .ok_or(FitError::TooFewRows { got: input.rows.nrows(), need: 1 })?;
        let centred = &input.rows - &means;
        if input.targets.iter().all(|target| *target == input.targets[0]) {
            return Ok(constant(input.targets[0], input.rows.ncols()));
        }
        let fitted = ElasticNet::params()
            .penalty(self.alpha)
            .l1_ratio(self.l1_ratio)
            .max_iterations(self.max_iter)
            .tolerance(self.tol)
            .fit(&DatasetBase::new(centred, input.targets.view()))
            .map_err(|error| FitError::Solver {
                solver: "elastic net",
                message: error.to_string(),
            })?;
        let coefficients = fitted.hyperplane().to_vec();
        let shift: f64 = coefficients.iter().zip(&means).map(|(weight, mean)| weight * mean).sum();
        let converged = fitted.n_steps() < self.max_iter;
        let notes = if converged {
            vec![]
        } else {
            vec![format!("stopped at the limit of {} steps", self.max_iter)]
        };
        Ok(Fit {
            model: Linear { intercept: fitted.intercept() - shift, coefficients },
            diagnostics: Diagnostics {
                converged,
                n_iter: Some(fitted.n_steps()),
                objective: fitted.duality_gap(),
                run: 0,
                notes,
            },
        })
    }
}
