//! What components may look like, and how they are learned from moments.

use super::Parameters;
use crate::kernels::Level;
use crate::kernels::components::{Components, Shape, tiled};
use crate::kernels::moments::{Moments, Order};
use serde::{Deserialize, Serialize};

/// What components have of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CovarianceType {
    /// A covariance each.
    #[default]
    Full,
    /// One covariance for all.
    Tied,
    /// A variance for each component and feature.
    Diag,
    /// A variance each.
    Spherical,
}

/// The covariances of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariances {
    /// Per component row-major `(n_features, n_features)`, positive definite.
    Full(Vec<Vec<f64>>),
    /// Row-major `(n_features, n_features)`, positive definite.
    Tied(Vec<f64>),
    /// `(n_components, n_features)`, positive.
    Diag(Vec<Vec<f64>>),
    /// `(n_components,)`, positive.
    Spherical(Vec<f64>),
}

impl CovarianceType {
    /// Numbers that are free in the covariances of `k` components of `d` features.
    pub(super) fn n_free(self, k: usize, d: usize) -> usize {
        match self {
            CovarianceType::Full => k * d * (d + 1) / 2,
            CovarianceType::Tied => d * (d + 1) / 2,
            CovarianceType::Diag => k * d,
            CovarianceType::Spherical => k,
        }
    }

    /// The second moments that an iteration needs.
    pub(super) fn order(self) -> Order {
        match self {
            CovarianceType::Full => Order::Products,
            // The products of all rows together do not depend on responsibilities.
            CovarianceType::Tied => Order::None,
            CovarianceType::Diag | CovarianceType::Spherical => Order::Squares,
        }
    }
}

/// Where moments were taken, and what tied covariances need besides.
pub(super) struct Frame<'a> {
    /// What is zero in them, `(n_features,)`.
    pub origin: &'a [f64],
    /// The products of all rows, a lower triangle row by row; empty unless tied.
    pub products: &'a [f64],
    pub reg_covar: f64,
}

/// The mixture with these moments (M step), `reg_covar` on its diagonals.
pub(super) fn maximise(kind: CovarianceType, moments: &Moments, frame: &Frame<'_>) -> Parameters {
    let (k, d) = (moments.weights.len(), frame.origin.len());
    let pairs = d * (d + 1) / 2;
    // A component to which nothing belongs must not divide by zero, as in scikit-learn.
    let weights: Vec<f64> =
        moments.weights.iter().map(|weight| weight + 10.0 * f64::EPSILON).collect();
    let total: f64 = weights.iter().sum();
    let moved: Vec<Vec<f64>> = moments
        .first
        .chunks_exact(d)
        .zip(&weights)
        .map(|(sums, weight)| sums.iter().map(|sum| sum / weight).collect())
        .collect();
    let diagonals = || -> Vec<Vec<f64>> {
        let of = |component: usize| {
            let (squares, mean) = (&moments.second[component * d..][..d], &moved[component]);
            let variance = |(square, mean): (&f64, &f64)| {
                (square / weights[component] - mean * mean).max(0.0) + frame.reg_covar
            };
            squares.iter().zip(mean).map(variance).collect()
        };
        (0..k).map(of).collect()
    };
    let covariances = match kind {
        CovarianceType::Full => {
            let of = |component: usize| {
                let products = &moments.second[component * pairs..][..pairs];
                symmetric(d, frame.reg_covar, |i, j| {
                    let mean = &moved[component];
                    products[i * (i + 1) / 2 + j] / weights[component] - mean[i] * mean[j]
                })
            };
            Covariances::Full((0..k).map(of).collect())
        }
        CovarianceType::Tied => Covariances::Tied(symmetric(d, frame.reg_covar, |i, j| {
            let between =
                moved.iter().zip(&weights).map(|(mean, weight)| weight * mean[i] * mean[j]);
            (frame.products[i * (i + 1) / 2 + j] - between.sum::<f64>()) / total
        })),
        CovarianceType::Diag => Covariances::Diag(diagonals()),
        CovarianceType::Spherical => {
            let mean = |variances: &Vec<f64>| variances.iter().sum::<f64>() / d as f64;
            Covariances::Spherical(diagonals().iter().map(mean).collect())
        }
    };
    let back = |mean: &Vec<f64>| mean.iter().zip(frame.origin).map(|(m, o)| m + o).collect();
    Parameters {
        weights: weights.iter().map(|weight| weight / total).collect(),
        means: moved.iter().map(back).collect(),
        covariances,
    }
}

/// A symmetric matrix from its lower triangle, with a number added to the diagonal.
fn symmetric(d: usize, added: f64, lower: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut matrix = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let value = lower(i, j);
            matrix[i * d + j] = value;
            matrix[j * d + i] = value;
        }
        matrix[i * d + i] += added;
    }
    matrix
}

