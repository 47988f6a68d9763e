//! Where k-means starts.
//!
//! Greedy k-means++ (Arthur & Vassilvitskii 2007; of 2 + ln k candidates a step the best stays, as
//! in scikit-learn) passes over the rows twice a centroid. For many rows k-means|| (Bahmani, Moseley,
//! Vattani, Kumar & Vassilvitskii, "Scalable k-means++", 2012) draws many candidates in few passes,
//! weighs each by the rows nearest to it, and leaves the choice among them to k-means++.

use crate::domain::Seed;
use crate::kernels::Level;
use crate::kernels::nearest::{Ask, Centers, Found};
use crate::kernels::potential::{lower, potentials};
use crate::matrix::{CHUNK_ROWS, RowSource, ScaledMatrix, Weighted};
use crate::models::FitError;
use rand::Rng;
use rayon::prelude::*;

/// From so many rows on candidates are drawn together.
const MANY_ROWS: usize = 200_000;

/// Rounds of k-means||, and candidates a round for each centroid, both as its authors found good.
const ROUNDS: u64 = 5;
const PER_ROUND: usize = 2;

/// Draws for each row that is wanted evenly.
const PATIENCE: usize = 20;

/// Centroids to start from, `(n_clusters, n_features)`, all among the rows.
///
/// # Errors
/// [`FitError`] where rows cannot be read, or too few of them differ.
pub(in crate::models) fn seed(
    source: &dyn RowSource,
    n_clusters: usize,
    level: Level,
    seed: Seed,
) -> Result<Vec<Vec<f64>>, FitError> {
    let chosen = if source.n_rows() >= MANY_ROWS {
        scalable(source, n_clusters, level, seed)?
    } else {
        greedy(source, n_clusters, level, seed)?
    };
    if chosen.len() < n_clusters {
        return Err(FitError::TooFewDistinctRows { got: chosen.len(), need: n_clusters });
    }
    Ok(chosen.iter().map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect())
}

