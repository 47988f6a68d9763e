//! Gaussian mixtures with full covariances, fitted by expectation maximisation (Dempster, Laird &
//! Rubin 1977).

mod linfa_engine;
mod warm;

use super::{Diagnostics, Estimator, Fit, FitError, Membership, Segmenter};
use crate::domain::Seed;
use crate::matrix::ScaledMatrix;
use serde::{Deserialize, Serialize};

/// Hyperparameters of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GmmParams {
    pub n_components: usize,
    /// Independent starts; the one with the highest lower bound wins.
    pub n_init: u32,
    pub max_iter: u32,
    /// Converged once the mean log-likelihood of a row changes by less.
    pub tol: f64,
    /// Added to every covariance's diagonal.
    pub reg_covar: f64,
}

/// A fitted mixture, components from the heaviest to the lightest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parameters", into = "Parameters")]
pub struct GaussianMixture {
    parameters: Parameters,
    /// Lower Cholesky factors of the covariances, row-major `(n_features, n_features)` each.
    factors: Vec<Vec<f64>>,
    /// ln weight - (d ln 2π) / 2 - ln |factor|, per component.
    constants: Vec<f64>,
}

/// What a mixture is made of, and all of it that is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// `(n_components,)`, positive, summing to 1.
    pub weights: Vec<f64>,
    /// `(n_components, n_features)`.
    pub means: Vec<Vec<f64>>,
    /// Per component row-major `(n_features, n_features)`, positive definite.
    pub covariances: Vec<Vec<f64>>,
}

impl GaussianMixture {
    /// What it is made of.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Writes ln(weight x density) of every component for one row into `joint`, `(n_components,)`,
    /// and returns the row's log-density, ln Σ exp(joint), taken around the largest term so that it
    /// stays finite however far away the row lies.
    pub fn log_joint(&self, row: &[f32], joint: &mut [f64]) -> f64 {
        let d = row.len();
        let mut solved = vec![0.0; d];
        for (component, joint) in joint.iter_mut().enumerate() {
            let mean = &self.parameters.means[component];
            let factor = &self.factors[component];
            let mut mahalanobis = 0.0;
            for i in 0..d {
                let mut rest = f64::from(row[i]) - mean[i];
                for j in 0..i {
                    rest -= factor[i * d + j] * solved[j];
                }
                solved[i] = rest / factor[i * d + i];
                mahalanobis += solved[i] * solved[i];
            }
            *joint = self.constants[component] - 0.5 * mahalanobis;
        }
        let largest = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = joint.iter().map(|&log| libm::exp(log - largest)).sum();
        largest + libm::log(sum)
    }

    /// The responsibilities of one row, `(n_components,)`, summing to 1.
    pub fn responsibilities(&self, row: &[f32]) -> Vec<f64> {
        let mut joint = vec![0.0; self.n_clusters()];
        let density = self.log_joint(row, &mut joint);
        joint.iter_mut().for_each(|log| *log = libm::exp(*log - density));
        joint
    }

    /// Mean log-density of all rows: the lower bound that fits are compared by.
    pub fn mean_log_density(&self, rows: &ScaledMatrix) -> f64 {
        let mut joint = vec![0.0; self.n_clusters()];
        let sum: f64 = rows.rows().map(|row| self.log_joint(row, &mut joint)).sum();
        sum / rows.n_rows() as f64
    }

    /// The Bayesian information criterion on these rows (Schwarz 1978); less is better.
    pub fn bic(&self, rows: &ScaledMatrix) -> f64 {
        let (n, k, d) = (rows.n_rows() as f64, self.n_clusters() as f64, rows.n_features() as f64);
        let free = (k - 1.0) + k * d + k * d * (d + 1.0) / 2.0;
        -2.0 * n * self.mean_log_density(rows) + free * libm::log(n)
    }

    fn reordered(&self) -> GaussianMixture {
        let order = super::canonical_order(&self.parameters.weights, &self.parameters.means);
        let pick = |rows: &[Vec<f64>]| order.iter().map(|&index| rows[index].clone()).collect();
        GaussianMixture {
            parameters: Parameters {
                weights: order.iter().map(|&index| self.parameters.weights[index]).collect(),
                means: pick(&self.parameters.means),
                covariances: pick(&self.parameters.covariances),
            },
            factors: pick(&self.factors),
            constants: order.iter().map(|&index| self.constants[index]).collect(),
        }
    }
}

impl TryFrom<Parameters> for GaussianMixture {
    type Error = String;