impl Parameters {
    /// Makes the components ready for rows moved so that `origin` becomes zero.
    ///
    /// # Errors
    /// Where arrays do not fit together, or a covariance is not positive definite.
    pub(super) fn components(&self, level: Level, origin: &[f64]) -> Result<Components, String> {
        self.check()?;
        let d = origin.len();
        let moved = |mean: &Vec<f64>| -> Vec<f64> {
            mean.iter().zip(origin).map(|(mean, origin)| mean - origin).collect()
        };
        let means: Vec<Vec<f64>> = self.means.iter().map(moved).collect();
        let definite = |matrix: &[f64], which: &str| {
            cholesky(matrix, d).ok_or_else(|| {
                format!("{which} is not positive definite; a larger reg_covar keeps it so")
            })
        };
        let (shape, log_dets) = match &self.covariances {
            Covariances::Full(covariances) => {
                let (mut factors, mut log_dets) = (Vec::new(), Vec::new());
                for (component, covariance) in covariances.iter().enumerate() {
                    let factor = definite(covariance, &format!("covariance {component}"))?;
                    factors.extend(tiled(&inverse(&factor, d), d));
                    log_dets.push((0..d).map(|i| libm::log(factor[i * d + i])).sum::<f64>());
                }
                (Shape::Full { means: means.concat(), factors }, log_dets)
            }
            Covariances::Tied(covariance) => {
                let factor = definite(covariance, "the covariance")?;
                let log_det: f64 = (0..d).map(|i| libm::log(factor[i * d + i])).sum();
                let inverse = inverse(&factor, d);
                let times = |mean: &Vec<f64>| -> Vec<f64> {
                    let row = |i: usize| (0..=i).map(|j| inverse[i * d + j] * mean[j]).sum();
                    (0..d).map(row).collect()
                };
                let projected = means.iter().flat_map(times).collect();
                (Shape::Tied { projected, factor: tiled(&inverse, d) }, vec![log_det; means.len()])
            }
            Covariances::Diag(variances) => diagonal(&means, variances)?,
            Covariances::Spherical(variances) => {
                let variances: Vec<Vec<f64>> =
                    variances.iter().map(|&variance| vec![variance; d]).collect();
                diagonal(&means, &variances)?
            }
        };
        let half_log_tau = 0.5 * d as f64 * libm::log(2.0 * std::f64::consts::PI);
        let constant = |(weight, log_det): (&f64, f64)| libm::log(*weight) - half_log_tau - log_det;
        let constants = self.weights.iter().zip(log_dets).map(constant).collect();
        Ok(Components::new(level, d, constants, shape))
    }

    fn check(&self) -> Result<(), String> {
        let (k, d) = (self.weights.len(), self.means.first().map_or(0, Vec::len));
        let covariances = match &self.covariances {
            Covariances::Full(each) => {
                each.len() == k && each.iter().all(|covariance| covariance.len() == d * d)
            }
            Covariances::Tied(covariance) => covariance.len() == d * d,
            Covariances::Diag(each) => {
                each.len() == k && each.iter().all(|variances| variances.len() == d)
            }
            Covariances::Spherical(variances) => variances.len() == k,
        };
        let means = self.means.len() == k && self.means.iter().all(|mean| mean.len() == d);
        if k == 0 || d == 0 || !means || !covariances {
            return Err("the mixture's arrays do not fit together".to_owned());
        }
        if !self.weights.iter().all(|&weight| weight > 0.0 && weight.is_finite()) {
            return Err("a component's weight is not positive".to_owned());
        }
        Ok(())
    }
}

/// Components without products, and the logarithms of their standard deviations, added up.
fn diagonal(means: &[Vec<f64>], variances: &[Vec<f64>]) -> Result<(Shape, Vec<f64>), String> {
    let is_positive = |variance: &f64| *variance > 0.0 && variance.is_finite();
    if let Some(component) = variances.iter().position(|each| !each.iter().all(is_positive)) {
        return Err(format!(
            "a variance of component {component} is not positive; a larger reg_covar keeps it so"
        ));
    }
    let inverses = variances.iter().flatten().map(|variance| 1.0 / variance.sqrt()).collect();
    let log_det =
        |each: &Vec<f64>| each.iter().map(|&variance| 0.5 * libm::log(variance)).sum::<f64>();
    Ok((
        Shape::Diagonal { means: means.concat(), inverses },
        variances.iter().map(log_det).collect(),
    ))
}

/// The lower factor of a symmetric positive definite matrix, row-major; `None` of any other.
fn cholesky(matrix: &[f64], d: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|l| factor[i * d + l] * factor[j * d + l]).sum();
            let rest = matrix[i * d + j] - dot;
            if i == j {
                // What rounding leaves of a pivot that is zero is none.
                let least = d as f64 * f64::EPSILON * matrix[i * d + i];
                if rest <= least.max(0.0) || !rest.is_finite() {
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

/// The inverse of a lower triangular matrix, row-major.
fn inverse(factor: &[f64], d: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; d * d];
    for j in 0..d {
        inverse[j * d + j] = 1.0 / factor[j * d + j];
        for i in j + 1..d {
            let dot: f64 = (j..i).map(|l| factor[i * d + l] * inverse[l * d + j]).sum();
            inverse[i * d + j] = -dot / factor[i * d + i];
        }
    }
    inverse
}
