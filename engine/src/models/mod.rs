//! Models: arrays or lifetimes in, fitted models of plain numbers out.
//!
//! Every family is an [`Estimator`]: checked hyperparameters that learn. What it learns is plain
//! data that is saved, loaded and asked without the library that fitted it, so that an upgrade of
//! the library cannot orphan a saved model.

pub mod churn;
pub mod gmm;
pub mod kmeans;
pub mod linear;
pub mod selection;
mod silhouette;
pub mod value;

pub use silhouette::silhouette;

use crate::domain::Seed;
use crate::matrix::ScaledMatrix;
use gmm::GaussianMixture;
use kmeans::KMeans;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Checked hyperparameters that can learn from an input.
pub trait Estimator {
    /// What it learns from.
    type Input: ?Sized;
    /// What it learns.
    type Fitted;

    /// Learns from `input`. The same input and seed give the same bits.
    ///
    /// # Errors
    /// [`FitError`] where the input does not determine a model.
    fn fit(&self, input: &Self::Input, seed: Seed) -> Result<Fit<Self::Fitted>, FitError>;
}

/// A fitted model and how the fit went.
#[derive(Debug, Clone)]
pub struct Fit<M> {
    pub model: M,
    pub diagnostics: Diagnostics,
}

/// How a fit went. Non-convergence is always told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagnostics {
    pub converged: bool,
    /// Iterations of the winning run; absent where the solver does not tell.
    pub n_iter: Option<u32>,
    /// What was optimised: inertia, mean log-likelihood, penalised loss.
    pub objective: f64,
    /// The index of the winning run.
    pub run: u32,
    /// What else a reader should know, such as runs that failed.
    pub notes: Vec<String>,
}

/// Why no model was learned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FitError {
    #[error("row {row} holds a value that is not finite")]
    NotFinite { row: usize },
    #[error("{got} rows are too few; {need} are needed")]
    TooFewRows { got: usize, need: usize },
    #[error("{need} clusters were asked for, but only {got} distinct rows exist")]
    TooFewDistinctRows { got: usize, need: usize },
    #[error("all rows have the same label")]
    OneClass,
    #[error(
        "no run ended in {max_iter} iterations or every one degenerated; the last said: {last}"
    )]
    NoRunSucceeded { max_iter: u64, last: String },
    #[error("the {solver} solver failed: {message}")]
    Solver { solver: &'static str, message: String },
}

/// Where one row belongs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Membership {
    pub cluster: usize,
    /// The responsibility of that cluster, where the family has probabilities.
    pub probability: Option<f64>,
}

/// A fitted model that says where a row belongs.
pub trait Segmenter {
    /// Number of clusters.
    fn n_clusters(&self) -> usize;

    /// Assigns one scaled row of `(n_features,)`.
    fn assign(&self, row: &[f32]) -> Membership;

    /// Assigns every row, each as [`Segmenter::assign`] would.
    fn assign_all(&self, rows: &ScaledMatrix) -> Vec<Membership> {
        rows.rows().map(|row| self.assign(row)).collect()
    }
}

/// Any family of segment models, as it is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum SegmentModel {
    #[serde(rename = "kmeans")]
    KMeans(KMeans),
    GaussianMixture(GaussianMixture),
}

impl SegmentModel {
    /// The family's name in reports and versions.
    pub fn family(&self) -> &'static str {
        match self {
            SegmentModel::KMeans(_) => "kmeans",
            SegmentModel::GaussianMixture(_) => "gaussian_mixture",
        }
    }
}

impl Segmenter for SegmentModel {
    fn n_clusters(&self) -> usize {
        match self {
            SegmentModel::KMeans(model) => model.n_clusters(),
            SegmentModel::GaussianMixture(model) => model.n_clusters(),
        }
    }

    fn assign(&self, row: &[f32]) -> Membership {
        match self {
            SegmentModel::KMeans(model) => model.assign(row),
            SegmentModel::GaussianMixture(model) => model.assign(row),
        }
    }
}

/// Refuses a matrix with a value that is not finite, naming its row.
fn check_finite(rows: &ScaledMatrix) -> Result<(), FitError> {
    match rows.rows().position(|row| row.iter().any(|value| !value.is_finite())) {
        Some(row) => Err(FitError::NotFinite { row }),
        None => Ok(()),
    }
}

/// Refuses fewer distinct rows than clusters, which no solver survives in a defined way.
fn check_distinct(rows: &ScaledMatrix, n_clusters: usize) -> Result<(), FitError> {
    let mut distinct = std::collections::HashSet::new();
    for row in rows.rows() {
        // Adding zero makes both zeros one.
        distinct.insert(row.iter().map(|value| (value + 0.0).to_bits()).collect::<Vec<u32>>());
        if distinct.len() >= n_clusters {
            return Ok(());
        }
    }
    Err(FitError::TooFewDistinctRows { got: distinct.len(), need: n_clusters })
}

/// The means of the rows of each label, `(n_labels, n_features)`; a label without a row is refused.
fn group_means(
    rows: &ScaledMatrix,
    labels: &[usize],
    n_labels: usize,
) -> Result<Vec<Vec<f64>>, FitError> {
    let mut sizes = vec![0.0; n_labels];
    let mut means = vec![vec![0.0; rows.n_features()]; n_labels];
    for (row, &label) in rows.rows().zip(labels) {
        sizes[label] += 1.0;
        means[label].iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let n_used = sizes.iter().filter(|&&size| size > 0.0).count();
    if n_used < n_labels {
        return Err(FitError::TooFewDistinctRows { got: n_used, need: n_labels });
    }
    for (mean, size) in means.iter_mut().zip(&sizes) {
        mean.iter_mut().for_each(|sum| *sum /= size);
    }
    Ok(means)
}

/// The rows as the solvers take them, `(n_rows, n_features)`.
fn widened(rows: &ScaledMatrix) -> Array2<f64> {
    let mut wide = Array2::zeros((rows.n_rows(), rows.n_features()));
    wide.iter_mut().zip(rows.values()).for_each(|(to, from)| *to = f64::from(*from));
    wide
}

/// Clusters from the largest to the smallest, ties by position: an order that does not depend on
/// which random start found them.
fn canonical_order(sizes: &[f64], positions: &[Vec<f64>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| {
        let by_position = || {
            let pairs = positions[a].iter().zip(&positions[b]);
            pairs.map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne())
        };
        sizes[b]
            .total_cmp(&sizes[a])
            .then_with(|| by_position().unwrap_or(std::cmp::Ordering::Equal))
    });
    order
}
