//! Mini-batch k-means (Sculley, "Web-scale k-means clustering", 2010): a first look at rows that are
//! too many for more. Each iteration draws a few rows, and each of them moves the centroid nearest to
//! it by one part in as many as that centroid has met.

use super::lloyd::{self, Ended, Limits};
use crate::domain::Seed;
use crate::kernels::nearest::{Ask, Centers, Found};
use crate::matrix::{CHUNK_ROWS, RowSource};
use crate::models::FitError;
use crate::models::survey::Survey;
use rand::Rng;

/// Batches over which the centroids' shift is averaged before it is held against the threshold.
const MEMORY: f64 = 10.0;

/// Iterates from `start`, `(n_clusters, n_features)`, on batches of `batch` rows, and labels all rows
/// once at the end.
///
/// # Errors
/// [`FitError`] where rows cannot be read.
pub(super) fn iterate(
    source: &dyn RowSource,
    survey: &Survey,
    start: Vec<Vec<f64>>,
    limits: &Limits,
    batch: usize,
    seed: Seed,
) -> Result<Ended, FitError> {
    let mut rng = seed.derive("mini-batch", 0).rng();
    let batch = batch.clamp(1, source.n_rows());
    let (mut centroids, mut met) = (start, Vec::new());
    met.resize(centroids.len(), 0.0);
    let mut usual_shift = f64::INFINITY;
    let (mut n_iter, mut converged) = (0, false);
    let (mut found, mut buffer) = (Found::default(), Vec::new());
    while n_iter < limits.max_iter && !converged {
        let before = centroids.clone();
        let centers = Centers::new(limits.level, &centroids);
        let n = source.n_rows() as u64;
        let mut drawn: Vec<usize> = (0..batch).map(|_| rng.gen_range(0..n) as usize).collect();
        drawn.sort_unstable();
        for rows in drawn.chunk_by(|a, b| a / CHUNK_ROWS == b / CHUNK_ROWS) {
            let chunk = rows[0] / CHUNK_ROWS;
            let picked: Vec<u32> = rows.iter().map(|row| (row % CHUNK_ROWS) as u32).collect();
            let values = source.chunk(chunk, &mut buffer)?;
            let weights = source.weights(chunk);
            centers.nearest(values, &picked, Ask::Labels, &mut found);
            for (&place, &label) in picked.iter().zip(&found.labels) {
                let (place, label) = (place as usize, label as usize);
                let weight = weights.map_or(1.0, |weights| f64::from(weights[place]));
                met[label] += weight;
                if met[label] > 0.0 {
                    let rate = weight / met[label];
                    let row = values.chunks_exact(source.n_features()).nth(place);
                    let pairs = centroids[label].iter_mut().zip(row.unwrap_or_default());
                    pairs.for_each(|(center, value)| {
                        *center += rate * (f64::from(*value) - *center)
                    });
                }
            }
        }
        let pairs = centroids.iter().flatten().zip(before.iter().flatten());
        let shift: f64 = pairs.map(|(new, old)| (new - old) * (new - old)).sum();
        usual_shift = if usual_shift.is_finite() {
            usual_shift + (shift - usual_shift) / MEMORY
        } else {
            shift
        };
        n_iter += 1;
        converged = n_iter as f64 > MEMORY && usual_shift <= limits.threshold;
    }
    let ended = lloyd::iterate(source, survey, centroids, &Limits { max_iter: 0, ..*limits })?;
    Ok(Ended { n_iter, converged, ..ended })
}
