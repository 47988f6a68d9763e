//! The segment head: clusters of everybody at the as-of, or tiers where there are too few.

use super::TrainError;
use super::evaluation::SegmentMetrics;
use super::identity::Old;
use super::settings::TrainingSettings;
use crate::domain::Lifetime;
use crate::features::Encoder;
use crate::matrix::{CHUNK_ROWS, FeatureMatrix, ScaledMatrix, quantile};
use crate::models::density::{DensityDiagnostics, density};
use crate::models::selection::Start;
use crate::models::{FitError, SegmentModel, Segmenter};
use crate::segments::{Bands, Tier};
use crate::version::{Clusters, NoiseLevel, SegmentBy};
use rayon::prelude::*;

/// Rows that the density diagnostics look at; their cost grows with the square.
const DENSITY_SAMPLE: usize = 2_000;

/// What segments are made by, and where each customer belongs.
pub struct Segmented {
    pub by: SegmentBy,
    pub n_clusters: usize,
    /// One per customer.
    pub labels: Vec<usize>,
    pub metrics: SegmentMetrics,
}

/// Tiers by the bands' thresholds.
pub fn tiers(bands: &Bands, lifetimes: &[Lifetime]) -> Segmented {
    let labels: Vec<usize> = lifetimes.iter().map(|life| bands.tier(life) as usize).collect();
    Segmented::new(SegmentBy::Tiers, Tier::ALL.len(), labels, Vec::new(), None)
}

/// Learns scales and clusters from raw rows, on the features that the settings name (all where they
/// name none), from the incumbent's segments where the settings ask for that and their number fits.
pub fn clusters(
    raw: &FeatureMatrix,
    settings: &TrainingSettings,
    old: Option<&Old<'_>>,
) -> Result<Segmented, TrainError> {
    let params = &settings.segmentation;
    if params.k_min > raw.n_rows() {
        return Err(TrainError::TooManyClusters { k: params.k_min, customers: raw.n_rows() });
    }
    let encoder = Encoder::fit(&settings.spec, &settings.segment_features, raw)?;
    let scaled = encoder.scaled(raw);
    let start = old
        .filter(|_| params.warm_start)
        .and_then(Old::start)
        .filter(|(k, _)| (params.k_min..=params.k_max).contains(k));
    let selected = match &start {
        Some((k, labels)) => params.select_from(&scaled, &Start { k: *k, labels }, settings.seed),
        None => params.select(&scaled, settings.seed),
    };
    let selected = selected.map_err(|error| match error {
        FitError::TooFewDistinctRows { got, need } => {
            TrainError::TooManyClusters { k: need, customers: got }
        }
        other => TrainError::Fit(other),
    })?;
    let (labels, densities) = assigned(&selected.model, &scaled);
    let density = density(&scaled, &labels, DENSITY_SAMPLE, settings.seed.derive("density", 0));
    let n_clusters = selected.model.n_clusters();
    let table = selected.table.clone();
    let by = SegmentBy::Clusters(Box::new(Clusters {
        encoder,
        model: selected.model,
        diagnostics: selected.diagnostics,
        selection: selected.table,
        noise: densities.map(|densities| noise_level(densities, settings.noise_quantile)),
    }));
    Ok(Segmented::new(by, n_clusters, labels, table, density))
}

/// The cluster of each row, `(n_rows,)`, and its log-density where the family has one.
fn assigned(model: &SegmentModel, rows: &ScaledMatrix) -> (Vec<usize>, Option<Vec<f64>>) {
    let d = rows.n_features();
    // Whole memberships of everybody would be larger than the rows.
    let parts: Vec<(Vec<usize>, Option<Vec<f64>>)> = rows
        .values()
        .par_chunks(CHUNK_ROWS * d)
        .map(|rows| {
            let members = model.assign_rows(rows, d);
            let densities = members.iter().map(|membership| membership.log_density).collect();
            (members.iter().map(|membership| membership.cluster).collect(), densities)
        })
        .collect();
    let (labels, densities): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let densities: Option<Vec<Vec<f64>>> = densities.into_iter().collect();
    (labels.concat(), densities.map(|densities| densities.concat()))
}

/// The `q`-quantile of the customers' log-densities.
fn noise_level(mut densities: Vec<f64>, q: f64) -> NoiseLevel {
    densities.sort_unstable_by(f64::total_cmp);
    NoiseLevel { quantile: q, log_density: quantile(&densities, q) }
}

impl Segmented {
    fn new(
        by: SegmentBy,
        n_clusters: usize,
        labels: Vec<usize>,
        table: Vec<crate::models::selection::Candidate>,
        density: Option<DensityDiagnostics>,
    ) -> Segmented {
        let mut sizes = vec![0; n_clusters];
        labels.iter().for_each(|&cluster| sizes[cluster] += 1);
        let metrics = SegmentMetrics { k: n_clusters, sizes, table, density };
        Segmented { by, n_clusters, labels, metrics }
    }
}