    fn try_from(parameters: Parameters) -> Result<GaussianMixture, String> {
        let k = parameters.weights.len();
        let d = parameters.means.first().map_or(0, Vec::len);
        let shapes = parameters.means.len() == k
            && parameters.covariances.len() == k
            && parameters.means.iter().all(|mean| mean.len() == d)
            && parameters.covariances.iter().all(|covariance| covariance.len() == d * d);
        if k == 0 || d == 0 || !shapes {
            return Err("the mixture's arrays do not fit together".to_owned());
        }
        let factors: Vec<Vec<f64>> = parameters
            .covariances
            .iter()
            .enumerate()
            .map(|(component, covariance)| {
                cholesky(covariance, d)
                    .ok_or_else(|| format!("covariance {component} is not positive definite"))
            })
            .collect::<Result<_, _>>()?;
        let half_log_tau = 0.5 * d as f64 * libm::log(2.0 * std::f64::consts::PI);
        let constants = parameters
            .weights
            .iter()
            .zip(&factors)
            .map(|(weight, factor)| {
                let log_det: f64 = (0..d).map(|i| libm::log(factor[i * d + i])).sum();
                libm::log(*weight) - half_log_tau - log_det
            })
            .collect();
        Ok(GaussianMixture { parameters, factors, constants })
    }
}

impl From<GaussianMixture> for Parameters {
    fn from(mixture: GaussianMixture) -> Parameters {
        mixture.parameters
    }
}

impl Segmenter for GaussianMixture {
    fn n_clusters(&self) -> usize {
        self.parameters.weights.len()
    }

    fn assign(&self, row: &[f32]) -> Membership {
        let mut joint = vec![0.0; self.n_clusters()];
        let density = self.log_joint(row, &mut joint);
        let mut cluster = 0;
        for (candidate, &log) in joint.iter().enumerate() {
            if log > joint[cluster] {
                cluster = candidate;
            }
        }
        Membership { cluster, probability: Some(libm::exp(joint[cluster] - density).min(1.0)) }
    }
}

impl Estimator for GmmParams {
    type Input = ScaledMatrix;
    type Fitted = GaussianMixture;

    /// Fits on scaled rows, `(n_customers, n_features)`.
    fn fit(&self, rows: &ScaledMatrix, seed: Seed) -> Result<Fit<GaussianMixture>, FitError> {
        super::check_finite(rows)?;
        super::check_distinct(rows, self.n_components)?;
        let wide = super::widened(rows);
        // Lower bounds under different regularisation cannot be compared: the least one goes first.
        let mut best: Option<(f64, GaussianMixture, Diagnostics)> = None;
        let mut notes = Vec::new();
        let mut last = String::new();
        for run in 0..self.n_init.max(1) {
            let (mixture, raised) =
                match linfa_engine::run(self, &wide, seed.derive("gmm", u64::from(run))) {
                    Ok(fitted) => fitted,
                    Err(message) => {
                        notes.push(format!("run {run} failed: {message}"));
                        last = message;
                        continue;
                    }
                };
            if let Some(reg_covar) = raised {
                notes.push(format!("run {run} needed reg_covar {reg_covar:e}"));
            }
            let reg_covar = raised.unwrap_or(self.reg_covar);
            let objective = mixture.mean_log_density(rows);
            let better = best.as_ref().is_none_or(|(least, _, so_far)| {
                reg_covar < *least || (reg_covar == *least && objective > so_far.objective)
            });
            if better {
                let diagnostics = Diagnostics {
                    converged: true,
                    n_iter: None,
                    objective,
                    run,
                    notes: Vec::new(),
                };
                best = Some((reg_covar, mixture, diagnostics));
            }
        }
        let (_, mixture, mut diagnostics) =
            best.ok_or(FitError::NoRunSucceeded { max_iter: u64::from(self.max_iter), last })?;
        diagnostics.notes = notes;
        Ok(Fit { model: mixture.reordered(), diagnostics })
    }
}

/// The lower factor of a symmetric positive definite matrix, row-major; `None` of any other.
fn cholesky(matrix: &[f64], d: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|l| factor[i * d + l] * factor[j * d + l]).sum();
            let rest = matrix[i * d + j] - dot;
            if i == j {
                if rest <= 0.0 || !rest.is_finite() {
                    return None;
                }
                factor[i * d + i] = rest.sqrt();
            } else {
                factor[i * d + j] = rest / factor[j * d + j];
            }
        }
    }
    Some(factor)
}
