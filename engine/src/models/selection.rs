//! How many clusters: a fixed number, or the best of a range with the table of all that were tried.

use super::gmm::{CovarianceType, GmmParams, Init};
use super::kmeans::KMeansParams;
use super::{Diagnostics, Engine, Estimator, FitError, SegmentModel, Segmenter, silhouette};
use crate::domain::Seed;
use crate::matrix::{CHUNK_ROWS, RowSource, ScaledMatrix};
use rand::seq::index;
use serde::{Deserialize, Serialize};

/// Rows that the silhouette looks at; its cost grows with their square.
pub const SILHOUETTE_SAMPLE: usize = 2_000;

/// The family of segment models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Kmeans,
    GaussianMixture,
}

/// Hyperparameters of the segmentation: the family, its solver's settings and how many clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentationParams {
    pub family: Family,
    pub engine: Engine,
    /// Of mixtures.
    pub covariance: CovarianceType,
    /// Of mixtures.
    pub init: Init,
    /// Of k-means: rows that an iteration looks at, instead of all.
    pub mini_batch: Option<usize>,
    /// The least and the largest number of clusters; equal where the number is fixed.
    pub k_min: usize,
    pub k_max: usize,
    pub n_init: u32,
    pub max_iter: u32,
    pub tol: f64,
    pub reg_covar: f64,
    /// Whether a retraining starts from the incumbent's segments, where their number is in the range.
    pub warm_start: bool,
}

/// One number of clusters that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    pub k: usize,
    /// Sum of squared distances; k-means only.
    pub inertia: Option<f64>,
    /// Less is better; mixtures only.
    pub bic: Option<f64>,
    /// On a sample of rows, more is better.
    pub silhouette: Option<f64>,
    pub diagnostics: Option<Diagnostics>,
    /// Why this number gave no model.
    pub failure: Option<String>,
}

/// Where rows belong already.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    pub k: usize,
    /// `(n_customers,)`, each below `k`.
    pub labels: &'a [usize],
}

/// The chosen model, how its fit went, and everything that was tried.
#[derive(Debug, Clone)]
pub struct Selected {
    pub model: SegmentModel,
    pub diagnostics: Diagnostics,
    pub table: Vec<Candidate>,
}

impl SegmentationParams {
    /// Fits every number of clusters and keeps the best: by BIC for mixtures, by the sampled
    /// silhouette for k-means. The smaller number wins a tie.
    ///
    /// # Errors
    /// [`FitError`] where no number gives a model; the first failure is told.
    pub fn select(&self, source: &dyn RowSource, seed: Seed) -> Result<Selected, FitError> {
        self.choose(source, None, seed)
    }

    /// Fits only as many clusters as `start` has, from there instead of from random starts.
    ///
    /// # Errors
    /// As [`SegmentationParams::select`].
    pub fn select_from(
        &self,
        source: &dyn RowSource,
        start: &Start<'_>,
        seed: Seed,
    ) -> Result<Selected, FitError> {
        self.choose(source, Some(start), seed)
    }

