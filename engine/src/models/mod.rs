//! Models: arrays or lifetimes in, fitted models of plain numbers out.
//!
//! Every family is an [`Estimator`]: checked hyperparameters that learn. What it learns is plain
//! data that is saved, loaded and asked without the library that fitted it, so that an upgrade of
//! the library cannot orphan a saved model.

pub mod blend;
pub mod btyd;
pub mod churn;
pub mod density;
pub mod gmm;
pub mod kmeans;
pub mod linear;
mod pool;
pub mod selection;
mod silhouette;
mod survey;
pub mod value;

pub use silhouette::silhouette;

use crate::domain::Seed;
use crate::matrix::{CHUNK_ROWS, RowSource, ScaledMatrix, SourceError};
use gmm::GaussianMixture;
use kmeans::KMeans;
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Checked hyperparameters that can learn from an input.
pub trait Estimator {
    /// What it learns from.
    type Input<'a>: ?Sized;
    /// What it learns.
    type Fitted;

    /// Learns from `input`. The same input and seed give the same bits.
    ///
    /// # Errors
    /// [`FitError`] where the input does not determine a model.
    fn fit(&self, input: &Self::Input<'_>, seed: Seed) -> Result<Fit<Self::Fitted>, FitError>;
}

/// Whose code fits clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    #[default]
    Habitus,
    /// linfa-clustering, slower: a reference to compare with.
    Linfa,
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
    /// Iterations of the winning run, or of what last improved its end; absent where the solver does
    /// not tell.
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
    #[error("row {row} holds a value that is not finite, or larger than 1e15")]
    NotFinite { row: usize },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{got} rows are too few; {need} are needed")]
    TooFewRows { got: usize, need: usize },
    #[error("{need} clusters were asked for, but only {got} distinct rows exist")]
    TooFewDistinctRows { got: usize, need: usize },
    #[error("what was to be started from does not fit rows of {n_features} features")]
    Start { n_features: usize },
    #[error(transparent)]
    Purchases(#[from] btyd::BtydError),
    #[error("no model of purchases was fitted")]
    NoPurchaseModel,
    #[error("no blend was fitted")]
    NoBlend,
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
    /// The logarithm of the row's density, where the family has one.
    pub log_density: Option<f64>,
}

/// A fitted model that says where a row belongs.
pub trait Segmenter: Sync {
    /// Number of clusters.
    fn n_clusters(&self) -> usize;

    /// Assigns one scaled row of `(n_features,)`.
    fn assign(&self, row: &[f32]) -> Membership;

    /// Assigns the rows of `(n_rows, n_features)`, each as [`Segmenter::assign`] would.
    fn assign_rows(&self, rows: &[f32], n_features: usize) -> Vec<Membership>;

    /// Assigns every row of a matrix.
    fn assign_all(&self, rows: &ScaledMatrix) -> Vec<Membership> {
        let width = CHUNK_ROWS * rows.n_features();
        let chunks = rows.values().par_chunks(width);
        chunks.flat_map_iter(|chunk| self.assign_rows(chunk, rows.n_features())).collect()
    }

    /// Assigns every row of a source.
    ///
    /// # Errors
    /// [`SourceError`] where rows cannot be read.
    fn assign_source(&self, source: &dyn RowSource) -> Result<Vec<Membership>, SourceError> {
        let chunks: Vec<Vec<Membership>> = (0..source.n_chunks())
            .into_par_iter()
            .map_init(Vec::new, |buffer, index| {
                Ok(self.assign_rows(source.chunk(index, buffer)?, source.n_features()))
            })
            .collect::<Result<_, SourceError>>()?;
        // Each chunk is let go as soon as it is taken over: all of them may be a good part of memory.
        let mut all = Vec::with_capacity(source.n_rows());
        chunks.into_iter().for_each(|chunk| all.extend(chunk));
        Ok(all)
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

    fn assign_rows(&self, rows: &[f32], n_features: usize) -> Vec<Membership> {
        match self {
            SegmentModel::KMeans(model) => model.assign_rows(rows, n_features),
            SegmentModel::GaussianMixture(model) => model.assign_rows(rows, n_features),
        }
    }
}

/// Refuses fewer distinct rows than clusters, of which no fit is defined.
fn check_distinct(source: &dyn RowSource, n_clusters: usize) -> Result<(), FitError> {
    let mut distinct = std::collections::HashSet::new();
    let mut buffer = Vec::new();
    for index in 0..source.n_chunks() {
        let rows = source.chunk(index, &mut buffer)?;
        for row in rows.chunks_exact(source.n_features()) {
            // Adding zero makes both zeros one.
            distinct.insert(row.iter().map(|value| (value + 0.0).to_bits()).collect::<Vec<u32>>());
            if distinct.len() >= n_clusters {
                return Ok(());
            }
        }
    }
    Err(FitError::TooFewDistinctRows { got: distinct.len(), need: n_clusters })
}

/// Refuses labels of which one is beyond the others or has no row, and too few or too many of them.
fn check_labels(n_rows: usize, labels: &[usize], n_labels: usize) -> Result<(), FitError> {
    if labels.len() != n_rows {
        return Err(FitError::TooFewRows { got: labels.len(), need: n_rows });
    }
    let mut used = vec![false; n_labels];
    for &label in labels {
        match used.get_mut(label) {
            Some(used) => *used = true,
            None => return Err(FitError::TooFewDistinctRows { got: n_labels, need: label + 1 }),
        }
    }
    let n_used = used.iter().filter(|&&used| used).count();
    if n_used < n_labels {
        return Err(FitError::TooFewDistinctRows { got: n_used, need: n_labels });
    }
    Ok(())
}

/// The means of the rows of each label, `(n_labels, n_features)`; a label without a row is refused.
fn group_means(
    source: &dyn RowSource,
    labels: &[usize],
    n_labels: usize,
) -> Result<Vec<Vec<f64>>, FitError> {
    check_labels(source.n_rows(), labels, n_labels)?;
    let d = source.n_features();
    let mut sizes = vec![0.0; n_labels];
    let mut means = vec![vec![0.0; d]; n_labels];
    let mut buffer = Vec::new();
    for (index, labels) in labels.chunks(CHUNK_ROWS).enumerate() {
        let rows = source.chunk(index, &mut buffer)?;
        for (row, &label) in rows.chunks_exact(d).zip(labels) {
            sizes[label] += 1.0;
            means[label].iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }
    for (mean, size) in means.iter_mut().zip(&sizes) {
        mean.iter_mut().for_each(|sum| *sum /= size);
    }
    Ok(means)
}

/// All rows as linfa's solvers take them, `(n_rows, n_features)`.
fn widened(source: &dyn RowSource) -> Result<Array2<f64>, FitError> {
    let mut wide = Array2::zeros((source.n_rows(), source.n_features()));
    let mut to = wide.iter_mut();
    let mut buffer = Vec::new();
    for index in 0..source.n_chunks() {
        let rows = source.chunk(index, &mut buffer)?;
        to.by_ref().zip(rows).for_each(|(to, from)| *to = f64::from(*from));
    }
    Ok(wide)
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
