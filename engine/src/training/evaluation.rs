//! What training reports about the heads, the baselines and the clusters.

use super::Clock;
use super::coverage::IntervalCoverage;
use super::metrics::{
    auc, brier, ece, log_loss, mean_absolute_error, normalised_gini, total_ratio,
};
use super::tracking::PurchaseTracking;
use crate::matrix::{FeatureMatrix, quantile};
use crate::models::density::DensityDiagnostics;
use crate::models::selection::Candidate;
use crate::models::{Diagnostics, FitError};
use crate::version::Outlook;
use serde::{Deserialize, Serialize};

/// The evaluation of one training run; written as metrics.json, outside the version's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub clock: Clock,
    /// Whether probabilities and values were stretched from a shorter window to the horizon. The
    /// metrics below are always of the window.
    pub bridged: bool,
    /// Models of purchases, before any calibration.
    #[serde(default)]
    pub purchases: Vec<Trial<PurchaseMetrics>>,
    /// What the model of purchases expected of the log; absent where none was chosen.
    #[serde(default)]
    pub tracking: Option<PurchaseTracking>,
    pub churn: Vec<Trial<ChurnMetrics>>,
    pub value: Vec<Trial<ValueMetrics>>,
    /// Of the served intervals at c3; absent where labels have no dates.
    #[serde(default)]
    pub interval_coverage: Option<IntervalCoverage>,
    pub segments: SegmentMetrics,
    /// Every feature at the as-of, before transforms.
    #[serde(default)]
    pub features: Vec<FeatureSummary>,
    /// What a reader should know before trusting the numbers.
    pub notes: Vec<String>,
}

/// One model of a head, fitted at c1, with metrics `M`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial<M> {
    pub family: String,
    pub chosen: bool,
    /// At c2, where the choice was made and the calibration learned.
    pub calibration: Option<M>,
    /// At c3, measured once.
    pub holdout: Option<M>,
    pub diagnostics: Option<Diagnostics>,
    /// Why there is no model.
    pub failure: Option<String>,
}

/// Metrics of calibrated probabilities of no purchase within the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChurnMetrics {
    pub n_customers: usize,
    /// Share that bought nothing.
    pub rate: f64,
    pub auc: Option<f64>,
    pub brier: f64,
    pub log_loss: f64,
    pub ece: f64,
}

/// Metrics of what a model of purchases says of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PurchaseMetrics {
    pub n_customers: usize,
    /// Days with a purchase.
    pub mean_actual: f64,
    pub mean_predicted: f64,
    pub mae: f64,
    pub total_ratio: Option<f64>,
    /// Of P(no purchase).
    pub auc: Option<f64>,
    pub brier: f64,
    pub ece: f64,
    /// The share of customers whose spend the interval of posterior draws is meant to hold, and the
    /// share of those asked whose spend it held: more, where most spend nothing, because an interval
    /// cannot hold half of those.
    pub interval_level: f64,
    pub interval_coverage: f64,
}

/// Metrics of expected spend within the window, in major currency units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueMetrics {
    pub n_customers: usize,
    pub mean_actual: f64,
    pub mean_predicted: f64,
    pub mae: f64,
    pub normalised_gini: Option<f64>,
    pub total_ratio: Option<f64>,
    /// The share of customers that the interval is meant to hold, and the share that it held.
    pub interval_level: f64,
    pub interval_coverage: f64,
}

/// The clusters at the as-of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SegmentMetrics {
    pub k: usize,
    pub sizes: Vec<u64>,
    pub table: Vec<Candidate>,
    /// Whether the rows that clusters were learned from have clusters of their own; absent for tiers,
    /// and where nothing can be said.
    #[serde(default)]
    pub density: Option<DensityDiagnostics>,
}

/// How one feature was distributed over the training customers at the as-of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSummary {
    pub name: String,
    /// Share of the customers for whom it is undefined, in `[0, 1]`.
    pub undefined: f64,
    /// Quantiles 0, 0.01 .. 1 of the defined values; empty without any.
    pub quantiles: Vec<f64>,
}

