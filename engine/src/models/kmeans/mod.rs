//! k-means: Lloyd's iterations (1982) from k-means++ starts (Arthur & Vassilvitskii 2007; of many rows
//! k-means||, Bahmani & others 2012), exact and
//! the same to the bit for any number of threads, any instruction set and any [`RowSource`].

mod breathing;
mod linfa_engine;
mod lloyd;
mod minibatch;
pub(super) mod seeding;

use self::lloyd::{Ended, Limits};
use super::pool::among_threads;
use super::survey::Survey;
use super::{Diagnostics, Engine, Estimator, Fit, FitError, Membership, Segmenter};
use crate::domain::Seed;
use crate::kernels::Level;
use crate::kernels::distances::squared;
use crate::kernels::nearest::{Ask, Centers, Found};
use crate::matrix::{CHUNK_ROWS, RowSource, ScaledMatrix};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Hyperparameters of k-means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KMeansParams {
    pub n_clusters: usize,
    /// Independent starts; the one with the least inertia wins. Where they are several, its end is
    /// improved by breathing (Fritzke 2020).
    pub n_init: u32,
    pub max_iter: u32,
    /// Converged once the centroids' squared shift is at most `tol` times the mean variance of the
    /// columns, or no row changed its cluster, as in scikit-learn.
    pub tol: f64,
    pub engine: Engine,
    /// Rows that an iteration looks at, instead of all: a first look at what is too large for more
    /// (Sculley, "Web-scale k-means clustering", 2010).
    pub mini_batch: Option<usize>,
}

/// Fitted centroids, `(n_clusters, n_features)`, from the largest cluster to the smallest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Centroids", into = "Centroids")]
pub struct KMeans {
    centroids: Vec<Vec<f64>>,
    centers: Centers,
}

/// What is saved of a model.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Centroids {
    centroids: Vec<Vec<f64>>,
}

impl TryFrom<Centroids> for KMeans {
    type Error = String;

    fn try_from(Centroids { centroids }: Centroids) -> Result<KMeans, String> {
        KMeans::new(centroids)
    }
}

impl From<KMeans> for Centroids {
    fn from(KMeans { centroids, .. }: KMeans) -> Centroids {
        Centroids { centroids }
    }
}

impl KMeans {
    /// A model of these centroids, `(n_clusters, n_features)`.
    ///
    /// # Errors
    /// Where there is none, or they differ in length.
    pub fn new(centroids: Vec<Vec<f64>>) -> Result<KMeans, String> {
        let d = centroids.first().map_or(0, Vec::len);
        if d == 0 || centroids.iter().any(|centroid| centroid.len() != d) {
            return Err("the centroids' arrays do not fit together".to_owned());
        }
        let centers = Centers::new(Level::best(), &centroids);
        Ok(KMeans { centroids, centers })
    }

    /// The centroids, `(n_clusters, n_features)`.
    pub fn centroids(&self) -> &[Vec<f64>] {
        &self.centroids
    }

    /// The nearest centroid, the first of equals.
    pub fn nearest(&self, row: &[f32]) -> usize {
        self.centers.nearest_one(row) as usize
    }

    /// The nearest centroids of the rows of `(n_rows, n_features)`, each as [`KMeans::nearest`].
    pub fn nearest_all(&self, rows: &[f32]) -> Vec<u32> {
        let d = self.centers.n_features();
        let mut labels = vec![0; rows.len() / d];
        labels.par_chunks_mut(CHUNK_ROWS).zip(rows.par_chunks(CHUNK_ROWS * d)).for_each_init(
            || ((0..CHUNK_ROWS as u32).collect::<Vec<u32>>(), Found::default()),
            |(all, found), (labels, rows)| {
                self.centers.nearest(rows, &all[..labels.len()], Ask::Labels, found);
                labels.copy_from_slice(&found.labels);
            },
        );
        labels
    }

    /// The sum of squared distances to the nearest centroids over all rows.
    pub fn inertia(&self, rows: &ScaledMatrix) -> f64 {
        let labels = self.nearest_all(rows.values());
        let square = |(row, label)| squared(row, &self.centroids[label as usize]);
        rows.rows().zip(labels).map(square).sum()
    }
}

impl KMeansParams {
    /// Fits from where rows already belong, `(n_customers,)` below `n_clusters`, instead of from
    /// random starts: the first centroids are the means of the rows of each label.
    ///
    /// # Errors
    /// [`FitError`] where a label has no row, or a row is not finite.
    pub fn fit_from(
        &self,
        rows: &dyn RowSource,
        labels: &[usize],
    ) -> Result<Fit<KMeans>, FitError> {
        let means = super::group_means(rows, labels, self.n_clusters)?;
        let mut fit = self.fit_at(rows, means)?;
        fit.diagnostics.notes.insert(0, "started from the incumbent's segments".to_owned());
        Ok(fit)
    }

