//! Expectation maximisation from where rows already belong, for a warm start.

use super::{GaussianMixture, GmmParams, Parameters};
use crate::matrix::ScaledMatrix;
use crate::models::{Diagnostics, Fit, FitError, check_finite, group_means};

/// What is near an optimum climbs slowly: it has converged only at this part of the tolerance.
const FINER: f64 = 0.01;

/// Rows weighted by how much each belongs to each component.
struct Sums {
    /// `(n_components,)`.
    weights: Vec<f64>,
    /// `(n_components, n_features)`.
    first: Vec<Vec<f64>>,
    /// Row-major `(n_features, n_features)` per component, lower triangle.
    second: Vec<Vec<f64>>,
}

impl GmmParams {
    /// Fits from where rows already belong, `(n_customers,)` below `n_components`, instead of from
    /// random starts: the first components are the moments of the rows of each label.
    ///
    /// # Errors
    /// [`FitError`] where a label has no row, a row is not finite, or a component collapses.
    pub fn fit_from(
        &self,
        rows: &ScaledMatrix,
        labels: &[usize],
    ) -> Result<Fit<GaussianMixture>, FitError> {
        check_finite(rows)?;
        group_means(rows, labels, self.n_components)?;
        let mut sums = Sums::new(self.n_components, rows.n_features());
        let mut hard = vec![0.0; self.n_components];
        for (row, &label) in rows.rows().zip(labels) {
            hard.iter_mut().for_each(|share| *share = 0.0);
            hard[label] = 1.0;
            sums.add(row, &hard);
        }
        let mut mixture = self.maximise(&sums)?;
        let (mut bound, mut n_iter, mut converged) = (f64::NEG_INFINITY, 0, false);
        while n_iter < self.max_iter && !converged {
            let (sums, now) = expect(&mixture, rows);
            converged = now - bound < FINER * self.tol && n_iter > 0;
            bound = now;
            if !converged {
                mixture = self.maximise(&sums)?;
                n_iter += 1;
            }
        }
        let mut notes = vec!["started from the incumbent's segments".to_owned()];
        if !converged {
            notes.push(format!("stopped at the limit of {} iterations", self.max_iter));
        }
        let objective = mixture.mean_log_density(rows);
        let diagnostics = Diagnostics { converged, n_iter: Some(n_iter), objective, run: 0, notes };
        Ok(Fit { model: mixture.reordered(), diagnostics })
    }

    /// The components with these sums (M step), `reg_covar` on their diagonals.
    fn maximise(&self, sums: &Sums) -> Result<GaussianMixture, FitError> {
        let n: f64 = sums.weights.iter().sum();
        let mut parameters =
            Parameters { weights: Vec::new(), means: Vec::new(), covariances: Vec::new() };
        for ((weight, first), second) in sums.weights.iter().zip(&sums.first).zip(&sums.second) {
            let d = first.len();
            let mean: Vec<f64> = first.iter().map(|sum| sum / weight).collect();
            let mut covariance = vec![0.0; d * d];
            for i in 0..d {
                for j in 0..=i {
                    let value = second[i * d + j] / weight - mean[i] * mean[j];
                    covariance[i * d + j] = value;
                    covariance[j * d + i] = value;
                }
                covariance[i * d + i] += self.reg_covar;
            }
            parameters.weights.push(weight / n);
            parameters.means.push(mean);
            parameters.covariances.push(covariance);
        }
        GaussianMixture::try_from(parameters)
            .map_err(|last| FitError::NoRunSucceeded { max_iter: u64::from(self.max_iter), last })
    }
}

/// How much every row belongs to every component, summed up, and the mean log-density (E step).
fn expect(mixture: &GaussianMixture, rows: &ScaledMatrix) -> (Sums, f64) {
    let k = mixture.parameters().weights.len();
    let mut sums = Sums::new(k, rows.n_features());
    let mut joint = vec![0.0; k];
    let mut log_density = 0.0;
    for row in rows.rows() {
        let density = mixture.log_joint(row, &mut joint);
        log_density += density;
        joint.iter_mut().for_each(|log| *log = libm::exp(*log - density));
        sums.add(row, &joint);
    }
    (sums, log_density / rows.n_rows() as f64)
}

impl Sums {
    fn new(k: usize, d: usize) -> Sums {
        Sums {
            weights: vec![0.0; k],
            first: vec![vec![0.0; d]; k],
            second: vec![vec![0.0; d * d]; k],
        }
    }

    fn add(&mut self, row: &[f32], shares: &[f64]) {
        let d = row.len();
        for (component, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            self.weights[component] += share;
            let (first, second) = (&mut self.first[component], &mut self.second[component]);
            for i in 0..d {
                let weighted = share * f64::from(row[i]);
                first[i] += weighted;
                for j in 0..=i {
                    second[i * d + j] += weighted * f64::from(row[j]);
                }
            }
        }
    }
}
