//! k-means (Lloyd 1982, k-means++ starts by Arthur & Vassilvitskii 2007).

mod linfa_engine;

use super::{Diagnostics, Estimator, Fit, FitError, Membership, Segmenter};
use crate::domain::Seed;
use crate::matrix::ScaledMatrix;
use ndarray::{Array2, Axis};
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

    /// The means of the rows nearest to each centroid; the centroid itself where there are none.
    fn means(&self, rows: &ScaledMatrix) -> Vec<Vec<f64>> {
        let mut sums = vec![vec![0.0; rows.n_features()]; self.centroids.len()];
        let mut sizes = vec![0.0; self.centroids.len()];
        for row in rows.rows() {
            let (cluster, _) = self.nearest(row);
            sizes[cluster] += 1.0;
            sums[cluster].iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        for ((sum, size), centroid) in sums.iter_mut().zip(sizes).zip(&self.centroids) {
            if size > 0.0 {
                sum.iter_mut().for_each(|sum| *sum /= size);
            } else {
                sum.clone_from(centroid);
            }
        }
        sums
    }

    fn reordered(&self, sizes: &[f64]) -> KMeans {
        let order = super::canonical_order(sizes, &self.centroids);
        KMeans { centroids: order.iter().map(|&cluster| self.centroids[cluster].clone()).collect() }
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

/// Where a run ended.
struct Path {
    n_iter: u32,
    converged: bool,
}

/// Lloyd's iterations with exact means, from where linfa's loop ended: it counts the old centroid
/// as one more point, so that its centroids are not the means of their rows.
fn settle(
    (centroids, mut n_iter): (Vec<Vec<f64>>, u32),
    rows: &ScaledMatrix,
    threshold: f64,
    max_iter: u32,
) -> (KMeans, Path) {
    let mut model = KMeans { centroids };
    while n_iter < max_iter {
        let means = model.means(rows);
        let pairs = means.iter().flatten().zip(model.centroids.iter().flatten());
        let shift: f64 = pairs.map(|(new, old)| (new - old) * (new - old)).sum();
        model.centroids = means;
        n_iter += 1;
        if shift <= threshold {
            return (model, Path { n_iter, converged: true });
        }
    }
    (model, Path { n_iter, converged: false })
}

impl KMeansParams {
    /// The squared shift of all centroids at which a run has converged.
    fn threshold(&self, rows: &Array2<f64>) -> f64 {
        self.tol * rows.var_axis(Axis(0), 0.0).mean().unwrap_or(0.0)
    }

    /// Fits from where rows already belong, `(n_customers,)` below `n_clusters`, instead of from
    /// random starts: the first centroids are the means of the rows of each label.
    ///
    /// # Errors
    /// [`FitError`] where a label has no row, or a row is not finite.
    pub fn fit_from(&self, rows: &ScaledMatrix, labels: &[usize]) -> Result<Fit<KMeans>, FitError> {
        super::check_finite(rows)?;
        let means = super::group_means(rows, labels, self.n_clusters)?;
        let threshold = self.threshold(&super::widened(rows));
        let (model, path) = settle((means, 0), rows, threshold, self.max_iter);
        let (sizes, inertia) = model.sizes_and_inertia(rows);
        let mut diagnostics = Diagnostics {
            converged: path.converged,
            n_iter: Some(path.n_iter),
            objective: inertia,
            run: 0,
            notes: vec!["started from the incumbent's segments".to_owned()],
        };
        self.note_limit(&mut diagnostics);
        Ok(Fit { model: model.reordered(&sizes), diagnostics })
    }

    fn note_limit(&self, diagnostics: &mut Diagnostics) {
        if !diagnostics.converged {
            diagnostics.notes.push(format!("stopped at the limit of {} iterations", self.max_iter));
        }
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
            let threshold = self.threshold(&wide);
            let start = linfa_engine::run(self, &wide, threshold, seed)?;
            let (model, path) = settle(start, rows, threshold, self.max_iter);
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
        self.note_limit(&mut diagnostics);
        Ok(Fit { model: model.reordered(&sizes), diagnostics })
    }
}
