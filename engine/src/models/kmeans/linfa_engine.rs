//! k-means through linfa-clustering, one iteration a call.
//!
//! linfa's own loop hides what a user must know: it reports the sizes of the last run rather than
//! the best, an inertia of the centroids before the last, as a mean, and says nothing when it stops
//! at the iteration limit. Asked for one iteration at a time it still draws the k-means++ start and
//! moves the centroids, while convergence is watched here and sizes and inertia are recomputed by
//! [`KMeans`](super::KMeans).

use super::KMeansParams;
use crate::domain::Seed;
use crate::models::FitError;
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_clustering::{KMeans, KMeansInit};
use ndarray::Array2;

/// One run from one k-means++ start, until the centroids' squared shift is at most `threshold`: the
/// centroids, `(n_clusters, n_features)`, and how many iterations it took.
pub fn run(
    params: &KMeansParams,
    rows: &Array2<f64>,
    threshold: f64,
    seed: Seed,
) -> Result<(Vec<Vec<f64>>, u32), FitError> {
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
            .map_err(|error| FitError::Solver { solver: "k-means", message: error.to_string() })?;
        n_iter += 1;
        let centroids = step.centroids().clone();
        let settled = previous.as_ref().is_some_and(|previous| {
            (&centroids - previous).mapv(|shift| shift * shift).sum() <= threshold
        });
        if settled || n_iter >= params.max_iter {
            let centroids = centroids.outer_iter().map(|centroid| centroid.to_vec()).collect();
            return Ok((centroids, n_iter));
        }
        init = KMeansInit::Precomputed(centroids.clone());
        previous = Some(centroids);
    }
}
