//! Expectation maximisation: one pass over the rows an iteration, in which responsibilities become
//! moments batch by batch and are forgotten.

use super::covariances::{CovarianceType, Frame, maximise};
use super::{GmmParams, Parameters};
use crate::kernels::Level;
use crate::kernels::batch::{BATCH, Batch, Shares};
use crate::kernels::components::Components;
use crate::kernels::moments::{Moments, Order, Tally};
use crate::matrix::{CHUNK_ROWS, RowSource};
use crate::models::FitError;
use crate::models::pool::Pool;
use crate::models::survey::Survey;
use rayon::prelude::*;

/// Chunks whose moments are in memory at once.
const WAVE: usize = 8;

/// Rows of a chunk whose moments are added up apart, so that few chunks keep many threads busy.
const PIECE: usize = CHUNK_ROWS / 4;

/// Where iterations ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub parameters: Parameters,
    pub n_iter: u32,
    pub converged: bool,
}

/// Makes shares of a batch, whose first row and weights it is told, and returns what is added up.
type ShareBatch<'a> = dyn Fn(usize, &Batch, Option<&[f32]>, &mut Shares) -> f64 + Sync + 'a;

/// What a thread needs for a pass.
struct Room {
    batch: Batch,
    shares: Shares,
    tally: Tally,
}

/// The rows, and what all iterations share.
pub(super) struct Climb<'a> {
    source: &'a dyn RowSource,
    params: &'a GmmParams,
    level: Level,
    weight: f64,
    /// The middle of all rows, about which moments are taken.
    origin: Vec<f64>,
    /// The products of all rows; empty unless covariances are tied.
    products: Vec<f64>,
}

