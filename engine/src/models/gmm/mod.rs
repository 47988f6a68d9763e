//! Gaussian mixtures, fitted by expectation maximisation (Dempster, Laird & Rubin 1977), the same to
//! the bit for any number of threads, any instruction set and any [`RowSource`].

mod covariances;
mod em;
mod linfa_engine;

pub use covariances::{CovarianceType, Covariances};

use self::em::{Climb, Ended};
use super::kmeans::{self, KMeansParams};
use super::pool::among_threads;
use super::survey::Survey;
use super::{Diagnostics, Engine, Estimator, Fit, FitError, Membership, Segmenter};
use crate::domain::Seed;
use crate::kernels::Level;
use crate::kernels::batch::{BATCH, Batch, STRIDE, Shares};
use crate::kernels::components::Components;
use crate::matrix::{RowSource, ScaledMatrix};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// What is near an optimum climbs slowly: a warm start has converged only at this part of the
/// tolerance.
const FINER: f64 = 0.01;

/// Hyperparameters of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GmmParams {
    pub n_components: usize,
    pub covariance: CovarianceType,
    pub init: Init,
    /// Independent starts; the one under whose end the rows are densest wins.
    pub n_init: u32,
    pub max_iter: u32,
    /// Converged once the mean log-likelihood of a row changes by less.
    pub tol: f64,
    /// Added to every covariance's diagonal.
    pub reg_covar: f64,
    pub engine: Engine,
}

/// What a run starts from. Rows belong to the center that is nearest to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// The centroids of one run of k-means.
    #[default]
    Kmeans,
    /// The centers with which such a run would start.
    KmeansPlusPlus,
    /// Rows that differ, drawn evenly.
    Random,
}

/// A fitted mixture, components from the heaviest to the lightest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parameters", into = "Parameters")]
pub struct GaussianMixture {
    parameters: Parameters,
    components: Components,
}

/// What a mixture is made of, and all of it that is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// `(n_components,)`, positive, summing to 1.
    pub weights: Vec<f64>,
    /// `(n_components, n_features)`.
    pub means: Vec<Vec<f64>>,
    pub covariances: Covariances,
}

thread_local! {
    /// Room for rows and their shares, so that an answer allocates nothing.
    static ROOM: RefCell<(Batch, Shares, Vec<f64>)> =
        RefCell::new((Batch::new(1), Shares::default(), vec![0.0]));
}

impl GaussianMixture {
    /// What it is made of.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The family of its covariances.
    pub fn covariance(&self) -> CovarianceType {
        match self.parameters.covariances {
            Covariances::Full(_) => CovarianceType::Full,
            Covariances::Tied(_) => CovarianceType::Tied,
            Covariances::Diag(_) => CovarianceType::Diag,
            Covariances::Spherical(_) => CovarianceType::Spherical,
        }
    }

    /// Numbers that are free in it.
    pub fn n_free(&self) -> usize {
        let (k, d) = (self.parameters.weights.len(), self.components.n_features());
        k - 1 + k * d + self.covariance().n_free(k, d)
    }

    /// The responsibilities of one row, `(n_components,)`, summing to 1.
    pub fn responsibilities(&self, row: &[f32]) -> Vec<f64> {
        self.with_rows(row, |batch, shares| {
            self.components.responsibilities(batch, None, shares);
            shares.values.iter().step_by(STRIDE).copied().collect()
        })
    }

    /// The log-densities of the rows of `(n_rows, n_features)`, `(n_rows,)`.
    pub fn log_densities(&self, rows: &ScaledMatrix) -> Vec<f64> {
        let memberships = self.assign_all(rows);
        memberships.iter().filter_map(|membership| membership.log_density).collect()
    }

    /// Mean log-density of all rows.
    pub fn mean_log_density(&self, rows: &ScaledMatrix) -> f64 {
        let densities = self.log_densities(rows);
        densities.iter().sum::<f64>() / densities.len() as f64
    }

    /// The Bayesian information criterion (Schwarz 1978) of rows with this mean log-density; less is
    /// better.
    pub fn bic(&self, n_rows: usize, mean_log_density: f64) -> f64 {
        let n = n_rows as f64;
        -2.0 * n * mean_log_density + self.n_free() as f64 * libm::log(n)
    }

    /// Akaike's information criterion (1974) of rows with this mean log-density; less is better.
    pub fn aic(&self, n_rows: usize, mean_log_density: f64) -> f64 {
        -2.0 * n_rows as f64 * mean_log_density + 2.0 * self.n_free() as f64
    }

