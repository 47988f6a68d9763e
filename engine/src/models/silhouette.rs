//! The silhouette (Rousseeuw 1987), on a sample of rows.

use super::density::squared_distance;
use crate::domain::Seed;
use crate::matrix::ScaledMatrix;
use rand::seq::index;

/// Mean silhouette, in `[-1, 1]`, of at most `sample` rows chosen by the seed
/// without replacement; 0 for a row alone in its cluster, as in scikit-learn. `None` where the
/// sample holds fewer than two clusters.
pub fn silhouette(rows: &ScaledMatrix, labels: &[usize], sample: usize, seed: Seed) -> Option<f64> {
    let n = rows.n_rows().min(sample);
    let mut chosen = index::sample(&mut seed.rng(), rows.n_rows(), n).into_vec();
    chosen.sort_unstable();
    let n_clusters = labels.iter().max()? + 1;
    let mut sizes = vec![0u32; n_clusters];
    chosen.iter().for_each(|&row| sizes[labels[row]] += 1);
    if sizes.iter().filter(|&&size| size > 0).count() < 2 {
        return None;
    }
    let mut sum = 0.0;
    let mut distances = vec![0.0; n_clusters];
    for &row in &chosen {
        distances.fill(0.0);
        for &other in &chosen {
            let squared = squared_distance(rows.row(row), rows.row(other));
            distances[labels[other]] += squared.sqrt();
        }
        let own = labels[row];
        if sizes[own] < 2 {
            continue;
        }
        let within = distances[own] / f64::from(sizes[own] - 1);
        let nearest = (0..n_clusters)
            .filter(|&cluster| cluster != own && sizes[cluster] > 0)
            .map(|cluster| distances[cluster] / f64::from(sizes[cluster]))
            .fold(f64::INFINITY, f64::min);
        let widest = within.max(nearest);
        if widest > 0.0 {
            sum += (nearest - within) / widest;
        }
    }
    Some(sum / n as f64)
}