impl<'a> Climb<'a> {
    /// Looks at what no iteration changes.
    ///
    /// # Errors
    /// [`FitError`] where rows cannot be read.
    pub fn new(
        source: &'a dyn RowSource,
        survey: &Survey,
        params: &'a GmmParams,
        level: Level,
    ) -> Result<Climb<'a>, FitError> {
        let (weight, origin) = (survey.weight, survey.means.clone());
        let mut climb = Climb { source, params, level, weight, origin, products: Vec::new() };
        if params.covariance == CovarianceType::Tied {
            let all = |_, n| vec![0; n];
            climb.products = climb.hard(1, Order::Products, &all)?.second;
        }
        Ok(climb)
    }

    /// Iterates from given parameters.
    ///
    /// # Errors
    /// [`FitError`] where a component collapses, or rows cannot be read.
    pub fn from(&self, start: Parameters) -> Result<Ended, FitError> {
        let mut ended = Ended { parameters: start, n_iter: 0, converged: false };
        let mut before = f64::NEG_INFINITY;
        while ended.n_iter < self.params.max_iter && !ended.converged {
            let components = ended
                .parameters
                .components(self.level, &self.origin)
                .map_err(|message| self.collapsed(message))?;
            let (moments, bound) = self.expectation(&components)?;
            if !bound.is_finite() {
                return Err(self.collapsed("the lower bound is not finite".to_owned()));
            }
            ended.parameters = self.maximise(&moments);
            ended.n_iter += 1;
            ended.converged = (bound - before).abs() < self.params.tol;
            before = bound;
        }
        Ok(ended)
    }

    /// The parameters of rows that belong to one component each: `labels` is told which chunk, and
    /// of how many rows.
    ///
    /// # Errors
    /// [`FitError`] where rows cannot be read.
    pub fn of_labels(
        &self,
        labels: &(dyn Fn(usize, usize) -> Vec<u32> + Sync),
    ) -> Result<Parameters, FitError> {
        let order = self.params.covariance.order();
        Ok(self.maximise(&self.hard(self.params.n_components, order, labels)?))
    }

    /// The mean log-density of all rows.
    ///
    /// # Errors
    /// [`FitError`] where a component collapsed, or rows cannot be read.
    pub fn mean_log_density(&self, parameters: &Parameters) -> Result<f64, FitError> {
        let components = parameters
            .components(self.level, &self.origin)
            .map_err(|message| self.collapsed(message))?;
        let (_, sum) = self.pass(0, Order::None, &|_, batch, weights, shares| {
            components.log_joint(batch, shares);
            log_likelihood(batch, weights, shares)
        })?;
        let mean = sum / self.weight;
        if mean.is_finite() {
            Ok(mean)
        } else {
            Err(self.collapsed("the rows have no finite density".to_owned()))
        }
    }

    /// The moments of all rows under the components (E step), and their mean log-density.
    fn expectation(&self, components: &Components) -> Result<(Moments, f64), FitError> {
        let order = self.params.covariance.order();
        let (moments, sum) =
            self.pass(components.n_components(), order, &|_, batch, weights, shares| {
                components.responsibilities(batch, weights, shares);
                log_likelihood(batch, weights, shares)
            })?;
        Ok((moments, sum / self.weight))
    }

    fn hard(
        &self,
        n_components: usize,
        order: Order,
        labels: &(dyn Fn(usize, usize) -> Vec<u32> + Sync),
    ) -> Result<Moments, FitError> {
        let label = |start: usize, batch: &Batch, weights: Option<&[f32]>, shares: &mut Shares| {
            shares.hard(n_components, &labels(start, batch.n_rows()), weights);
            0.0
        };
        Ok(self.pass(n_components, order, &label)?.0)
    }

    fn maximise(&self, moments: &Moments) -> Parameters {
        let frame = Frame {
            origin: &self.origin,
            products: &self.products,
            reg_covar: self.params.reg_covar,
        };
        maximise(self.params.covariance, moments, &frame)
    }

    /// Shows every batch to `share`, with the index of its first row, and adds up moments (none where
    /// `n_components` is 0) and what it returns: chunk by chunk, in their order.
    fn pass(
        &self,
        n_components: usize,
        order: Order,
        share: &ShareBatch<'_>,
    ) -> Result<(Moments, f64), FitError> {
        let d = self.source.n_features();
        let mut all = Moments::new(n_components, d, order);
        let mut total = 0.0;
        let room = || Room {
            batch: Batch::new(d),
            shares: Shares::default(),
            tally: Tally::new(n_components, d, order),
        };
        let rooms = Pool::new();
        let of_piece = |room: &mut Room, rows: &[f32], first: usize, weights: Option<&[f32]>| {
            let Room { batch, shares, tally } = room;
            let mut sum = 0.0;
            for (place, rows) in rows.chunks(BATCH * d).enumerate() {
                let start = place * BATCH;
                batch.fill(rows, &self.origin);
                let weights = weights.map(|weights| &weights[start..start + batch.n_rows()]);
                sum += share(first + start, batch, weights, shares);
                if n_components > 0 {
                    tally.add(self.level, batch, shares);
                }
            }
            (tally.take(), sum)
        };
        let of_chunk = |buffer: &mut Vec<f32>, index: usize| {
            let rows = self.source.chunk(index, buffer)?;
            let weights = self.source.weights(index);
            let pieces = rows.par_chunks(PIECE * d).enumerate();
            let moments = pieces.map(|(piece, rows)| {
                let start = piece * PIECE;
                let weights = weights.map(|weights| &weights[start..]);
                let first = index * CHUNK_ROWS + start;
                rooms.with(room, |room| of_piece(room, rows, first, weights))
            });
            Ok::<Vec<(Moments, f64)>, FitError>(moments.collect())
        };
        let n_chunks = self.source.n_chunks();
        for first in (0..n_chunks).step_by(WAVE) {
            let parts: Vec<Vec<(Moments, f64)>> = (first..n_chunks.min(first + WAVE))
                .into_par_iter()
                .map_init(Vec::new, of_chunk)
                .collect::<Result<_, FitError>>()?;
            for (moments, sum) in parts.iter().flatten() {
                all.join(moments);
                total += sum;
            }
        }
        Ok((all, total))
    }

    fn collapsed(&self, last: String) -> FitError {
        FitError::NoRunSucceeded { max_iter: u64::from(self.params.max_iter), last }
    }
}

fn log_likelihood(batch: &Batch, weights: Option<&[f32]>, shares: &Shares) -> f64 {
    let densities = &shares.densities[..batch.n_rows()];
    match weights {
        None => densities.iter().sum(),
        Some(weights) => densities
            .iter()
            .zip(weights)
            .map(|(density, &weight)| density * f64::from(weight))
            .sum(),
    }
}