    /// Shows rows, at most a batch, to `ask`.
    fn with_rows<T>(&self, rows: &[f32], ask: impl FnOnce(&Batch, &mut Shares) -> T) -> T {
        ROOM.with_borrow_mut(|(batch, shares, zero)| {
            let d = self.components.n_features();
            if batch.n_features() != d {
                *batch = Batch::new(d);
                *zero = vec![0.0; d];
            }
            batch.fill(rows, zero);
            ask(batch, shares)
        })
    }

    /// Where the rows of a batch belong.
    fn memberships(&self, rows: &[f32], to: &mut [Membership]) {
        self.with_rows(rows, |batch, shares| {
            self.components.log_joint(batch, shares);
            for (lane, membership) in to.iter_mut().enumerate() {
                let joint = |component: usize| shares.values[component * STRIDE + lane];
                let mut cluster = 0;
                for candidate in 1..self.n_clusters() {
                    if joint(candidate) > joint(cluster) {
                        cluster = candidate;
                    }
                }
                let density = shares.densities[lane];
                // So far away from all that nothing can be told of where it belongs.
                let lost = !density.is_finite();
                let probability = libm::exp(joint(cluster) - density).min(1.0);
                *membership = Membership {
                    cluster,
                    probability: (!lost).then_some(probability),
                    log_density: Some(if lost { f64::NEG_INFINITY } else { density }),
                };
            }
        });
    }

    fn reordered(&self) -> Result<GaussianMixture, String> {
        let Parameters { weights, means, covariances } = &self.parameters;
        let order = super::canonical_order(weights, means);
        let numbers = |values: &[f64]| order.iter().map(|&index| values[index]).collect();
        let arrays = |rows: &[Vec<f64>]| order.iter().map(|&index| rows[index].clone()).collect();
        GaussianMixture::try_from(Parameters {
            weights: numbers(weights),
            means: arrays(means),
            covariances: match covariances {
                Covariances::Full(each) => Covariances::Full(arrays(each)),
                Covariances::Tied(covariance) => Covariances::Tied(covariance.clone()),
                Covariances::Diag(each) => Covariances::Diag(arrays(each)),
                Covariances::Spherical(each) => Covariances::Spherical(numbers(each)),
            },
        })
    }
}

impl TryFrom<Parameters> for GaussianMixture {
    type Error = String;

    fn try_from(parameters: Parameters) -> Result<GaussianMixture, String> {
        let d = parameters.means.first().map_or(0, Vec::len);
        let components = parameters.components(Level::best(), &vec![0.0; d])?;
        Ok(GaussianMixture { parameters, components })
    }
}

impl From<GaussianMixture> for Parameters {
    fn from(mixture: GaussianMixture) -> Parameters {
        mixture.parameters
    }
}

impl Segmenter for GaussianMixture {
    fn n_clusters(&self) -> usize {
        self.parameters.weights.len()
    }

    fn assign(&self, row: &[f32]) -> Membership {
        let mut membership = [Membership { cluster: 0, probability: None, log_density: None }];
        self.memberships(row, &mut membership);
        membership[0]
    }

    fn assign_rows(&self, rows: &[f32], n_features: usize) -> Vec<Membership> {
        let none = Membership { cluster: 0, probability: None, log_density: None };
        let mut memberships = vec![none; rows.len() / n_features];
        memberships
            .chunks_mut(BATCH)
            .zip(rows.chunks(BATCH * n_features))
            .for_each(|(to, rows)| self.memberships(rows, to));
        memberships
    }
}

impl GmmParams {
    /// Fits from where rows already belong, `(n_customers,)` below `n_components`, instead of from
    /// random starts: the first components are the moments of the rows of each label.
    ///
    /// # Errors
    /// [`FitError`] where a label has no row, a row is not finite, or a component collapses.
    pub fn fit_from(
        &self,
        rows: &dyn RowSource,
        labels: &[usize],
    ) -> Result<Fit<GaussianMixture>, FitError> {
        let finer = GmmParams { tol: FINER * self.tol, ..self.clone() };
        let notes = vec!["started from the incumbent's segments".to_owned()];
        among_threads(|| {
            let survey = Survey::of(rows)?;
            super::check_labels(rows.n_rows(), labels, self.n_components)?;
            let climb = Climb::new(rows, &survey, &finer, Level::best())?;
            let start = climb.of_labels(&|first, n| {
                labels[first..first + n].iter().map(|&label| label as u32).collect()
            })?;
            let ended = climb.from(start)?;
            self.finish(climb.mean_log_density(&ended.parameters)?, ended, 0, notes)
        })
    }

