//! Density diagnostics: whether rows have clusters of their own, whatever the segments say (DBSCAN,
//! Ester et al. 1996; OPTICS, Ankerst et al. 1999), on a sample of rows. Nothing is served from it.

use crate::domain::Seed;
use crate::matrix::{ScaledMatrix, quantile};
use linfa::traits::Transformer as _;
use linfa_clustering::{Dbscan, Optics, OpticsAnalysis};
use ndarray::{Array1, Array2};
use rand::seq::index;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The least neighbours that make a row a core (Ester et al. 1996, for two features).
const LEAST_POINTS: usize = 4;

/// A wall of the reachability plot parts two valleys where the mean of each lies below this share of
/// it (Sander et al. 2003).
const SIGNIFICANT: f64 = 0.75;

/// A valley holds at least one row in so many.
const SMALLEST_VALLEY: usize = 50;

/// How much wider than the knee the radius is: distances are compared squared, and what rounding
/// does to the square must not decide about the row that lies at the knee.
const ROUNDING: f64 = 1e-9;

/// The quantiles of the reachabilities that are told.
pub const REACHABILITY_QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// What DBSCAN and OPTICS find in a sample of scaled rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DensityDiagnostics {
    /// Rows looked at.
    pub n_rows: usize,
    /// Rows within `eps` of a row, itself among them, that make it a core.
    pub min_points: usize,
    /// The radius of a neighbourhood, in scaled units.
    pub eps: f64,
    /// Clusters of DBSCAN.
    pub n_clusters: usize,
    /// Share of the rows in the largest of them; 0 where there is none.
    pub largest_share: f64,
    /// Share of the rows in none of them.
    pub noise_share: f64,
    /// Agreement with the segments over the rows in a cluster; absent under two clusters, which
    /// agree with nothing.
    pub adjusted_rand: Option<f64>,
    /// Quantiles of the reachability distances of OPTICS, in scaled units.
    pub reachability: [f64; 5],
    /// Valleys of the reachability plot; 1 where no wall parts it.
    pub n_valleys: usize,
}

/// Looks at no more than `sample` rows chosen by the seed without replacement, beside the labels of
/// all rows. `None` where there are too few rows for two clusters, where nearly all rows coincide,
/// so that distances have no scale, or where a value is not finite.
pub fn density(
    rows: &ScaledMatrix,
    labels: &[usize],
    sample: usize,
    seed: Seed,
) -> Option<DensityDiagnostics> {
    let n_rows = rows.n_rows().min(sample);
    // Twice the features, after Sander et al. (1998).
    let min_points = (2 * rows.n_features()).max(LEAST_POINTS);
    if n_rows < 2 * min_points {
        return None;
    }
    let mut chosen = index::sample(&mut seed.rng(), rows.n_rows(), n_rows).into_vec();
    // Both methods depend on the order of rows where distances tie.
    chosen.sort_unstable();
    let rows = rows.select(&chosen);
    // The tree of neighbours panics at a value that is not finite.
    if rows.values().iter().any(|value| !value.is_finite()) {
        return None;
    }
    let eps = knee(&core_distances(&rows, min_points))? * (1.0 + ROUNDING);
    let wide: Array2<f64> = super::widened(&rows).ok()?;
    let found: Array1<Option<usize>> =
        Dbscan::params::<f64>(min_points).tolerance(eps).transform(&wide).ok()?;
    // Without a limit of distance every row is reached from another one, so none is undefined.
    let plot: OpticsAnalysis<f64> =
        Optics::params::<f64>(min_points).transform(wide.view()).ok()?;
    // The first row is reached from nowhere; what stands there is its own core distance.
    let mut reached: Vec<f64> =
        plot.iter().skip(1).filter_map(|row| *row.reachability_distance()).collect();
    let n_valleys = valleys(&reached, min_points.max(n_rows / SMALLEST_VALLEY));
    reached.sort_unstable_by(f64::total_cmp);

    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    found.iter().flatten().for_each(|&cluster| *sizes.entry(cluster).or_default() += 1);
    let n_clustered: usize = sizes.values().sum();
    let largest = sizes.values().max().copied().unwrap_or(0);
    let both: Vec<(usize, usize)> = found
        .iter()
        .zip(&chosen)
        .filter_map(|(cluster, &row)| cluster.map(|cluster| (cluster, labels[row])))
        .collect();
    Some(DensityDiagnostics {
        n_rows,
        min_points,
        eps,
        n_clusters: sizes.len(),
        largest_share: largest as f64 / n_rows as f64,
        noise_share: (n_rows - n_clustered) as f64 / n_rows as f64,
        adjusted_rand: if sizes.len() < 2 { None } else { adjusted_rand(&both) },
        reachability: REACHABILITY_QUANTILES.map(|q| quantile(&reached, q)),
        n_valleys,
    })
}