    fn choose(
        &self,
        source: &dyn RowSource,
        start: Option<&Start<'_>>,
        seed: Seed,
    ) -> Result<Selected, FitError> {
        let (k_min, k_max) = match start {
            Some(start) => (start.k, start.k),
            None => (self.k_min, self.k_max),
        };
        let sample = sample(source, SILHOUETTE_SAMPLE, seed.derive("silhouette", 0))?;
        let mut best: Option<(f64, SegmentModel, Diagnostics)> = None;
        let mut table = Vec::new();
        let mut first_failure = None;
        for k in k_min..=k_max {
            match self.fit_one(k, source, &sample, start, seed) {
                Ok((model, candidate)) => {
                    let score = match self.family {
                        Family::GaussianMixture => candidate.bic.map(|bic| -bic),
                        Family::Kmeans => candidate.silhouette,
                    };
                    let score = score.unwrap_or(f64::NEG_INFINITY);
                    if best.as_ref().is_none_or(|(so_far, _, _)| score > *so_far)
                        && let Some(diagnostics) = candidate.diagnostics.clone()
                    {
                        best = Some((score, model, diagnostics));
                    }
                    table.push(candidate);
                }
                Err(error) => {
                    table.push(Candidate {
                        k,
                        inertia: None,
                        bic: None,
                        silhouette: None,
                        diagnostics: None,
                        failure: Some(error.to_string()),
                    });
                    first_failure.get_or_insert(error);
                }
            }
        }
        match best {
            Some((_, model, mut diagnostics)) => {
                let k = model.n_clusters();
                if k_min < k_max && (k == k_min || k == k_max) {
                    diagnostics.notes.push(format!(
                        "{k} is at the edge of the range {k_min} to {k_max}; a wider range may fit \
                         better"
                    ));
                }
                Ok(Selected { model, diagnostics, table })
            }
            None => {
                Err(first_failure.unwrap_or(FitError::TooFewRows { got: source.n_rows(), need: 1 }))
            }
        }
    }

    fn fit_one(
        &self,
        k: usize,
        source: &dyn RowSource,
        sample: &ScaledMatrix,
        start: Option<&Start<'_>>,
        seed: Seed,
    ) -> Result<(SegmentModel, Candidate), FitError> {
        let (model, diagnostics, inertia, bic) = match self.family {
            Family::Kmeans => {
                let params = KMeansParams {
                    n_clusters: k,
                    n_init: self.n_init,
                    max_iter: self.max_iter,
                    tol: self.tol,
                    engine: self.engine,
                    mini_batch: self.mini_batch,
                };
                let fit = match start {
                    Some(start) => params.fit_from(source, start.labels)?,
                    None => params.fit(source, seed)?,
                };
                let inertia = fit.diagnostics.objective;
                (SegmentModel::KMeans(fit.model), fit.diagnostics, Some(inertia), None)
            }
            Family::GaussianMixture => {
                let params = GmmParams {
                    n_components: k,
                    n_init: self.n_init,
                    max_iter: self.max_iter,
                    tol: self.tol,
                    reg_covar: self.reg_covar,
                    covariance: self.covariance,
                    init: self.init,
                    engine: self.engine,
                };
                let fit = match start {
                    Some(start) => params.fit_from(source, start.labels)?,
                    None => params.fit(source, seed)?,
                };
                let bic = fit.model.bic(source.n_rows(), fit.diagnostics.objective);
                (SegmentModel::GaussianMixture(fit.model), fit.diagnostics, None, Some(bic))
            }
        };
        let labels: Vec<usize> =
            model.assign_all(sample).iter().map(|membership| membership.cluster).collect();
        let silhouette = silhouette(sample, &labels, sample.n_rows(), seed);
        let candidate = Candidate {
            k,
            inertia,
            bic,
            silhouette,
            diagnostics: Some(diagnostics),
            failure: None,
        };
        Ok((model, candidate))
    }
}

/// At most `n` rows chosen by the seed without replacement, in their order.
fn sample(source: &dyn RowSource, n: usize, seed: Seed) -> Result<ScaledMatrix, FitError> {
    let (n_rows, d) = (source.n_rows(), source.n_features());
    let mut chosen = index::sample(&mut seed.rng(), n_rows, n.min(n_rows)).into_vec();
    chosen.sort_unstable();
    let (mut values, mut buffer) = (Vec::with_capacity(chosen.len() * d), Vec::new());
    for of_chunk in chosen.chunk_by(|a, b| a / CHUNK_ROWS == b / CHUNK_ROWS) {
        let rows = source.chunk(of_chunk[0] / CHUNK_ROWS, &mut buffer)?;
        for row in of_chunk {
            values.extend_from_slice(&rows[row % CHUNK_ROWS * d..][..d]);
        }
    }
    Ok(ScaledMatrix::new(d, values))
}