    /// Fits from given centroids, `(n_clusters, n_features)`.
    ///
    /// # Errors
    /// [`FitError`] where a row is not finite or rows cannot be read.
    pub fn fit_at(
        &self,
        source: &dyn RowSource,
        centroids: Vec<Vec<f64>>,
    ) -> Result<Fit<KMeans>, FitError> {
        let d = source.n_features();
        let ended = among_threads(|| {
            let survey = Survey::of(source)?;
            if centroids.is_empty() || centroids.iter().any(|centroid| centroid.len() != d) {
                return Err(FitError::Start { n_features: d });
            }
            self.run_from(source, &survey, centroids)
        })?;
        self.finish(ended, 0)
    }

    fn limits(&self, survey: &Survey) -> Limits {
        let d = survey.variances.len() as f64;
        Limits {
            max_iter: self.max_iter,
            threshold: self.tol * (survey.variances.iter().sum::<f64>() / d),
            level: Level::best(),
            bounds: true,
        }
    }

    /// The model of a run, with its clusters in their order.
    fn finish(&self, ended: Ended, run: u32) -> Result<Fit<KMeans>, FitError> {
        let order = super::canonical_order(&ended.weights, &ended.centroids);
        let centroids = order.iter().map(|&cluster| ended.centroids[cluster].clone()).collect();
        let mut notes = Vec::new();
        if !ended.converged {
            notes.push(format!("stopped at the limit of {} iterations", self.max_iter));
        }
        let diagnostics = Diagnostics {
            converged: ended.converged,
            n_iter: Some(ended.n_iter),
            objective: ended.inertia,
            run,
            notes,
        };
        let model = KMeans::new(centroids)
            .map_err(|message| FitError::Solver { solver: "k-means", message })?;
        Ok(Fit { model, diagnostics })
    }

    /// Iterates from given centroids, `(n_clusters, n_features)`.
    pub(super) fn run_from(
        &self,
        source: &dyn RowSource,
        survey: &Survey,
        start: Vec<Vec<f64>>,
    ) -> Result<Ended, FitError> {
        lloyd::iterate(source, survey, start, &self.limits(survey))
    }

    /// One run from one start.
    pub(super) fn run(
        &self,
        source: &dyn RowSource,
        survey: &Survey,
        seed: Seed,
    ) -> Result<Ended, FitError> {
        let limits = self.limits(survey);
        match self.engine {
            Engine::Linfa => linfa_engine::run(self, source, survey, &limits, seed),
            Engine::Habitus => {
                let start = seeding::seed(source, self.n_clusters, limits.level, seed)?;
                match self.mini_batch {
                    None => lloyd::iterate(source, survey, start, &limits),
                    Some(batch) => minibatch::iterate(source, survey, start, &limits, batch, seed),
                }
            }
        }
    }
}

impl Segmenter for KMeans {
    fn n_clusters(&self) -> usize {
        self.centroids.len()
    }

    fn assign(&self, row: &[f32]) -> Membership {
        Membership { cluster: self.nearest(row), probability: None, log_density: None }
    }

    fn assign_rows(&self, rows: &[f32], _: usize) -> Vec<Membership> {
        let membership =
            |label| Membership { cluster: label as usize, probability: None, log_density: None };
        self.nearest_all(rows).into_iter().map(membership).collect()
    }
}

impl Estimator for KMeansParams {
    type Input<'a> = dyn RowSource + 'a;
    type Fitted = KMeans;

    /// Fits on scaled rows, `(n_customers, n_features)`.
    fn fit(&self, source: &dyn RowSource, seed: Seed) -> Result<Fit<KMeans>, FitError> {
        let (ended, run) = among_threads(|| self.best(source, seed))?;
        self.finish(ended, run)
    }
}

impl KMeansParams {
    /// The end of the best start, and which that was.
    fn best(&self, source: &dyn RowSource, seed: Seed) -> Result<(Ended, u32), FitError> {
        let survey = Survey::of(source)?;
        super::check_distinct(source, self.n_clusters)?;
        let mut best: Option<(Ended, u32)> = None;
        for run in 0..self.n_init.max(1) {
            let mut ended = self.run(source, &survey, seed.derive("kmeans", u64::from(run)))?;
            // Nobody asks for the labels of a run that others follow.
            ended.labels = Vec::new();
            if best.as_ref().is_none_or(|(best, _)| ended.inertia < best.inertia) {
                best = Some((ended, run));
            }
        }
        let (mut ended, run) = best.ok_or(FitError::TooFewRows { got: 0, need: 1 })?;
        // Who asks for several starts wants a good end; the reference and a first look stay as they are.
        if self.n_init > 1 && self.engine == Engine::Habitus && self.mini_batch.is_none() {
            let limits = self.limits(&survey);
            ended = breathing::breathe(source, &survey, ended, &limits, seed.derive("breathe", 0))?;
        }
        Ok((ended, run))
    }
}