/// How well two partitions of the same things agree beyond chance (Hubert & Arabie 1985): 1 where
/// they are equal but for names, about 0 where they are independent. A pair per thing. `None` under
/// two things.
pub fn adjusted_rand(pairs: &[(usize, usize)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let all = n * (n - 1.0) / 2.0;
    if all <= 0.0 {
        return None;
    }
    let both = pairs_together(pairs.iter().copied());
    let first = pairs_together(pairs.iter().map(|pair| pair.0));
    let second = pairs_together(pairs.iter().map(|pair| pair.1));
    let expected = first * second / all;
    let most = (first + second) / 2.0;
    // Both lump everything together, or both set everything apart.
    if most <= expected {
        return Some(1.0);
    }
    Some((both - expected) / (most - expected))
}

/// Pairs of things that are in the same group.
fn pairs_together<K: Ord>(groups: impl Iterator<Item = K>) -> f64 {
    let mut sizes: BTreeMap<K, f64> = BTreeMap::new();
    groups.for_each(|group| *sizes.entry(group).or_default() += 1.0);
    sizes.values().map(|size| size * (size - 1.0) / 2.0).sum()
}

/// The distance of each row to the `min_points`-th nearest, itself the first, in ascending order.
fn core_distances(rows: &ScaledMatrix, min_points: usize) -> Vec<f64> {
    let mut squared: Vec<f64> = Vec::with_capacity(rows.n_rows());
    let mut distances = Vec::with_capacity(rows.n_rows());
    for row in rows.rows() {
        squared.clear();
        squared.extend(rows.rows().map(|other| squared_distance(row, other)));
        let (_, farthest, _) = squared.select_nth_unstable_by(min_points - 1, f64::total_cmp);
        distances.push(farthest.sqrt());
    }
    distances.sort_unstable_by(f64::total_cmp);
    distances
}

/// Of two rows.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |(a, b): (&f32, &f32)| {
        let difference = f64::from(*a) - f64::from(*b);
        difference * difference
    };
    a.iter().zip(b).map(square).sum()
}

/// Where the ascending distances begin to rise steeply: the one farthest below the line from the
/// median to the largest. Zeros are left out, because rows that coincide are cores at any radius.
/// Only the upper half is looked at: where groups differ in density the steepest rise can be that
/// between groups, and the sparser ones would all be noise. `None` where all are zero.
fn knee(ascending: &[f64]) -> Option<f64> {
    let positive = &ascending[ascending.partition_point(|&distance| distance <= 0.0)..];
    let upper = &positive[positive.len() / 2..];
    let (first, last) = (*upper.first()?, *upper.last()?);
    if last <= first {
        return Some(last);
    }
    let steps = (upper.len() - 1) as f64;
    let mut knee = (0.0, first);
    for (rank, &distance) in upper.iter().enumerate() {
        let below = rank as f64 / steps - (distance - first) / (last - first);
        if below > knee.0 {
            knee = (below, distance);
        }
    }
    Some(knee.1)
}

