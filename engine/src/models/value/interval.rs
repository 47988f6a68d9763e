//! Intervals for a value, learned from what happened to customers with alike predictions.

use crate::matrix::quantile;
use serde::{Deserialize, Serialize};

/// Bins of equal count; fewer where a bin would hold fewer than [`LEAST_IN_BIN`] customers.
const MOST_BINS: usize = 10;
const LEAST_IN_BIN: usize = 30;

/// Per bin of the prediction, the quantiles of actual spend as multiples of the bin's mean
/// prediction. Spend is mostly zero and heavy-tailed, so nothing is assumed of its shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalMap {
    /// The share of customers that the interval is meant to hold.
    pub level: f64,
    pub bins: Vec<IntervalBin>,
}

/// One bin, from the previous bin's `upto` (exclusive) to its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalBin {
    /// The largest prediction of the bin; the last bin also takes everything above.
    pub upto: f64,
    pub low: f64,
    pub high: f64,
}

impl IntervalMap {
    /// Learns the map from predicted and actual spend of the same customers.
    pub fn fit(level: f64, predicted: &[f64], actual: &[f64]) -> IntervalMap {
        let mut order: Vec<usize> = (0..predicted.len()).collect();
        order.sort_by(|&a, &b| predicted[a].total_cmp(&predicted[b]));
        let n_bins = (order.len() / LEAST_IN_BIN).clamp(1, MOST_BINS);
        let tail = (1.0 - level) / 2.0;
        let mut bins: Vec<IntervalBin> = Vec::new();
        let mut start = 0;
        for bin in 1..=n_bins {
            let mut end = (bin * order.len() / n_bins).max(start);
            // Customers with the same prediction share a bin, whatever their order.
            while end > start
                && end < order.len()
                && predicted[order[end]] == predicted[order[end - 1]]
            {
                end += 1;
            }
            let members = &order[start..end];
            start = end;
            let Some(&last) = members.last() else { continue };
            let mean =
                members.iter().map(|&row| predicted[row]).sum::<f64>() / members.len() as f64;
            let mut outcomes: Vec<f64> = members.iter().map(|&row| actual[row]).collect();
            outcomes.sort_unstable_by(f64::total_cmp);
            let multiple = |q| if mean > 0.0 { quantile(&outcomes, q) / mean } else { 0.0 };
            bins.push(IntervalBin {
                upto: predicted[last],
                low: multiple(tail),
                high: multiple(1.0 - tail),
            });
        }
        IntervalMap { level, bins }
    }

    /// Bounds around a prediction; they always hold the prediction itself, which can lie above the
    /// upper quantile where most customers spend nothing.
    pub fn bounds(&self, predicted: f64) -> (f64, f64) {
        let bin = self
            .bins
            .partition_point(|bin| bin.upto < predicted)
            .min(self.bins.len().saturating_sub(1));
        match self.bins.get(bin) {
            Some(bin) => {
                ((predicted * bin.low).min(predicted), (predicted * bin.high).max(predicted))
            }
            None => (predicted, predicted),
        }
    }
}
