//! k-means (Lloyd 1982, k-means++ starts by Arthur & Vassilvitskii 2007).

mod linfa_engine;

use super::{Diagnostics, Estimator, Fit, FitError, Membership, Segmenter};
use crate::domain::Seed;
use crate::matrix::ScaledMatrix;
use serde::{Deserialize, Serialize};

/// Hyperparameters of k-means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KMeansParams {
    pub n_clusters: usize,
    /// Independent starts; the one with the least inertia wins.
    pub n_init: u32,
    pub max_iter: u32,
    /// Converged once the centroids' squared shift is at most `tol` times the mean variance of the
    /// columns, as in scikit-learn.
    pub tol: f64,
}

/// Fitted centroids, `(n_clusters, n_features)`, from the largest cluster to the smallest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KMeans {
    pub centroids: Vec<Vec<f64>>,
}

impl KMeans {
    /// The nearest centroid and the squared distance to it; the first of equals.
    pub fn nearest(&self, row: &[f32]) -> (usize, f64) {
        let mut best = (0, f64::INFINITY);
        for (cluster, centroid) in self.centroids.iter().enumerate() {
            let distance = centroid.iter().zip(row).fold(0.0, |sum, (center, value)| {
                let difference = f64::from(*value) - center;
                difference.mul_add(difference, sum)
            });
            if distance < best.1 {
                best = (cluster, distance);
            }
        }
        best
    }

    /// The sum of squared distances to the nearest centroids over all rows.
    pub fn inertia(&self, rows: &ScaledMatrix) -> f64 {
        self.sizes_and_inertia(rows).1
    }

    fn sizes_and_inertia(&self, rows: &ScaledMatrix) -> (Vec<f64>, f64) {
        let mut sizes = vec![0.0; self.centroids.len()];
        let mut inertia = 0.0;
        for row in rows.rows() {
            let (cluster, distance) = self.nearest(row);
            sizes[cluster] += 1.0;
            inertia += distance;
        }
        (sizes, inertia)
    }
}

impl Segmenter for KMeans {
    fn n_clusters(&self) -> usize {
        self.centroids.len()
    }

    fn assign(&self, row: &[f32]) -> Membership {
        Membership { cluster: self.nearest(row).0, probability: None }
    }
}

impl Estimator for KMeansParams {
    type Input = ScaledMatrix;
    type Fitted = KMeans;

    /// Fits on scaled rows, `(n_customers, n_features)`.
    fn fit(&self, rows: &ScaledMatrix, seed: Seed) -> Result<Fit<KMeans>, FitError> {
        super::check_finite(rows)?;
        super::check_distinct(rows, self.n_clusters)?;
        let wide = super::widened(rows);
        let mut best: Option<(KMeans, Vec<f64>, Diagnostics)> = None;
        for run in 0..self.n_init.max(1) {
            let seed = seed.derive("kmeans", u64::from(run));
            let path = linfa_engine::run(self, &wide, seed)?;
            let model = KMeans { centroids: path.centroids };
            let (sizes, inertia) = model.sizes_and_inertia(rows);
            // A run with an empty cluster wins only where every run has one.
            let rank = |sizes: &[f64], inertia: f64| (sizes.contains(&0.0), inertia);
            let better = best.as_ref().is_none_or(|(_, sizes_so_far, so_far)| {
                rank(&sizes, inertia) < rank(sizes_so_far, so_far.objective)
            });
            if better {
                let diagnostics = Diagnostics {
                    converged: path.converged,
                    n_iter: Some(path.n_iter),
                    objective: inertia,
                    run,
                    notes: Vec::new(),
                };
                best = Some((model, sizes, diagnostics));
            }
        }
        let Some((model, sizes, mut diagnostics)) = best else {
            return Err(FitError::TooFewRows { got: rows.n_rows(), need: 1 });
        };
        if !diagnostics.converged {
            diagnostics.notes.push(format!("stopped at the limit of {} iterations", self.max_iter));
        }
        let order = super::canonical_order(&sizes, &model.centroids);
        let centroids = order.iter().map(|&cluster| model.centroids[cluster].clone()).collect();
        Ok(Fit { model: KMeans { centroids }, diagnostics })
    }
}
