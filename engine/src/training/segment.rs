//! The segment head: clusters of everybody at the as-of.

use super::TrainError;
use super::evaluation::SegmentMetrics;
use crate::domain::Seed;
use crate::features::{Encoder, FeatureSpec};
use crate::matrix::{FeatureMatrix, ScaledMatrix};
use crate::models::selection::{SegmentationParams, Selected};
use crate::models::{FitError, Segmenter};
use rand::seq::index;

/// Rows that a clustering fit sees at most; beyond it the fit sees a seeded sample, and everybody
/// is assigned all the same.
const MOST_ROWS_FITTED: usize = 200_000;

/// Fitted clusters and where each customer belongs.
pub struct Clustered {
    pub encoder: Encoder,
    pub selected: Selected,
    /// One per customer.
    pub labels: Vec<usize>,
    pub metrics: SegmentMetrics,
}

/// Learns scales and clusters from raw rows, on the features named (all where none is named).
pub fn fit(
    raw: &FeatureMatrix,
    spec: &FeatureSpec,
    features: &[String],
    params: &SegmentationParams,
    seed: Seed,
) -> Result<Clustered, TrainError> {
    if params.k_min > raw.n_rows() {
        return Err(TrainError::TooManyClusters { k: params.k_min, customers: raw.n_rows() });
    }
    let encoder = Encoder::fit(spec, features, raw)?;
    let scaled = encoder.scaled(raw);
    let fitted = sample(&scaled, seed);
    let selected = params.select(&fitted, seed).map_err(|error| match error {
        FitError::TooFewDistinctRows { got, need } => {
            TrainError::TooManyClusters { k: need, customers: got }
        }
        other => TrainError::Fit(other),
    })?;
    let labels: Vec<usize> =
        selected.model.assign_all(&scaled).iter().map(|membership| membership.cluster).collect();
    let mut sizes = vec![0; selected.model.n_clusters()];
    labels.iter().for_each(|&cluster| sizes[cluster] += 1);
    let metrics = SegmentMetrics {
        k: selected.model.n_clusters(),
        sizes,
        n_rows_fitted: fitted.n_rows(),
        table: selected.table.clone(),
    };
    Ok(Clustered { encoder, selected, labels, metrics })
}

fn sample(scaled: &ScaledMatrix, seed: Seed) -> ScaledMatrix {
    if scaled.n_rows() <= MOST_ROWS_FITTED {
        return scaled.clone();
    }
    let mut rng = seed.derive("cluster sample", 0).rng();
    let mut rows = index::sample(&mut rng, scaled.n_rows(), MOST_ROWS_FITTED).into_vec();
    rows.sort_unstable();
    scaled.select(&rows)
}
