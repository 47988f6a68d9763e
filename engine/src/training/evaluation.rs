//! What training reports about the heads, the baselines and the clusters.

use super::Clock;
use super::metrics::{
    auc, brier, ece, log_loss, mean_absolute_error, normalised_gini, total_ratio,
};
use crate::models::selection::Candidate;
use crate::models::value::IntervalMap;
use crate::models::{Diagnostics, FitError};
use serde::{Deserialize, Serialize};

/// The evaluation of one training run; written as metrics.json, outside the version's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub clock: Clock,
    /// Whether probabilities and values were stretched from a shorter window to the horizon. The
    /// metrics below are always of the window.
    pub bridged: bool,
    pub churn: Vec<Trial<ChurnMetrics>>,
    pub value: Vec<Trial<ValueMetrics>>,
    pub segments: SegmentMetrics,
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
    /// Rows that the fit saw: all, or a sample of a large log.
    pub n_rows_fitted: usize,
    pub table: Vec<Candidate>,
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

impl ValueMetrics {
    pub(super) fn of(actual: &[f64], predicted: &[f64], interval: &IntervalMap) -> ValueMetrics {
        let n = actual.len() as f64;
        let held = actual
            .iter()
            .zip(predicted)
            .filter(|&(actual, predicted)| {
                let (low, high) = interval.bounds(*predicted);
                low <= *actual && *actual <= high
            })
            .count();
        ValueMetrics {
            n_customers: actual.len(),
            mean_actual: actual.iter().sum::<f64>() / n,
            mean_predicted: predicted.iter().sum::<f64>() / n,
            mae: mean_absolute_error(actual, predicted),
            normalised_gini: normalised_gini(actual, predicted),
            total_ratio: total_ratio(actual, predicted),
            interval_level: interval.level,
            interval_coverage: held as f64 / n,
        }
    }
}
