//! Out of a local optimum: breathing k-means (Fritzke, "The breathing k-means algorithm", 2020).
//!
//! A few centroids are added where the error is largest, all settle, as many are taken away that are
//! needed least, and the rest settle again. What is not better is forgotten, and the next breath is
//! smaller.

use super::lloyd::{self, Ended, Limits};
use crate::domain::Seed;
use crate::kernels::distances::squared;
use crate::kernels::nearest::{Ask, Centers, Found};
use crate::matrix::{CHUNK_ROWS, RowSource};
use crate::models::FitError;
use crate::models::survey::Survey;
use rand::Rng;
use rayon::prelude::*;

/// Centroids of the deepest breath.
const DEEPEST: usize = 5;

/// Breaths at most: each that helps is followed by another as deep.
const MOST_BREATHS: u64 = 30;

/// How far a new centroid lies from an old one, in parts of the mean distance of rows to theirs.
const ASIDE: f64 = 0.01;

/// Improves the end of a run; never makes it worse.
///
/// # Errors
/// [`FitError`] where rows cannot be read.
pub(super) fn breathe(
    source: &dyn RowSource,
    survey: &Survey,
    mut best: Ended,
    limits: &Limits,
    seed: Seed,
) -> Result<Ended, FitError> {
    let k = best.centroids.len();
    let mut depth = DEEPEST.min(k).min(source.n_rows() - k.min(source.n_rows()));
    for breath in 0..MOST_BREATHS {
        if depth == 0 || best.inertia <= 0.0 {
            break;
        }
        let mut more = best.centroids.clone();
        more.extend(beside_the_worst(
            source,
            survey,
            &best,
            limits,
            depth,
            seed.derive("breath", breath),
        )?);
        let full = lloyd::iterate(source, survey, more, limits)?;
        let rest = without_the_least(source, full.centroids, limits, depth)?;
        let ended = lloyd::iterate(source, survey, rest, limits)?;
        if ended.inertia < best.inertia {
            best = ended;
        } else {
            depth -= 1;
        }
    }
    Ok(best)
}

/// New centroids beside those with the largest error, `(depth, n_features)`.
fn beside_the_worst(
    source: &dyn RowSource,
    survey: &Survey,
    best: &Ended,
    limits: &Limits,
    depth: usize,
    seed: Seed,
) -> Result<Vec<Vec<f64>>, FitError> {
    let needs = Needs::of(source, &best.centroids, limits)?;
    let mut worst: Vec<usize> = (0..best.centroids.len()).collect();
    worst.sort_by(|&a, &b| needs.errors[b].total_cmp(&needs.errors[a]));
    let d = source.n_features() as f64;
    let step = ASIDE * libm::sqrt(best.inertia / survey.weight / d);
    let mut rng = seed.rng();
    let mut aside = |centroid: &Vec<f64>| -> Vec<f64> {
        centroid.iter().map(|center| center + step * rng.gen_range(-1.0..1.0)).collect()
    };
    Ok(worst.iter().take(depth).map(|&cluster| aside(&best.centroids[cluster])).collect())
}

/// The centroids without those whose rows have others nearly as near. The neighbour of one that goes
/// stays, because it takes over.
fn without_the_least(
    source: &dyn RowSource,
    centroids: Vec<Vec<f64>>,
    limits: &Limits,
    depth: usize,
) -> Result<Vec<Vec<f64>>, FitError> {
    let needs = Needs::of(source, &centroids, limits)?;
    let n = centroids.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| needs.losses[a].total_cmp(&needs.losses[b]));
    let mut fate = vec![None; n];
    let mut n_gone = 0;
    let distance = |a: usize, b: usize| -> f64 {
        centroids[a].iter().zip(&centroids[b]).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    for &cluster in &order {
        if n_gone < depth && fate[cluster].is_none() {
            fate[cluster] = Some(false);
            n_gone += 1;
            let others = (0..n).filter(|&other| fate[other] != Some(false));
            let next =
                others.min_by(|&a, &b| distance(cluster, a).total_cmp(&distance(cluster, b)));
            if let Some(next) = next {
                fate[next] = Some(true);
            }
        }
    }
    // Where too few were free to go, neighbours go too.
    for &cluster in &order {
        if n_gone < depth && fate[cluster] == Some(true) {
            fate[cluster] = Some(false);
            n_gone += 1;
        }
    }
    let stays = |cluster: &usize| fate[*cluster] != Some(false);
    Ok((0..n).filter(stays).map(|cluster| centroids[cluster].clone()).collect())
}

/// How much clusters need centroids, `(n_clusters,)`.
struct Needs {
    /// Weighted squared distances of their rows.
    errors: Vec<f64>,
    /// What those would grow by if the rows had to go to the next centroids.
    losses: Vec<f64>,
}

impl Needs {
    fn of(
        source: &dyn RowSource,
        centroids: &[Vec<f64>],
        limits: &Limits,
    ) -> Result<Needs, FitError> {
        let k = centroids.len();
        let centers = Centers::new(limits.level, centroids);
        let of_chunk = |(buffer, found): &mut (Vec<f32>, Found), index: usize| {
            let rows = source.chunk(index, buffer)?;
            let weights = source.weights(index);
            let d = source.n_features();
            let all: Vec<u32> = (0..(rows.len() / d) as u32).collect();
            centers.nearest(rows, &all, Ask::Margins, found);
            let mut needs = Needs { errors: vec![0.0; k], losses: vec![0.0; k] };
            for (place, (row, &label)) in rows.chunks_exact(d).zip(&found.labels).enumerate() {
                let label = label as usize;
                let weight = weights.map_or(1.0, |weights| f64::from(weights[place]));
                needs.errors[label] += weight * squared(row, &centroids[label]);
                needs.losses[label] += weight * f64::from(found.leads[place]);
            }
            Ok(needs)
        };
        let chunks: Vec<Needs> = (0..source.n_rows().div_ceil(CHUNK_ROWS))
            .into_par_iter()
            .map_init(|| (Vec::new(), Found::default()), of_chunk)
            .collect::<Result<_, FitError>>()?;
        let mut all = Needs { errors: vec![0.0; k], losses: vec![0.0; k] };
        for chunk in &chunks {
            all.errors.iter_mut().zip(&chunk.errors).for_each(|(sum, part)| *sum += part);
            all.losses.iter_mut().zip(&chunk.losses).for_each(|(sum, part)| *sum += part);
        }
        Ok(all)
    }
}
