//! k-means through linfa-clustering, one iteration a call.
//!
//! linfa's own loop hides what a user must know: it reports the sizes of the last run rather than
//! the best, an inertia of the centroids before the last, as a mean, and says nothing when it stops
//! at the iteration limit. Asked for one iteration at a time it still draws the k-means++ start and
//! moves the centroids, while convergence is watched here. Its centroids count the one before as one
//! more row, so our own iterations have the last word.

use super::KMeansParams;
use super::lloyd::{self, Ended, Limits};
use crate::domain::Seed;
use crate::matrix::RowSource;
use crate::models::FitError;
use crate::models::survey::Survey;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_clustering::{KMeans, KMeansInit};
use ndarray::Array2;

/// One run from one k-means++ start.
pub(super) fn run(
    params: &KMeansParams,
    source: &dyn RowSource,
    survey: &Survey,
    limits: &Limits,
    seed: Seed,
) -> Result<Ended, FitError> {
    let failed = |message: String| FitError::Solver { solver: "k-means", message };
    if source.weights(0).is_some() {
        return Err(failed("linfa knows no weights".to_owned()));
    }
    let rows = super::super::widened(source)?;
    let dataset = DatasetBase::from(rows.view());
    let mut init = KMeansInit::KMeansPlusPlus;
    let mut previous: Option<Array2<f64>> = None;
    let mut n_iter = 0;
    loop {
        let step = KMeans::params_with_rng(params.n_clusters, seed.rng())
            .n_runs(1)
            .max_n_iterations(1)
            .init_method(init)
            .fit(&dataset)
            .map_err(|error| failed(error.to_string()))?;
        n_iter += 1;
        let centroids = step.centroids().clone();
        let settled = previous.as_ref().is_some_and(|previous| {
            (&centroids - previous).mapv(|shift| shift * shift).sum() <= limits.threshold
        });
        if settled || n_iter >= limits.max_iter {
            let start = centroids.outer_iter().map(|centroid| centroid.to_vec()).collect();
            let rest = Limits { max_iter: limits.max_iter.saturating_sub(n_iter), ..*limits };
            let ended = lloyd::iterate(source, survey, start, &rest)?;
            return Ok(Ended { n_iter: ended.n_iter + n_iter, ..ended });
        }
        init = KMeansInit::Precomputed(centroids.clone());
        previous = Some(centroids);
    }
}