impl FeatureSummary {
    /// Summarises every column of raw rows.
    pub fn all(matrix: &FeatureMatrix) -> Vec<FeatureSummary> {
        let column = |(index, name): (usize, &String)| {
            let mut defined: Vec<f64> =
                matrix.rows().map(|row| row[index]).filter(|value| !value.is_nan()).collect();
            defined.sort_unstable_by(f64::total_cmp);
            let n_rows = matrix.n_rows().max(1) as f64;
            let grid = (0..=100).map(|percent| quantile(&defined, f64::from(percent) / 100.0));
            FeatureSummary {
                name: name.clone(),
                undefined: 1.0 - defined.len() as f64 / n_rows,
                quantiles: if defined.is_empty() { Vec::new() } else { grid.collect() },
            }
        };
        matrix.names().iter().enumerate().map(column).collect()
    }

    /// How far two distributions lie apart: the largest difference of their cumulative shares
    /// (Kolmogorov & Smirnov), the undefined counted as a value of their own below all others, in
    /// `[0, 1]`, to about a hundredth.
    pub fn distance(&self, other: &FeatureSummary) -> f64 {
        let below = |summary: &FeatureSummary, value: f64| {
            let grid = &summary.quantiles;
            let seen = grid.partition_point(|&quantile| quantile <= value);
            // Between the points of the grid nothing is known; the share of points is its estimate.
            let share = if grid.is_empty() { 1.0 } else { seen as f64 / grid.len() as f64 };
            summary.undefined + (1.0 - summary.undefined) * share
        };
        let at = self.quantiles.iter().chain(&other.quantiles);
        let largest = at.map(|&value| (below(self, value) - below(other, value)).abs());
        largest.fold((self.undefined - other.undefined).abs(), f64::max)
    }
}

/// What became of a model: its metrics at c2 and at c3, and how its fit went.
pub(super) type Outcome<M> = (M, M, Option<Diagnostics>);

impl<M> Trial<M> {
    pub(super) fn of(
        family: &str,
        chosen: bool,
        outcome: Result<Outcome<M>, FitError>,
    ) -> Trial<M> {
        let (calibration, holdout, diagnostics, failure) = match outcome {
            Ok((calibration, holdout, diagnostics)) => {
                (Some(calibration), Some(holdout), diagnostics, None)
            }
            Err(error) => (None, None, None, Some(error.to_string())),
        };
        Trial { family: family.to_owned(), chosen, calibration, holdout, diagnostics, failure }
    }
}

impl ChurnMetrics {
    pub(super) fn of(churned: &[bool], probabilities: &[f64]) -> ChurnMetrics {
        ChurnMetrics {
            n_customers: churned.len(),
            rate: churned.iter().filter(|&&churned| churned).count() as f64 / churned.len() as f64,
            auc: auc(churned, probabilities),
            brier: brier(churned, probabilities),
            log_loss: log_loss(churned, probabilities),
            ece: ece(churned, probabilities),
        }
    }
}

impl PurchaseMetrics {
    pub(super) fn of(
        actual: &[u32],
        outlooks: &[Outlook],
        interval_level: f64,
        interval_coverage: f64,
    ) -> PurchaseMetrics {
        let n = actual.len() as f64;
        let silent: Vec<bool> = actual.iter().map(|&purchases| purchases == 0).collect();
        let actual: Vec<f64> = actual.iter().map(|&purchases| f64::from(purchases)).collect();
        let predicted: Vec<f64> = outlooks.iter().map(|o| o.expected_purchases).collect();
        let probabilities: Vec<f64> = outlooks.iter().map(|o| o.p_no_purchase).collect();
        PurchaseMetrics {
            n_customers: actual.len(),
            mean_actual: actual.iter().sum::<f64>() / n,
            mean_predicted: predicted.iter().sum::<f64>() / n,
            mae: mean_absolute_error(&actual, &predicted),
            total_ratio: total_ratio(&actual, &predicted),
            auc: auc(&silent, &probabilities),
            brier: brier(&silent, &probabilities),
            ece: ece(&silent, &probabilities),
            interval_level,
            interval_coverage,
        }
    }
}

impl ValueMetrics {
    pub(super) fn of(
        actual: &[f64],
        predicted: &[f64],
        interval_level: f64,
        held: &[bool],
    ) -> ValueMetrics {
        let n = actual.len() as f64;
        let held = held.iter().filter(|&&held| held).count();
        ValueMetrics {
            n_customers: actual.len(),
            mean_actual: actual.iter().sum::<f64>() / n,
            mean_predicted: predicted.iter().sum::<f64>() / n,
            mae: mean_absolute_error(actual, predicted),
            normalised_gini: normalised_gini(actual, predicted),
            total_ratio: total_ratio(actual, predicted),
            interval_level,
            interval_coverage: held as f64 / n,
        }
    }
}