/// Valleys of a reachability plot that hold at least `smallest` rows each. The highest wall that
/// is significant parts the plot, and so on within both sides (after Sander et al. 2003).
fn valleys(plot: &[f64], smallest: usize) -> usize {
    let mut sum_before = Vec::with_capacity(plot.len() + 1);
    let mut sum: f64 = 0.0;
    sum_before.push(sum);
    for height in plot {
        sum += height;
        sum_before.push(sum);
    }
    let mut walls: Vec<usize> = (smallest..plot.len().saturating_sub(smallest)).collect();
    walls.sort_unstable_by(|&a, &b| plot[b].total_cmp(&plot[a]).then(a.cmp(&b)));
    for wall in walls {
        let left = sum_before[wall] / wall as f64;
        let right = (sum - sum_before[wall + 1]) / (plot.len() - wall - 1) as f64;
        if plot[wall] > 0.0 && left.max(right) <= SIGNIFICANT * plot[wall] {
            return valleys(&plot[..wall], smallest) + valleys(&plot[wall + 1..], smallest);
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    const N_FEATURES: usize = 5;
    const IN_BLOB: usize = 300;
    const NOISE: usize = 40;

    /// Two round blobs and uniform noise around them; the noise has the label of the first blob.
    fn blobs_and_noise() -> (ScaledMatrix, Vec<usize>) {
        let mut values = Vec::new();
        let mut labels = Vec::new();
        for row in 0..2 * IN_BLOB + NOISE {
            let blob = usize::from((IN_BLOB..2 * IN_BLOB).contains(&row));
            for feature in 0..N_FEATURES {
                let first = 4 * (row * N_FEATURES + feature) as u64;
                let uniform = |index: u64| Seed(1).uniform(first + index);
                values.push(if row < 2 * IN_BLOB {
                    ((0..4).map(uniform).sum::<f64>() - 2.0 + 6.0 * blob as f64) as f32
                } else {
                    (14.0 * uniform(0) - 4.0) as f32
                });
            }
            labels.push(blob);
        }
        (ScaledMatrix::new(N_FEATURES, values), labels)
    }

    #[test]
    fn two_blobs_in_noise_are_found() {
        let (rows, labels) = blobs_and_noise();
        let found = density(&rows, &labels, 2_000, Seed(7)).unwrap();
        assert_eq!((found.n_rows, found.min_points), (640, 10));
        assert_eq!((found.n_clusters, found.n_valleys), (2, 2), "{found:?}");
        assert!((0.04..0.08).contains(&found.noise_share), "{found:?}");
        assert!((0.4..0.5).contains(&found.largest_share), "{found:?}");
        assert!(found.adjusted_rand.unwrap() > 0.95, "{found:?}");
        assert!(found.reachability.is_sorted() && found.reachability[0] > 0.0, "{found:?}");
    }

    #[test]
    fn a_sample_is_the_same_for_the_same_seed() {
        let (rows, labels) = blobs_and_noise();
        let found = density(&rows, &labels, 300, Seed(7)).unwrap();
        assert_eq!(found.n_rows, 300);
        assert_eq!(Some(found), density(&rows, &labels, 300, Seed(7)));
    }

    #[test]
    fn wrong_labels_do_not_agree() {
        let (rows, labels) = blobs_and_noise();
        let other: Vec<usize> = (0..labels.len()).map(|row| row % 2).collect();
        let found = density(&rows, &other, 2_000, Seed(7)).unwrap();
        assert!(found.adjusted_rand.unwrap().abs() < 0.05, "{found:?}");
    }

    #[test]
    fn one_blob_agrees_with_nothing() {
        let (rows, labels) = blobs_and_noise();
        let blob: Vec<usize> = (0..IN_BLOB).collect();
        let found = density(&rows.select(&blob), &labels, 2_000, Seed(7)).unwrap();
        assert_eq!((found.n_clusters, found.n_valleys), (1, 1), "{found:?}");
        assert_eq!(found.adjusted_rand, None);
    }

    #[test]
    fn too_few_rows_and_rows_without_a_scale_have_no_diagnostics() {
        let few = ScaledMatrix::new(1, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(density(&few, &[0; 7], 2_000, Seed(1)), None);
        let same = ScaledMatrix::new(2, vec![1.0; 60]);
        assert_eq!(density(&same, &[0; 30], 2_000, Seed(1)), None);
        let broken = ScaledMatrix::new(1, vec![f32::NAN; 30]);
        assert_eq!(density(&broken, &[0; 30], 2_000, Seed(1)), None);
    }

    #[test]
    fn rows_that_coincide_are_clusters() {
        // Two points of 20 rows each, and ten rows on a line away from them.
        let mut values: Vec<f32> = [[0.0_f32, 0.0]; 20].concat();
        values.extend([[9.0_f32, 9.0]; 20].concat());
        values.extend((0..10_u8).flat_map(|step| [20.0 + f32::from(step), 0.0]));
        let labels: Vec<usize> = (0..50).map(|row: usize| (row / 20).min(1)).collect();
        let found = density(&ScaledMatrix::new(2, values), &labels, 2_000, Seed(1)).unwrap();
        // The line's inner rows have two neighbours on either side within 2.
        assert_eq!((found.n_clusters, found.noise_share), (3, 0.0), "{found:?}");
    }

    #[test]
    fn the_adjusted_rand_index_is_that_of_the_paper() {
        let index = |a: &[usize], b: &[usize]| {
            adjusted_rand(&a.iter().copied().zip(b.iter().copied()).collect::<Vec<_>>())
        };
        assert_eq!(index(&[0, 0, 1, 1], &[0, 0, 1, 1]), Some(1.0));
        assert_eq!(index(&[0, 0, 1, 1], &[5, 5, 2, 2]), Some(1.0));
        assert_eq!(index(&[0, 0, 0, 0], &[0, 1, 2, 3]), Some(0.0));
        assert_eq!(index(&[3, 3, 3], &[0, 0, 0]), Some(1.0));
        // 1 pair in both, 2 and 1 in each, of 6: (1 - 1/3) / (3/2 - 1/3).
        let known = index(&[0, 0, 1, 1], &[0, 0, 1, 2]).unwrap();
        assert!((known - 4.0 / 7.0).abs() < 1e-12, "{known}");
        // No pair in both, 2 and 2 in each, of 6: (0 - 2/3) / (2 - 2/3).
        let crossed = index(&[0, 0, 1, 1], &[0, 1, 0, 1]).unwrap();
        assert!((crossed + 0.5).abs() < 1e-12, "{crossed}");
        let (halves, parity): (Vec<usize>, Vec<usize>) =
            (0..400).map(|row: usize| (row / 200, row % 2)).unzip();
        assert!(index(&halves, &parity).unwrap().abs() < 0.01);
        assert_eq!(index(&[0], &[0]), None);
    }

    #[test]
    fn the_knee_is_where_distances_begin_to_rise() {
        assert_eq!(knee(&[0.0, 0.0, 0.0]), None);
        assert_eq!(knee(&[]), None);
        assert_eq!(knee(&[2.0, 2.0, 2.0]), Some(2.0));
        let bent = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 4.0, 9.0];
        assert_eq!(knee(&bent), Some(1.1));
    }

    #[test]
    fn walls_part_valleys() {
        let walled = [1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0];
        assert_eq!(valleys(&walled, 3), 2);
        // A valley too small, a wall too low, and none at all.
        assert_eq!(valleys(&walled, 4), 1);
        assert_eq!(valleys(&[1.0, 1.0, 1.0, 1.2, 1.0, 1.0, 1.0], 3), 1);
        assert_eq!(valleys(&[0.0; 9], 2), 1);
        assert_eq!(valleys(&[], 2), 1);
    }
}