    /// Fits from given parameters.
    ///
    /// # Errors
    /// [`FitError`] where a row is not finite, or a component collapses.
    pub fn fit_at(
        &self,
        source: &dyn RowSource,
        start: Parameters,
    ) -> Result<Fit<GaussianMixture>, FitError> {
        let d = source.n_features();
        among_threads(|| {
            let survey = Survey::of(source)?;
            let fits = start.means.iter().all(|mean| mean.len() == d)
                && start.weights.len() == self.n_components;
            if !fits {
                return Err(FitError::Start { n_features: d });
            }
            let climb = Climb::new(source, &survey, self, Level::best())?;
            let ended = climb.from(start)?;
            self.finish(climb.mean_log_density(&ended.parameters)?, ended, 0, Vec::new())
        })
    }

    /// The model of a run, with its components in their order.
    fn finish(
        &self,
        objective: f64,
        ended: Ended,
        run: u32,
        mut notes: Vec<String>,
    ) -> Result<Fit<GaussianMixture>, FitError> {
        if !ended.converged {
            notes.push(format!("stopped at the limit of {} iterations", self.max_iter));
        }
        let model = GaussianMixture::try_from(ended.parameters)
            .and_then(|mixture| mixture.reordered())
            .map_err(|last| FitError::NoRunSucceeded {
                max_iter: u64::from(self.max_iter),
                last,
            })?;
        let diagnostics = Diagnostics {
            converged: ended.converged,
            n_iter: (self.engine == Engine::Habitus).then_some(ended.n_iter),
            objective,
            run,
            notes,
        };
        Ok(Fit { model, diagnostics })
    }

    /// One run from one start.
    fn run(
        &self,
        source: &dyn RowSource,
        survey: &Survey,
        climb: &Climb<'_>,
        seed: Seed,
    ) -> Result<Ended, FitError> {
        match self.engine {
            Engine::Linfa => linfa_engine::run(self, source, seed),
            Engine::Habitus => {
                let labels = self.start(source, survey, seed)?;
                let start = climb.of_labels(&|first, n| labels[first..first + n].to_vec())?;
                climb.from(start)
            }
        }
    }

    /// Where rows belong at the start of a run, `(n_rows,)`.
    fn start(
        &self,
        source: &dyn RowSource,
        survey: &Survey,
        seed: Seed,
    ) -> Result<Vec<u32>, FitError> {
        let k_means = |max_iter| KMeansParams {
            n_clusters: self.n_components,
            n_init: 1,
            max_iter,
            tol: 1e-4,
            engine: Engine::Habitus,
            mini_batch: None,
        };
        let ended = match self.init {
            Init::Kmeans => k_means(300).run(source, survey, seed)?,
            Init::KmeansPlusPlus => k_means(0).run(source, survey, seed)?,
            Init::Random => {
                let rows = kmeans::seeding::evenly(source, self.n_components, seed)?;
                k_means(0).run_from(source, survey, rows)?
            }
        };
        Ok(ended.labels)
    }
}

impl Estimator for GmmParams {
    type Input<'a> = dyn RowSource + 'a;
    type Fitted = GaussianMixture;

    /// Fits on scaled rows, `(n_customers, n_features)`.
    fn fit(&self, source: &dyn RowSource, seed: Seed) -> Result<Fit<GaussianMixture>, FitError> {
        among_threads(|| self.best(source, seed))
    }
}

impl GmmParams {
    /// The model of the best start.
    fn best(&self, source: &dyn RowSource, seed: Seed) -> Result<Fit<GaussianMixture>, FitError> {
        let survey = Survey::of(source)?;
        super::check_distinct(source, self.n_components)?;
        let climb = Climb::new(source, &survey, self, Level::best())?;
        let mut best: Option<(f64, Ended, u32)> = None;
        let (mut notes, mut last) = (Vec::new(), String::new());
        for run in 0..self.n_init.max(1) {
            let seed = seed.derive("gmm", u64::from(run));
            let ended = self.run(source, &survey, &climb, seed).and_then(|ended| {
                let bound = climb.mean_log_density(&ended.parameters)?;
                Ok((bound, ended))
            });
            match ended {
                Ok((bound, ended)) => {
                    if best.as_ref().is_none_or(|(so_far, _, _)| bound > *so_far) {
                        best = Some((bound, ended, run));
                    }
                }
                // A component may collapse from one start and not from another.
                Err(FitError::NoRunSucceeded { last: message, .. }) => {
                    notes.push(format!("run {run} failed: {message}"));
                    last = message;
                }
                Err(other) => return Err(other),
            }
        }
        match best {
            Some((bound, ended, run)) => self.finish(bound, ended, run, notes),
            None => Err(FitError::NoRunSucceeded { max_iter: u64::from(self.max_iter), last }),
        }
    }
}
