//! Full mixtures through linfa-clustering, one start a call.
//!
//! linfa initialises once, whatever `n_runs` says, so every run here is a fit of its own with its
//! own seed. Its normaliser exponentiates before it adds, so a row far from every component makes
//! the run collapse, which is told. It does not say how many iterations it took.

use super::em::Ended;
use super::{CovarianceType, Covariances, GmmParams, Parameters};
use crate::domain::Seed;
use crate::matrix::RowSource;
use crate::models::FitError;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_clustering::GaussianMixtureModel;

/// One run from one k-means start.
pub(super) fn run(
    params: &GmmParams,
    source: &dyn RowSource,
    seed: Seed,
) -> Result<Ended, FitError> {
    let failed =
        |last: String| FitError::NoRunSucceeded { max_iter: u64::from(params.max_iter), last };
    if params.covariance != CovarianceType::Full || source.weights(0).is_some() {
        let message = "linfa fits full covariances alone, and no weights".to_owned();
        return Err(FitError::Solver { solver: "mixture", message });
    }
    let rows = crate::models::widened(source)?;
    let model = GaussianMixtureModel::params_with_rng(params.n_components, seed.rng())
        .n_runs(1)
        .max_n_iterations(u64::from(params.max_iter))
        .tolerance(params.tol)
        .reg_covariance(params.reg_covar)
        .fit(&DatasetBase::from(rows.view()))
        .map_err(|error| failed(format!("linfa could not go on ({error})")))?;
    let parameters = Parameters {
        weights: model.weights().to_vec(),
        means: model.means().outer_iter().map(|mean| mean.to_vec()).collect(),
        covariances: Covariances::Full(
            model
                .covariances()
                .outer_iter()
                .map(|covariance| covariance.iter().copied().collect())
                .collect(),
        ),
    };
    let finite = |rows: &[Vec<f64>]| rows.iter().flatten().all(|value| value.is_finite());
    if !finite(&parameters.means) || parameters.weights.iter().any(|weight| weight.is_nan()) {
        return Err(failed("the run ended in values that are not finite".to_owned()));
    }
    Ok(Ended { parameters, n_iter: 0, converged: true })
}