/// Rows that differ, drawn evenly, `(n_rows, n_features)`.
///
/// # Errors
/// [`FitError`] where rows cannot be read, or too few of them differ.
pub(in crate::models) fn evenly(
    source: &dyn RowSource,
    n_rows: usize,
    seed: Seed,
) -> Result<Vec<Vec<f64>>, FitError> {
    let mut rng = seed.rng();
    let mut closest = Closest::new(source, Level::best());
    let mut chosen: Vec<Vec<f32>> = Vec::new();
    // Where most rows are equal, patience ends and what is left is drawn by distance.
    for _ in 0..PATIENCE * n_rows {
        if chosen.len() < n_rows
            && let Some(row) = closest.draw(rng.r#gen())?
            && !chosen.contains(&row)
        {
            chosen.push(row);
        }
    }
    while chosen.len() < n_rows {
        closest.lower(&chosen)?;
        let Some(row) = closest.draw(rng.r#gen())? else {
            return Err(FitError::TooFewDistinctRows { got: chosen.len(), need: n_rows });
        };
        chosen.push(row);
    }
    Ok(chosen.iter().map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect())
}

/// Greedy k-means++; fewer rows than asked for where no more differ.
fn greedy(
    source: &dyn RowSource,
    n_clusters: usize,
    level: Level,
    seed: Seed,
) -> Result<Vec<Vec<f32>>, FitError> {
    let mut rng = seed.rng();
    let mut closest = Closest::new(source, level);
    let n_trials = 2 + libm::log(n_clusters as f64) as usize;
    let Some(first) = closest.draw(rng.r#gen())? else { return Ok(Vec::new()) };
    closest.lower(std::slice::from_ref(&first))?;
    let mut chosen = vec![first];
    while chosen.len() < n_clusters {
        let mut trials = Vec::new();
        for _ in 0..n_trials {
            trials.extend(closest.draw(rng.r#gen())?);
        }
        let left = closest.potentials(&trials)?;
        let best = (0..trials.len()).min_by(|&a, &b| left[a].total_cmp(&left[b]));
        let Some(best) = best else { break };
        let best = trials.swap_remove(best);
        closest.lower(std::slice::from_ref(&best))?;
        chosen.push(best);
    }
    Ok(chosen)
}

/// k-means||, and greedy k-means++ on what it drew.
fn scalable(
    source: &dyn RowSource,
    n_clusters: usize,
    level: Level,
    seed: Seed,
) -> Result<Vec<Vec<f32>>, FitError> {
    let mut closest = Closest::new(source, level);
    let first = closest.draw(seed.derive("first", 0).uniform(0))?;
    let mut candidates: Vec<Vec<f32>> = first.into_iter().collect();
    closest.lower(&candidates)?;
    for round in 0..ROUNDS {
        let drawn = closest.draw_many(PER_ROUND * n_clusters, seed.derive("round", round))?;
        closest.lower(&drawn)?;
        candidates.extend(drawn);
    }
    if candidates.len() <= n_clusters {
        // Hardly any row lies off the candidates: then k-means++ finds what there is.
        return greedy(source, n_clusters, level, seed);
    }
    let weights = closest.rows_nearest_to(&candidates)?;
    let candidates = ScaledMatrix::new(source.n_features(), candidates.concat());
    let weighted = Weighted::new(candidates, weights)?;
    let chosen = greedy(&weighted, n_clusters, level, seed.derive("among candidates", 0))?;
    // Equal rows may have been drawn more than once.
    if chosen.len() < n_clusters { greedy(source, n_clusters, level, seed) } else { Ok(chosen) }
}

/// How far every row is from the nearest of those chosen.
struct Closest<'a> {
    source: &'a dyn RowSource,
    level: Level,
    /// Squared distances, `(n_rows,)`; all one before the first is chosen.
    squares: Vec<f32>,
    /// Sums of weighted squares by chunk.
    totals: Vec<f64>,
}

impl<'a> Closest<'a> {
    fn new(source: &'a dyn RowSource, level: Level) -> Closest<'a> {
        let totals = (0..source.n_chunks()).map(|index| {
            let n = CHUNK_ROWS.min(source.n_rows() - index * CHUNK_ROWS) as f64;
            source.weights(index).map_or(n, |weights| weights.iter().copied().map(f64::from).sum())
        });
        Closest { level, squares: Vec::new(), totals: totals.collect(), source }
    }

    /// Draws a row with probability proportional to its weighted square, by a number in `[0, 1)`;
    /// `None` where all squares are zero.
    fn draw(&self, uniform: f64) -> Result<Option<Vec<f32>>, FitError> {
        let mut rest = uniform * self.totals.iter().sum::<f64>();
        let last = self.totals.iter().rposition(|&total| total > 0.0);
        let Some(last) = last else { return Ok(None) };
        let mut chunk = 0;
        while chunk < last && rest >= self.totals[chunk] {
            rest -= self.totals[chunk];
            chunk += 1;
        }
        let weights = self.source.weights(chunk);
        let mut row = 0;
        for place in 0..CHUNK_ROWS.min(self.source.n_rows() - chunk * CHUNK_ROWS) {
            let mass = self.mass(chunk, place, weights);
            if mass > 0.0 {
                row = place;
                if rest < mass {
                    break;
                }
                rest -= mass;
            }
        }
        self.row(chunk, row).map(Some)
    }

    /// Draws each row by itself, with a probability that makes `n` of them on average.
    fn draw_many(&self, n: usize, seed: Seed) -> Result<Vec<Vec<f32>>, FitError> {
        let total: f64 = self.totals.iter().sum();
        if total <= 0.0 {
            return Ok(Vec::new());
        }
        let factor = n as f64 / total;
        let drawn: Vec<Vec<Vec<f32>>> = (0..self.source.n_chunks())
            .into_par_iter()
            .map(|chunk| {
                let weights = self.source.weights(chunk);
                let n = CHUNK_ROWS.min(self.source.n_rows() - chunk * CHUNK_ROWS);
                (0..n)
                    .filter(|&place| {
                        let uniform = seed.uniform((chunk * CHUNK_ROWS + place) as u64);
                        uniform < factor * self.mass(chunk, place, weights)
                    })
                    .map(|place| self.row(chunk, place))
                    .collect()
            })
            .collect::<Result<_, FitError>>()?;
        Ok(drawn.into_iter().flatten().collect())
    }

    /// Takes points into those chosen.
    fn lower(&mut self, points: &[Vec<f32>]) -> Result<(), FitError> {
        if self.squares.is_empty() {
            self.squares = vec![f32::INFINITY; self.source.n_rows()];
        }
        let (source, level, d) = (self.source, self.level, self.source.n_features());
        let points = points.concat();
        self.totals = self
            .squares
            .par_chunks_mut(CHUNK_ROWS)
            .enumerate()
            .map_init(Vec::new, |buffer, (index, squares)| {
                let rows = source.chunk(index, buffer)?;
                lower(level, rows, &points, d, squares);
                let weights = source.weights(index);
                Ok(sum(squares, weights))
            })
            .collect::<Result<_, FitError>>()?;
        Ok(())
    }

    /// What would be the sum of all squares with each of the points.
    fn potentials(&self, points: &[Vec<f32>]) -> Result<Vec<f64>, FitError> {
        let points = points.concat();
        let n_points = points.len() / self.source.n_features();
        let chunks: Vec<Vec<f64>> = self
            .squares
            .par_chunks(CHUNK_ROWS)
            .enumerate()
            .map_init(Vec::new, |buffer, (index, squares)| {
                let rows = self.source.chunk(index, buffer)?;
                let weights = self.source.weights(index);
                let mut sums = vec![0.0; n_points];
                if n_points > 0 {
                    potentials(self.level, rows, weights, &points, squares, &mut sums);
                }
                Ok(sums)
            })
            .collect::<Result<_, FitError>>()?;
        let mut sums = vec![0.0; n_points];
        for chunk in &chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, part)| *sum += part);
        }
        Ok(sums)
    }

    /// The weights of the rows that are nearest to each of the points, `(n_points,)`.
    fn rows_nearest_to(&self, points: &[Vec<f32>]) -> Result<Vec<f32>, FitError> {
        let wide: Vec<Vec<f64>> = points
            .iter()
            .map(|point| point.iter().map(|&value| f64::from(value)).collect())
            .collect();
        let centers = Centers::new(self.level, &wide);
        let chunks: Vec<Vec<f64>> = (0..self.source.n_chunks())
            .into_par_iter()
            .map_init(
                || (Vec::new(), Found::default()),
                |(buffer, found), index| {
                    let rows = self.source.chunk(index, buffer)?;
                    let weights = self.source.weights(index);
                    let n = (rows.len() / self.source.n_features()) as u32;
                    let all: Vec<u32> = (0..n).collect();
                    centers.nearest(rows, &all, Ask::Labels, found);
                    let mut sums = vec![0.0; points.len()];
                    for (place, &label) in found.labels.iter().enumerate() {
                        let weight = weights.map_or(1.0, |weights| f64::from(weights[place]));
                        sums[label as usize] += weight;
                    }
                    Ok(sums)
                },
            )
            .collect::<Result<_, FitError>>()?;
        let mut sums = vec![0.0; points.len()];
        for chunk in &chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, part)| *sum += part);
        }
        Ok(sums.into_iter().map(|sum| sum as f32).collect())
    }

    fn mass(&self, chunk: usize, place: usize, weights: Option<&[f32]>) -> f64 {
        let square = self.squares.get(chunk * CHUNK_ROWS + place).copied().unwrap_or(1.0);
        f64::from(square) * weights.map_or(1.0, |weights| f64::from(weights[place]))
    }

    fn row(&self, chunk: usize, place: usize) -> Result<Vec<f32>, FitError> {
        let d = self.source.n_features();
        let mut buffer = Vec::new();
        let rows = self.source.chunk(chunk, &mut buffer)?;
        Ok(rows[place * d..(place + 1) * d].to_vec())
    }
}

fn sum(squares: &[f32], weights: Option<&[f32]>) -> f64 {
    match weights {
        None => squares.iter().map(|&square| f64::from(square)).sum(),
        Some(weights) => {
            squares.iter().zip(weights).map(|(&s, &w)| f64::from(s) * f64::from(w)).sum()
        }
    }
}
