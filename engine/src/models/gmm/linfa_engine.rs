//! Mixtures through linfa-clustering, one start a call.
//!
//! linfa initialises once, whatever `n_runs` says, so every run here is a fit of its own with its
//! own seed. Its normaliser exponentiates before it adds, so a row far from every component makes
//! the run collapse; such a run is repeated with a larger `reg_covar` and the caller is told. The
//! answers never come from linfa but from [`GaussianMixture::log_joint`].

use super::{GaussianMixture, GmmParams, Parameters};
use crate::domain::Seed;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_clustering::{GaussianMixtureModel, GmmError};
use ndarray::Array2;

/// How often a collapsed run is repeated, with ten times the regularisation each time.
const RETRIES: i32 = 3;

/// One run from one k-means start; the flag holds the regularisation where it had to be raised.
pub fn run(
    params: &GmmParams,
    rows: &Array2<f64>,
    seed: Seed,
) -> Result<(GaussianMixture, Option<f64>), String> {
    let dataset = DatasetBase::from(rows.view());
    let mut last = String::new();
    for retry in 0..=RETRIES {
        let reg_covar = params.reg_covar * 10f64.powi(retry);
        let fitted = GaussianMixtureModel::params_with_rng(params.n_components, seed.rng())
            .n_runs(1)
            .max_n_iterations(u64::from(params.max_iter))
            .tolerance(params.tol)
            .reg_covariance(reg_covar)
            .fit(&dataset);
        match fitted {
            Ok(model) => match ours(&model) {
                Ok(mixture) => return Ok((mixture, (retry > 0).then_some(reg_covar))),
                Err(message) => last = message,
            },
            // More regularisation would hide that the iterations were too few.
            Err(GmmError::NotConverged(message)) => return Err(message),
            Err(collapsed) => last = collapsed.to_string(),
        }
    }
    Err(last)
}

fn ours(model: &GaussianMixtureModel<f64>) -> Result<GaussianMixture, String> {
    let parameters = Parameters {
        weights: model.weights().to_vec(),
        means: model.means().outer_iter().map(|mean| mean.to_vec()).collect(),
        covariances: model
            .covariances()
            .outer_iter()
            .map(|covariance| covariance.iter().copied().collect())
            .collect(),
    };
    let finite = |rows: &[Vec<f64>]| rows.iter().flatten().all(|value| value.is_finite());
    if !finite(&parameters.means) || parameters.weights.iter().any(|weight| weight.is_nan()) {
        return Err("the run ended in values that are not finite".to_owned());
    }
    parameters.try_into()
}
